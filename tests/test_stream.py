"""The robot loop: what is answered, what is dropped and counted, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convcut_trt as cc
from convcut_trt import newest
from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.faces.crop import cut_faces
from convcut_trt.faces.detect import whole_picture
from convcut_trt.health import Health
from convcut_trt.home import find_model
from convcut_trt.pictures import load_picture
from convcut_trt.preprocess import resize
from convcut_trt.sources import Capture, Frame, Pictures, open_source
from convcut_trt.spec import ModelSpec
from convcut_trt.stream import (
    Result,
    Stream,
    stop_on_signals,
)
from convcut_trt.track import Tracking

SPEC = find_model("conv-cut-mini").spec
PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"
BOX = (110.0, 70.0, 100.0, 120.0)
SECOND = 10**9


class FakeEngine:
    """Answers the first class the surer, the brighter the face; notes its batches."""

    spec = SPEC

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        self.batches: list[int] = []
        self._work = work

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(batch))
        self._work()
        first = batch.mean(axis=(1, 2, 3)) / 255
        rest = np.repeat((1 - first)[:, None] / 7, 7, axis=1)
        return {"probabilities": np.concatenate([first[:, None], rest], axis=1).astype(np.float32)}


class Boxes:
    """A detector that has found these boxes before it looks."""

    def __init__(self, *boxes: tuple[float, ...]) -> None:
        self._boxes = boxes

    def __call__(self, frame_rgb: np.ndarray) -> Any:
        assert frame_rgb.dtype == np.uint8 and frame_rgb.shape[2] == 3
        return self._boxes


class Clock:
    """Nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


