"""Annotated pictures: what a viewer sees of a face's answer, whatever the picture's size."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.draw import Overlay
from convcut_trt.track import UNKNOWN, Box, Face

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"
PANEL = 290
Pixels = NDArray[np.uint8]


def face(
    number: int = 1,
    box: Box = (200, 100, 150, 150),
    share: float = 0.9,
    label: str = "happiness",
    classes: tuple[str, ...] = CLASSES,
) -> Face:
    shares = np.full(len(classes), (1 - share) / (len(classes) - 1), np.float32)
    shares[1] = share
    return Face(number, box, shares[::-1].copy(), shares, label, share)


def grey(width: int = 640, height: int = 480) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


def draw(faces: list[Face], picture: Pixels | None = None) -> Pixels:
    picture = grey() if picture is None else picture
    return Overlay(CLASSES, picture.shape[1], picture.shape[0]).draw(picture, faces)


def coloured(pixels: Pixels) -> NDArray[np.bool_]:
    """Where something is drawn in a face's own colour: ground, text and unknown faces are nearly grey."""
    spread: NDArray[np.bool_] = np.ptp(pixels.astype(int), axis=2) > 60
    return spread


def colours(pixels: Pixels) -> set[tuple[int, ...]]:
    found, counts = np.unique(pixels[coloured(pixels)], axis=0, return_counts=True)
    return {tuple(row) for row, count in zip(found.tolist(), counts, strict=True) if count > 100}


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [
        (640, 480, (640, 480)),
        (320, 256, (600, 480)),
        (48, 48, (480, 480)),
        (641, 481, (641, 481)),
        (1920, 1080, (1280, 720)),
        (4000, 100, (1280, 480)),
        (1, 3000, (1, 720)),
        (1, 1, (480, 480)),
    ],
)
def test_small_pictures_are_enlarged_and_large_ones_shrunk_to_even_sides(
    width: int, height: int, shown: tuple[int, int]
) -> None:
    overlay = Overlay(CLASSES, width, height)
    assert overlay.size == tuple((side + 1) // 2 * 2 for side in (shown[0] + PANEL, shown[1]))
    picture = grey(width, height)
    drawn = overlay.draw(picture, [face(box=(0, 0, width, height))])
    assert drawn.shape == (overlay.size[1], overlay.size[0], 3) and drawn.dtype == np.uint8
    assert (picture == 128).all()
    drawn[...] = 0  # the caller's own
    assert overlay.draw(picture, []).any()


def test_a_face_is_framed_where_it_is_in_one_colour_with_its_card() -> None:
    drawn = draw([face()])
    seen = coloured(drawn)
    assert seen[100, 200:350].all() and seen[249, 200:350].all()
    assert seen[100:250, 200].all() and seen[100:250, 349].all()
    assert not seen[120:230, 220:330].any()  # the face itself stays free
    assert seen[:, 640:].any()
    assert len(colours(drawn)) == 1


def test_the_box_is_scaled_with_the_picture() -> None:
    drawn = draw([face(box=(40, 30, 40, 40))], grey(160, 120))
    assert coloured(drawn)[120, 160:320].all() and not coloured(drawn)[:70, :640].any()


def test_bars_are_as_long_as_the_smoothed_shares() -> None:
    def bar(share: float) -> int:
        panel = coloured(draw([face(share=share)]))[:, 640:]
        return int(panel[60:, 100:].sum(axis=1).max())  # beside the badge, below the head

    lengths = [bar(share) for share in (0.2, 0.4, 0.8)]
    assert lengths[1] == pytest.approx(2 * lengths[0], abs=3)
    assert lengths[2] == pytest.approx(4 * lengths[0], abs=3)


def test_an_unknown_face_is_grey() -> None:
    drawn = draw([face(label=UNKNOWN, share=0.3)])
    assert not coloured(drawn).any()
    assert len(np.unique(drawn[90:260, 190:360])) > 2


def test_faces_keep_their_colours_and_cards_stand_by_number() -> None:
    one, two = face(1), face(2, (400, 100, 100, 100))
    first, second = colours(draw([one])).pop(), colours(draw([two])).pop()
    assert first != second
    for faces in ([one, two], [two, one]):
        panel = draw(faces)[:, 640:]
        rows = [np.flatnonzero((panel == tone).all(2).any(1)) for tone in (first, second)]
        assert rows[0].max() < rows[1].min()


def test_only_the_largest_faces_have_cards() -> None:
    faces = [face(number, (100.0 * number, 100, 20.0 * number, 50)) for number in (1, 2, 3, 4)]
    drawn = draw(faces)
    assert len(colours(drawn[:, :640])) == 4
    assert colours(drawn[:, 640:]) == colours(draw(faces[2:])[:, 640:])
    assert not np.array_equal(drawn[:, 640:], draw(faces[2:])[:, 640:])  # "and 2 more"


def test_a_picture_of_another_size_is_fitted_into_the_place_of_the_others() -> None:
    overlay = Overlay(CLASSES, 640, 480)
    drawn = overlay.draw(grey(200, 400), [])
    assert drawn.shape == (480, 930, 3)
    assert (drawn[:, 200:440] == 128).all() and (drawn[:, :200] < 40).all()


@pytest.mark.parametrize(
    "box",
    [
        (-50, -50, 100, 100),
        (600, 440, 500, 500),
        (-10, -10, 900, 900),
        (5, 5, 1, 1),
        (700, 0, 9, 9),
    ],
)
def test_boxes_may_lean_over_the_edge(box: Box) -> None:
    drawn = draw([face(box=box)])
    free = draw([face(box=(300, 200, 50, 50))])
    assert np.array_equal(drawn[:, 640:], free[:, 640:])


@pytest.mark.parametrize("count", [2, 8, 13, 100])
def test_any_number_of_classes_fits(count: int) -> None:
    names = tuple(f"a very long name of an expression {number}" for number in range(count))
    overlay = Overlay(names, 640, 480)
    drawn = overlay.draw(grey(), [face(label=names[1], classes=names, share=0.95)])
    assert coloured(drawn)[60:, 740:].sum(axis=1).max() > 80  # the likeliest is among those shown


def test_a_frame_costs_less_than_ten_milliseconds() -> None:
    with Image.open(PORTRAIT) as image:
        picture = np.asarray(image.convert("RGB").resize((640, 480)))
    overlay, faces = Overlay(CLASSES, 640, 480), [face(1), face(2, (400, 100, 100, 100))]
    spent = []
    for _ in range(20):
        start = time.thread_time()
        overlay.draw(picture, faces)
        spent.append(time.thread_time() - start)
    assert min(spent) < 0.01
