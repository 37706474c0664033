"""The robot loop: cameras that fall silent, and what fails in a frame, a detector or an engine."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.faces.detect import whole_picture
from convcut_trt.health import Health
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream
from tests.stream.loop import SPEC, Boxes, Clock, FakeEngine, Silent, balanced, frames, picture


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


@pytest.mark.parametrize("bad", [{"deadline": 0}, {"stall": -1.0}, {"stall": float("nan")}])
def test_bad_times_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Stream(FakeEngine(), [], detector=whole_picture, **bad)