def picture(level: int = 128, height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def frames(count: int, first: int = 0) -> list[Frame]:
    return [
        Frame(picture(number % 256), 7 * SECOND + number * SECOND // 30, "camera", number)
        for number in range(first, first + count)
    ]


def source_threads() -> int:
    return sum(thread.name == "convcut-source" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert source_threads() == 0


def balanced(health: Health) -> bool:
    return health.frames == health.processed + health.bad + health.dropped


def test_each_frame_is_answered_once_in_order_with_its_own_stamp_and_one_batch() -> None:
    engine, sent = FakeEngine(), frames(20)
    two = Boxes((10, 10, 50, 60), (100, 20, 40, 40))
    with Stream(engine, sent, detector=two, newest=False) as stream:
        results = list(stream)
    assert [result.frame for result in results] == sent
    assert [result.frame.timestamp for result in results] == [f.timestamp for f in sent]
    assert engine.batches == [2] * 20
    for result in results:
        assert [face.track for face in result.faces] == [1, 2]
        assert result.faces[1].box == (100, 20, 40, 40)
        assert result.faces[0].raw[0] == pytest.approx(result.frame.sequence / 255, abs=1e-4)
        assert result.latency >= 0 and not result.late
    health = stream.health()
    assert (health.frames, health.processed, health.dropped) == (20, 20, 0)
    assert not health.running and not health.stalled and health.last_error == ""
    assert set(health.latency) == {"wait", "decode", "detect", "infer", "track", "total"}
    for part in health.latency.values():
        assert 0 <= part.p50 <= part.p95 <= part.p99
    assert asdict(health)["latency"]["total"]["p50"] == health.latency["total"].p50


def test_smoothing_goes_by_the_frames_timestamps() -> None:
    sent = [Frame(picture(0), 0), Frame(picture(255), SECOND // 2, sequence=1)]
    options = Tracking(time_constant=0.5)
    with Stream(
        FakeEngine(), sent, detector=whole_picture, tracking=options, newest=False
    ) as stream:
        face = list(stream)[1].faces[0]
    assert face.raw[0] == 1
    assert face.smoothed[0] == pytest.approx(1 - np.exp(-1), abs=1e-4)


def test_the_zoo_engine_answers_a_stream_as_it_answers_pictures(engines: Path) -> None:
    boxes = (BOX, (150.0, 60.0, 90.0, 90.0))
    with cc.load(engines, threads=1) as engine:
        frame = Frame(lambda: load_picture(PORTRAIT), 5, PORTRAIT.name, 3)
        with Stream(engine, [frame], detector=Boxes(*boxes)) as stream:
            (result,) = stream
        wanted = engine.predict([PORTRAIT, PORTRAIT], boxes)
    assert np.array_equal(np.stack([face.raw for face in result.faces]), wanted.probabilities)
    assert [face.label for face in result.faces] == wanted.labels
    assert (result.frame.timestamp, result.frame.frame_id, result.frame.sequence) == (
        5,
        PORTRAIT.name,
        3,
    )
    assert result.picture.shape == load_picture(PORTRAIT).shape


@given(
    st.tuples(st.floats(-20, 90), st.floats(-20, 70), st.floats(2, 150), st.floats(2, 150)).filter(
        lambda box: box[0] + box[2] > 1 and box[1] + box[3] > 1
    ),
    st.sampled_from([0.0, 0.13, 0.5]),
    st.sampled_from([16, 48]),
    st.booleans(),
)
def test_faces_are_cut_out_as_the_spec_cuts_them(
    box: tuple[float, float, float, float], margin: float, size: int, tall: bool
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    noise = noise.transpose(1, 0, 2).copy() if tall else noise
    if box[0] >= noise.shape[1] - 1 or box[1] >= noise.shape[0] - 1:
        return
    spec = SimpleNamespace(size=size, margin=margin)
    wanted = ModelSpec.face(spec, noise, box)  # type: ignore[arg-type]
    faces = cut_faces(noise, np.array([box, box]), spec.size, spec.margin)
    assert np.array_equal(faces[0], wanted)
    assert np.array_equal(faces[1], wanted)


def test_whole_picture_takes_the_largest_centred_square() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    faces = cut_faces(wide, whole_picture(wide), SPEC.size, SPEC.margin)
    assert np.array_equal(faces[0], SPEC.face(wide))
    assert np.array_equal(faces[0], resize(wide, SPEC.size, box=(10, 0, 90, 80)))


@pytest.mark.parametrize("format", ["rgb8", "bgr8", "rgba8", "mono8", "nv12"])
def test_the_detector_sees_rgb_whatever_the_camera_sends(format: str) -> None:
    colour = np.zeros((40, 60, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    pixels = {
        "rgb8": colour,
        "bgr8": colour[..., ::-1],
        "rgba8": np.dstack([colour, colour[..., 0]]),
        "mono8": colour[..., 0],
        "nv12": np.full((60, 60), 128, np.uint8),
    }[format]
    seen = {"mono8": (200, 200, 200), "nv12": (130, 130, 130)}.get(format, (200, 100, 50))
    frame = Frame(pixels, 0, format=format)
    with Stream(FakeEngine(), [frame], detector=whole_picture) as stream:
        (result,) = stream
    assert result.picture.flags.c_contiguous
    assert (result.picture == seen).all() and result.picture.shape == (40, 60, 3)


def test_bare_pictures_are_stamped_on_arrival_and_numbered() -> None:
    before = time.time_ns()
    source = [picture(), picture()[..., 0]]
    with Stream(FakeEngine(), source, detector=whole_picture, newest=False) as stream:
        results = list(stream)
    stamps = [before, *(result.frame.timestamp for result in results), time.time_ns()]
    assert stamps == sorted(stamps)
    assert [result.frame.sequence for result in results] == [0, 1]


def test_a_frame_without_a_face_is_answered_without_the_engine() -> None:
    engine = FakeEngine()
    nothing: Any
    for nothing in ([], np.empty((0, 4)), np.empty(0)):
        with Stream(engine, frames(1), detector=lambda _: nothing) as stream:  # noqa: B023
            assert [result.faces for result in stream] == [()]
    assert engine.batches == []


def test_the_newest_frame_wins_and_the_drops_are_counted() -> None:
    busy, pushed, decoded = threading.Event(), threading.Event(), []

    def decode(number: int) -> Callable[[], np.ndarray]:
        def pixels() -> np.ndarray:
            decoded.append(number)
            return picture()

        return pixels

    def camera() -> Iterator[Frame]:
        yield Frame(decode(0), 0)
        assert busy.wait(10)
        for number in range(1, 10):
            yield Frame(decode(number), number, sequence=number)
        pushed.set()

    def work() -> None:
        busy.set()
        assert pushed.wait(10)

    with Stream(FakeEngine(work), camera(), detector=whole_picture) as stream:
        results = list(stream)
    assert [result.frame.sequence for result in results] == [0, 9]
    assert decoded == [0, 9]
    health = stream.health()
    assert (health.frames, health.processed, health.dropped) == (10, 2, 8)


def test_under_overload_every_frame_is_answered_or_counted_and_none_is_old() -> None:
    given_so_far = 0

    def camera() -> Iterator[Frame]:
        nonlocal given_so_far
        for number in range(150):
            time.sleep(0.001)
            given_so_far = number
            yield Frame(picture(), number * SECOND // 1000, sequence=number)

    def detector(frame_rgb: np.ndarray) -> np.ndarray:
        seen.append(given_so_far)
        return whole_picture(frame_rgb)

    seen: list[int] = []
    engine = FakeEngine(lambda: time.sleep(0.01))
    with Stream(engine, camera(), detector=detector) as stream:
        numbers = [result.frame.sequence for result in stream]
    health = stream.health()
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 149
    assert health.frames == 150 and health.processed == len(numbers) < 100
    assert health.dropped == 150 - len(numbers) and balanced(health)
    # Taken at most a few frames after it was given; without drops the last would be far behind.
    assert np.median(np.array(seen) - numbers) <= 3


def test_a_source_that_is_not_live_waits_for_the_loop() -> None:
    class Clip:
        live = False

        def __iter__(self) -> Iterator[Frame]:
            return iter(frames(30))

    engine = FakeEngine(lambda: time.sleep(0.001))
    with Stream(engine, Clip(), detector=whole_picture) as stream:
        assert len(list(stream)) == 30
    assert stream.health().dropped == 0


def test_late_answers_are_marked_and_counted_but_given() -> None:
    clock = Clock()
    times = iter((0.02, 0.06, 0.05, 0.051))
    engine = FakeEngine(lambda: clock.sleep(next(times)))
    with Stream(
        engine, frames(4), detector=whole_picture, newest=False, deadline=0.05, clock=clock
    ) as stream:
        iterator = iter(stream)
        first = next(iterator)
        assert stream.health().latency["infer"].p50 == pytest.approx(0.02)
        rest = list(iterator)
    assert first.latency == pytest.approx(0.02) and not first.late
    assert rest[0].late
    health = stream.health()
    assert health.processed == 4
    assert health.missed == sum(result.late for result in rest) >= 2


class Silent:
    """A camera that gives frames when it is told to, and stops when asked to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.closed = 0
        self._stopped = False

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while self.go.acquire(timeout=10) and not self._stopped:
            yield Frame(picture(), number, sequence=number)
            number += 1

    def stop(self) -> None:
        self._stopped = True
        self.go.release()

    def close(self) -> None:
        self.closed += 1


def test_a_silent_source_is_told_once_a_stall_and_goes_on() -> None:
    camera, told = Silent(), []

    def on_stall(health: Health) -> None:
        told.append(health)
        if len(told) == 3:
            stream.stop()
        camera.go.release()

    stream = Stream(FakeEngine(), camera, detector=whole_picture, stall=0.02, on_stall=on_stall)
    with stream:
        numbers = [result.frame.sequence for result in stream]
    assert numbers[:2] == [0, 1]
    assert [health.stalls for health in told] == [1, 2, 3]
    assert all(health.stalled and health.silent_s > 0.02 and health.running for health in told)
    assert not stream.health().stalled
    assert camera.closed == 1


def test_a_stall_callback_may_end_the_stream_with_an_error() -> None:
    def on_stall(health: Health) -> None:
        raise InputError(f"no frame for {health.silent_s:.2f} s: check the cable")

    camera = Silent()
    with pytest.raises(InputError, match="check the cable"):
        list(Stream(FakeEngine(), camera, detector=whole_picture, stall=0.02, on_stall=on_stall))
    assert camera.closed == 1


def test_health_shows_a_stall_while_nobody_iterates() -> None:
    clock, camera = Clock(), Silent()
    with Stream(FakeEngine(), camera, detector=whole_picture, clock=clock) as stream:
        assert not stream.health().running
        camera.go.release()
        iterator = iter(stream)
        next(iterator)
        clock.sleep(4.9)
        assert not stream.health().stalled
        clock.sleep(0.2)
        assert stream.health().stalled and stream.health().running


def unplugged() -> Iterator[Frame]:
    yield from frames(2)
    raise OSError("device gone")


def broken_engine(answer: object) -> Any:
    def infer(batch: np.ndarray) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(spec=SPEC, infer=infer)


NAN = {"probabilities": np.full((1, 8), np.nan, np.float32)}
FAILURES: dict[str, tuple[Any, Any, Any, str]] = {
    "source": (FakeEngine(), unplugged(), whole_picture, "source failed: OSError: device gone"),
    "item": (FakeEngine(), ["a.png"], whole_picture, "gave str"),
    "seconds": (FakeEngine(), (Frame(picture(), t) for t in [0.5]), whole_picture, "nanoseconds"),  # type: ignore[arg-type]
    "no iterable": (FakeEngine(), object(), whole_picture, "not iterable"),
    "detector": (FakeEngine(), frames(1), lambda _: 1 / 0, "detector failed on frame 0: ZeroDiv"),
    "columns": (FakeEngine(), frames(1), Boxes((1, 2, 3, 4, 5)), r"\[1, 5\]"),
    "ragged": (FakeEngine(), frames(1), lambda _: [(1, 2), (3,)], "detector failed on frame 0"),
    "engine": (
        broken_engine(RuntimeError("no GPU")),
        frames(1),
        whole_picture,
        "engine failed.*no GPU",
    ),
    "closed": (broken_engine(InputError("is closed")), frames(1), whole_picture, "^is closed$"),
    "NaN": (broken_engine(NAN), frames(1), whole_picture, "NaN"),
    "classes": (
        broken_engine({"probabilities": np.zeros((1, 3), np.float32)}),
        frames(1),
        whole_picture,
        r"\[1, 3\] probabilities",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_whatever_fails_ends_the_stream_with_one_sentence(case: str) -> None:
    engine, source, detector, words = FAILURES[case]
    stream = Stream(engine, source, detector=detector, newest=False)
    with pytest.raises(ConvcutError, match=words) as caught:
        list(stream)
    health = stream.health()
    assert health.last_error == str(caught.value)
    assert not health.running
    # Said once: closing is quiet.
    stream.close()


def test_frames_before_the_failure_are_answered_first() -> None:
    stream = Stream(FakeEngine(), unplugged(), detector=whole_picture, newest=False)
    iterator = iter(stream)
    assert [next(iterator).frame.sequence, next(iterator).frame.sequence] == [0, 1]
    with pytest.raises(InputError, match="device gone"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def corrupt() -> np.ndarray:
    raise ValueError("JPEG ends early")


BAD_FRAMES: dict[str, Any] = {
    "corrupt": corrupt,
    "float": picture() / 255,
    "four channels": np.zeros((20, 20, 4), np.uint8),
    "flat": np.zeros(10, np.uint8),
    "empty": np.zeros((0, 0, 3), np.uint8),
    "no picture": lambda: None,
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frames_are_skipped_and_counted_or_end_the_stream(case: str) -> None:
    # The good ones change their size, which is no fault.
    sent = [frames(1)[0], Frame(BAD_FRAMES[case], 1, sequence=1), Frame(picture(9, 64, 50), 2)]
    stream = Stream(FakeEngine(), sent, detector=whole_picture, newest=False)
    assert [result.picture.shape for result in stream] == [(120, 160, 3), (64, 50, 3)]
    health = stream.health()
    assert health.bad == 1 and balanced(health)
    assert "frame 1" in health.last_error
    strict = Stream(FakeEngine(), sent, detector=whole_picture, newest=False, skip_bad=False)
    with pytest.raises(InputError, match="frame 1"):
        list(strict)


@pytest.mark.parametrize(
    "bad",
    [
        (np.nan, 0, 10, 10),
        (0, 0, np.inf, 10),
        (5, 5, 0, 10),
        (5, 5, 10, -1),
        (160, 0, 10, 10),
        (0, -30, 10, 30),
    ],
)
def test_impossible_boxes_are_left_out_and_counted_or_end_the_stream(bad: Any) -> None:
    engine, detector = FakeEngine(), Boxes((10, 10, 50, 60), bad, (90, 10, 50, 60))
    with Stream(engine, frames(1), detector=detector) as stream:
        (result,) = stream
    assert [face.box[0] for face in result.faces] == [10, 90]
    assert engine.batches == [2]
    assert stream.health().bad_boxes == 1 and stream.health().last_error
    with pytest.raises(InputError, match="impossible boxes"):
        list(Stream(engine, frames(1), detector=detector, skip_bad=False))


def test_a_clock_that_jumps_back_is_the_frames_own() -> None:
    stamps = [10 * SECOND, 11 * SECOND, 2 * SECOND, 3 * SECOND]
    sent = [Frame(picture(), stamp) for stamp in stamps]
    with Stream(FakeEngine(), sent, detector=whole_picture, newest=False) as stream:
        results = list(stream)
    assert [result.frame.timestamp for result in results] == stamps
    assert {result.faces[0].track for result in results} == {1}


def forever() -> Iterator[Frame]:
    number = 0
    while True:
        yield Frame(picture(), number, sequence=number)
        number += 1


def test_leaving_the_loop_ends_the_source() -> None:
    closed = threading.Event()

    def camera() -> Iterator[Frame]:
        try:
            yield from forever()
        finally:
            closed.set()

    stream = Stream(FakeEngine(), camera(), detector=whole_picture)
    for _ in stream:
        break
    assert source_threads() == 0 and closed.is_set()
    assert balanced(stream.health())


@pytest.mark.parametrize("how", ["stop", "close"])
def test_another_thread_may_end_the_stream(how: str) -> None:
    camera = Silent()
    stream = Stream(FakeEngine(), camera, detector=whole_picture)
    camera.go.release()
    for _ in stream:
        threading.Timer(0.02, getattr(stream, how)).start()
    assert camera.closed == 1 and not stream.health().running


def test_a_stream_is_iterated_once_and_closed_any_number_of_times() -> None:
    stream = Stream(FakeEngine(), frames(1), detector=whole_picture)
    list(stream)
    with pytest.raises(InputError, match="once"):
        iter(stream)
    stream.close()
    camera = Silent()
    with Stream(FakeEngine(), camera, detector=whole_picture) as never:
        pass
    never.close()
    assert camera.closed == 1
    camera = Silent()
    barely = Stream(FakeEngine(), camera, detector=whole_picture)
    iterator = iter(barely)
    barely.close()
    assert list(iterator) == [] and camera.closed == 1
    with pytest.raises(InputError):
        iter(never)


def test_a_source_that_does_not_return_cannot_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(newest, "PATIENCE_S", 0.05)
    release = threading.Event()

    def stuck() -> Iterator[Frame]:
        yield from frames(1)
        release.wait(10)

    stream = Stream(FakeEngine(), stuck(), detector=whole_picture)
    for _ in stream:
        break
    assert "does not return" in stream.health().last_error
    release.set()
    monkeypatch.setattr(newest, "PATIENCE_S", 10)
    stream.close()
    assert source_threads() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_stream_after_the_frame_in_work(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    engine = FakeEngine(lambda: signal.raise_signal(number))
    with Stream(engine, forever(), detector=whole_picture) as stream, stop_on_signals(stream):
        assert len(list(stream)) == 1
    assert signal.getsignal(number) is before
    camera = Silent()
    with Stream(FakeEngine(), camera, detector=whole_picture) as stream, stop_on_signals(stream):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.start()
        assert list(stream) == []
        timer.join()
    assert camera.closed == 1


def test_a_second_signal_interrupts() -> None:
    def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    stream = Stream(FakeEngine(work), forever(), detector=whole_picture)
    with pytest.raises(KeyboardInterrupt), stream, stop_on_signals(stream):
        list(stream)


def test_ctrl_c_without_a_handler_interrupts_and_cleans_up() -> None:
    camera = Silent()
    stream = Stream(FakeEngine(), camera, detector=whole_picture)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), stream:
        list(stream)
    timer.join()
    assert camera.closed == 1 and source_threads() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files as Linux shows them")
def test_fifty_streams_leave_no_thread_and_no_file(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    counts = []
    for turn in range(50):
        with Stream(FakeEngine(), tmp_path, detector=whole_picture) as stream:
            assert len(list(stream)) == 1
        for _ in Stream(FakeEngine(), forever(), detector=whole_picture):
            break
        if turn in (5, 49):
            counts.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))
    assert counts[0] == counts[1]


def test_own_work_is_below_a_millisecond_a_frame() -> None:
    """CPU time of the iterating thread but for detector and engine; the pictures are decoded already."""
    others = 0.0

    def timed(work: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        def call(array: np.ndarray) -> Any:
            nonlocal others
            begun = time.thread_time()
            answer = work(array)
            others += time.thread_time() - begun
            return answer

        return call

    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    engine = SimpleNamespace(spec=SPEC, infer=timed(FakeEngine().infer))
    detector = timed(Boxes((200, 100, 100, 110)))
    sent = [Frame(noise, number * SECOND // 30, sequence=number) for number in range(300)]
    own = []
    with Stream(engine, sent, detector=detector, newest=False) as stream:
        iterator = iter(stream)
        for _ in sent:
            others, begun = 0.0, time.thread_time()
            next(iterator)
            own.append(time.thread_time() - begun - others)
    # The best of ten medians: what else runs on a machine costs CPU time here, too, through its caches.
    assert min(np.median(part) for part in np.split(np.array(own), 10)) < 1e-3


@pytest.mark.parametrize("bad", [{"deadline": 0}, {"stall": -1.0}, {"stall": float("nan")}])
def test_bad_times_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Stream(FakeEngine(), [], detector=whole_picture, **bad)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level, name in ((30, "c.png"), (10, "a.png"), (20, "b.jpg")):
        Image.fromarray(picture(level)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_is_answered_by_name_and_its_broken_picture_skipped(folder: Path) -> None:
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    with Stream(FakeEngine(), folder, detector=whole_picture) as stream:
        results: list[Result] = list(stream)
    assert [result.frame.frame_id for result in results] == ["a.png", "c.png"]
    assert [int(result.picture[0, 0, 0]) for result in results] == [10, 30]
    health = stream.health()
    assert (health.bad, health.dropped) == (1, 0) and "b.jpg" in health.last_error


def test_a_folder_with_a_rate_is_live_and_stamped_by_it(folder: Path) -> None:
    source = Pictures(folder, rate=100)
    begun = time.monotonic()
    stamps = [frame.timestamp for frame in source]
    assert time.monotonic() - begun >= 0.02
    assert source.live and np.diff(stamps).tolist() == [10_000_000, 10_000_000]
    slow = Stream(FakeEngine(), Pictures(folder, rate=0.001), detector=whole_picture)
    begun = time.monotonic()
    for _ in slow:
        break
    assert time.monotonic() - begun < 5


class FakeCapture:
    """What ``cv2.VideoCapture`` does with three frames."""

    def __init__(self, target: Any, api: int = 0) -> None:
        self.target, self.api = target, api
        self.reads, self.released = 0, False

    def isOpened(self) -> bool:  # noqa: N802
        return bool(self.target != "rtsp://nobody")

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        if self.reads > 3:
            return False, None
        return True, picture()[..., 0] if self.reads == 3 else picture() + np.arange(
            3, dtype=np.uint8
        )

    def get(self, what: str) -> float:
        # A container that knows the time of its first two frames only.
        return {"msec": (0.0, 40.0, 0.0)[self.reads - 1], "fps": 25.0}[what]

    def release(self) -> None:
        self.released = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeCapture]:
    made: list[FakeCapture] = []

    def capture(*target: Any) -> FakeCapture:
        made.append(FakeCapture(*target))
        return made[-1]

    fake = SimpleNamespace(
        VideoCapture=capture,
        CAP_GSTREAMER=1800,
        CAP_PROP_POS_MSEC="msec",
        CAP_PROP_FPS="fps",
        COLOR_BGR2RGB="swap",
        cvtColor=lambda pixels, code: np.ascontiguousarray(pixels[..., ::-1]),
    )
    monkeypatch.setitem(sys.modules, "cv2", fake)
    return made


def test_a_video_file_is_answered_whole_with_the_containers_times(
    opened: list[FakeCapture], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a clip")
    with Stream(FakeEngine(), clip, detector=whole_picture) as stream:
        results = list(stream)
    assert [result.frame.timestamp for result in results] == [0, 40_000_000, 80_000_000]
    assert results[0].picture[0, 0].tolist() == [130, 129, 128]
    assert results[2].picture[0, 0].tolist() == [128, 128, 128]
    assert opened[0].target == str(clip) and opened[0].released


@pytest.mark.parametrize(
    ("name", "target", "api"),
    [
        (0, 0, 0),
        ("2", 2, 0),
        ("rtsp://camera/1", "rtsp://camera/1", 0),
        ("v4l2src ! appsink", "v4l2src ! appsink", 1800),
        ("/dev/null", "/dev/null", 0),
    ],
)
def test_a_camera_is_stamped_with_the_time_and_its_end_is_an_error(
    opened: list[FakeCapture], name: str | int, target: str | int, api: int
) -> None:
    before = time.time_ns()
    stream = Stream(FakeEngine(), name, detector=whole_picture, newest=False)
    results = []
    with pytest.raises(InputError, match="stopped giving frames after 3"):
        for result in stream:
            results.append(result)  # noqa: PERF402
    stamps = [before - 10**6, *(result.frame.timestamp for result in results)]
    assert stamps == sorted(stamps) and stamps[-1] < time.time_ns() + 10**6
    assert (opened[0].target, opened[0].api, opened[0].released) == (target, api, True)
    again = open_source(name)
    assert isinstance(again, Capture) and again.live


@pytest.mark.parametrize("rate", [None, 30.0])
@pytest.mark.parametrize("name", ["rtsp://nobody", "no such clip.mp4", "no folder/"])
def test_what_does_not_open_is_named(
    opened: list[FakeCapture], name: str, rate: float | None
) -> None:
    with pytest.raises(InputError, match=name.rstrip("/")):
        open_source(name, rate)
    assert all(capture.released for capture in opened)


def test_a_folder_without_pictures_or_with_a_bad_rate_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="rate"):
        open_source(folder, 0)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_source(folder / "empty")


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[faces\]"):
        Stream(FakeEngine(), 0, detector=whole_picture)
