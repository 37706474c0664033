"""Tracks: who is who from frame to frame, and what becomes of an expression over time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convcut_trt.errors import InputError
from convcut_trt.track import UNKNOWN, Face, Tracker, Tracking, closeness

CLASSES = ("neutral", "happiness", "fear")
OFF = Tracking(time_constant=0, hysteresis=0, dwell=0, reject=0)
SECOND = 10**9
Scene = list[tuple[int, np.ndarray, np.ndarray]]


def rows(*shares: float) -> np.ndarray:
    """One face's probabilities of the last two classes; the first takes the rest."""
    return np.array([[1 - sum(shares), *shares]], np.float32)


def at(x: float, y: float = 100, side: float = 100) -> np.ndarray:
    return np.array([[x, y, side, side]], np.float64)


def update(tracker: Tracker, seconds: float, box: np.ndarray, raw: np.ndarray) -> Face:
    (face,) = tracker.update(round(seconds * SECOND), box, raw)
    return face


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Frames of up to five faces: many in the same few places, with equal boxes and ties, some anywhere."""
    scene: Scene = []
    timestamp = draw(st.integers(0, 2**60))
    side = st.sampled_from([60.0, 100.0]) | st.floats(1, 300)
    place = st.sampled_from([0.0, 30.0, 90.0]) | st.floats(-50, 640)
    for _ in range(draw(st.integers(1, 6))):
        timestamp += draw(st.integers(-SECOND // 2, SECOND))
        boxes = draw(st.lists(st.tuples(place, place, side, side), max_size=5))
        weights = draw(
            st.lists(
                st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
                min_size=len(boxes),
                max_size=len(boxes),
            )
        )
        raw = np.array(weights).reshape(-1, 3)
        raw /= raw.sum(axis=1, keepdims=True)
        scene.append(
            (timestamp, np.array(boxes, np.float64).reshape(-1, 4), raw.astype(np.float32))
        )
    return scene


@given(scenes())
def test_every_face_is_answered_and_no_two_of_a_frame_share_a_track(scene: Scene) -> None:
    tracker = Tracker(CLASSES)
    highest = 0
    for timestamp, boxes, raw in scene:
        faces = tracker.update(timestamp, boxes, raw)
        numbers = [face.track for face in faces]
        assert len(set(numbers)) == len(numbers)
        assert [face.box for face in faces] == [tuple(box) for box in boxes.tolist()]
        # New faces get the next numbers: none is given twice.
        new = sorted(number for number in numbers if number > highest)
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)


@given(scenes())
def test_smoothed_rows_are_probabilities_and_raw_ones_are_untouched(scene: Scene) -> None:
    tracker = Tracker(CLASSES)
    for timestamp, boxes, raw in scene:
        for face, row in zip(tracker.update(timestamp, boxes, raw), raw, strict=True):
            assert face.smoothed.sum() == pytest.approx(1, abs=1e-5)
            assert (face.smoothed >= 0).all()
            assert np.array_equal(face.raw, row)


@given(scenes())
def test_off_means_the_raw_answers_to_the_last_bit(scene: Scene) -> None:
    tracker = Tracker(CLASSES, OFF)
    for timestamp, boxes, raw in scene:
        for face, row in zip(tracker.update(timestamp, boxes, raw), raw, strict=True):
            assert face.smoothed.dtype == np.float32
            assert np.array_equal(face.smoothed, row)
            assert face.label == CLASSES[int(row.argmax())]
            assert face.confidence == pytest.approx(float(row.max()))


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(scene: Scene, random: object) -> None:
    straight, shuffled = Tracker(CLASSES), Tracker(CLASSES)
    for timestamp, boxes, raw in scene:
        order = list(range(len(boxes)))
        random.shuffle(order)  # type: ignore[attr-defined]
        seen = [
            sorted(
                (face.box, face.raw.tolist(), face.track, face.smoothed.tolist(), face.label)
                for face in tracker.update(timestamp, boxes[part], raw[part])
            )
            for tracker, part in ((straight, list(range(len(boxes)))), (shuffled, order))
        ]
        assert seen[0] == seen[1]


@given(
    st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.95, 1.05), st.sampled_from([15, 30, 60])
)
def test_a_face_that_moves_smoothly_keeps_its_track(
    across: float, down: float, growth: float, rate: int
) -> None:
    tracker = Tracker(CLASSES)
    box = np.array([[300.0, 200.0, 80.0, 90.0]])
    # Another one, which comes and goes elsewhere.
    other = np.array([[-2000.0, 200.0, 80.0, 80.0]])
    for frame in range(20):
        boxes = np.concatenate([other, box]) if frame % 3 == 1 else box
        faces = tracker.update(
            frame * SECOND // rate, boxes, rows(0.2, 0.2).repeat(len(boxes), axis=0)
        )
        assert faces[-1].track == 1
        side = min(box[0, 2:])
        # Less than half a side in all: the limit of ``distance``.
        box = box + [[across * side * 0.8, down * side * 0.8, 0, 0]]
        box[0, 2:] *= growth


def test_crossing_faces_keep_their_tracks_while_they_are_apart() -> None:
    """They pass each other 30 pixels apart, 10 pixels a frame each: the own last place is always the nearer one."""
    tracker = Tracker(CLASSES)
    for frame in range(40):
        boxes = np.concatenate([at(100 + 10 * frame), at(500 - 10 * frame, y=130)])
        faces = tracker.update(frame * SECOND // 30, boxes, rows(0.2, 0.2).repeat(2, axis=0))
        assert [face.track for face in faces] == [1, 2]


def test_faces_that_meet_in_one_place_stay_two_tracks() -> None:
    """Which is which afterwards is open; that there are two, and no third one, is not."""
    tracker = Tracker(CLASSES)
    for frame in range(41):
        boxes = np.concatenate([at(100 + 10 * frame), at(500 - 10 * frame)])
        faces = tracker.update(frame * SECOND // 30, boxes, rows(0.2, 0.2).repeat(2, axis=0))
        assert {face.track for face in faces} == {1, 2}


def test_the_nearest_face_takes_the_track_not_the_first() -> None:
    tracker = Tracker(CLASSES)
    update(tracker, 0, at(100), rows(0.1, 0.1))
    boxes = np.concatenate([at(140), at(102)])
    faces = tracker.update(SECOND // 30, boxes, rows(0.1, 0.1).repeat(2, axis=0))
    assert [face.track for face in faces] == [2, 1]


@pytest.mark.parametrize(("pause", "same"), [(0.9, True), (1.1, False)])
@pytest.mark.parametrize("empty_frames", [0, 5])
def test_a_face_that_was_gone_for_longer_than_the_gap_is_a_new_one(
    pause: float, same: bool, empty_frames: int
) -> None:
    tracker = Tracker(CLASSES, Tracking(gap=1))
    update(tracker, 10, at(100), rows(0.9, 0.05))
    for frame in range(empty_frames):
        tracker.update(
            round((10 + 0.1 * frame) * SECOND), np.empty((0, 4)), rows()[:0, :1].repeat(3, 1)
        )
    face = update(tracker, 10 + pause, at(101), rows(0.05, 0.9))
    assert (face.track == 1) is same
    # Reset on loss: nothing of the old expression is left.
    assert np.array_equal(face.smoothed, face.raw) is not same


@given(st.integers(1, 60))
def test_a_step_is_at_63_percent_after_one_time_constant_at_any_frame_rate(frames: int) -> None:
    tracker = Tracker(CLASSES, Tracking(time_constant=0.4))
    update(tracker, 5, at(100), rows(0, 0))
    for frame in range(1, frames + 1):
        face = update(tracker, 5 + 0.4 * frame / frames, at(100), rows(1, 0))
    assert face.smoothed[1] == pytest.approx(1 - np.exp(-1), abs=1e-4)
    assert np.array_equal(face.raw, rows(1, 0)[0])


def test_hysteresis_keeps_a_label_until_another_leads_clearly() -> None:
    tracker = Tracker(CLASSES, replace(OFF, hysteresis=0.2))
    labels = [
        update(tracker, frame / 30, at(100), rows(share, 0)).label
        for frame, share in enumerate((0.4, 0.55, 0.45, 0.62, 0.45, 0.39))
    ]
    assert labels == ["neutral", "neutral", "neutral", "happiness", "happiness", "neutral"]


def test_dwell_keeps_a_label_for_its_time() -> None:
    tracker = Tracker(CLASSES, replace(OFF, dwell=0.5))
    labels = [
        update(tracker, seconds, at(100), rows(share, 0)).label
        for seconds, share in ((0, 0), (0.1, 1), (0.49, 1), (0.5, 1), (0.6, 0), (0.9, 0), (1.0, 0))
    ]
    assert labels == ["neutral"] * 3 + ["happiness"] * 3 + ["neutral"]


@pytest.mark.parametrize(
    ("again", "labels"),
    [
        (
            0.65,
            ["happiness", UNKNOWN, UNKNOWN, "happiness"],
        ),  # above it by less than the hysteresis
        (0.71, ["happiness", UNKNOWN, "happiness", "happiness"]),
    ],
)
def test_below_the_threshold_the_label_is_unknown_at_once_and_dwell_holds_it_there(
    again: float, labels: list[str]
) -> None:
    tracker = Tracker(CLASSES, replace(OFF, reject=0.6, dwell=0.5, hysteresis=0.1))
    faces = [
        update(tracker, seconds, at(100), rows(share, 0.0))
        for seconds, share in ((0, 0.9), (0.1, 0.55), (0.2, again), (0.6, again))
    ]
    assert [face.label for face in faces] == labels
    assert faces[1].confidence == pytest.approx(0.55)


@given(scenes(), st.floats(0, 1))
def test_no_label_is_below_the_threshold(scene: Scene, reject: float) -> None:
    tracker = Tracker(CLASSES, Tracking(reject=reject))
    for timestamp, boxes, raw in scene:
        for face in tracker.update(timestamp, boxes, raw):
            assert face.label == UNKNOWN or face.confidence >= reject


def test_a_clock_that_jumps_back_neither_loses_a_face_nor_keeps_one_for_ever() -> None:
    tracker = Tracker(CLASSES, Tracking(gap=1))
    assert update(tracker, 1000, at(100), rows(0.9, 0)).track == 1
    assert update(tracker, 3, at(100), rows(0, 0.9)).track == 1
    assert update(tracker, 3.1, at(100), rows(0, 0.9)).track == 1
    empty = np.empty((0, 4)), np.empty((0, 3), np.float32)
    tracker.update(round(4.3 * SECOND), *empty)
    assert update(tracker, 4.4, at(100), rows(0.9, 0)).track == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"time_constant": -1},
        {"gap": float("nan")},
        {"distance": float("inf")},
        {"dwell": -0.1},
        {"overlap": 1.5},
        {"reject": 2},
        {"hysteresis": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Tracking(**bad)


@pytest.mark.parametrize(
    ("boxes", "raw"),
    [
        (np.zeros((1, 5)), rows(0.1, 0.1)),
        (np.zeros(4), rows(0.1, 0.1)),
        (np.zeros((2, 4)), rows(0.1, 0.1)),
        (np.zeros((1, 4)), rows(0.1, 0.1)[:, :2]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(boxes: np.ndarray, raw: np.ndarray) -> None:
    with pytest.raises(InputError):
        Tracker(CLASSES).update(0, boxes, raw)


def test_closeness_of_boxes() -> None:
    box = (0.0, 100.0, 100.0, 100.0)
    assert closeness(box, box) == (1, 0)
    assert closeness(box, (50, 100, 100, 100)) == pytest.approx((1 / 3, 0.5))
    assert closeness(box, (300, 100, 300, 300)) == pytest.approx((0, np.hypot(400, 100) / 200))


def test_boxes_of_next_to_no_size_are_followed_too() -> None:
    tracker = Tracker(CLASSES)
    for frame in range(3):
        assert update(tracker, frame / 30, at(5, 5, side=1e-200), rows(0.1, 0.1)).track == 1
