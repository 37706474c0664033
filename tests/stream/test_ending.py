"""The robot loop: how it ends, by whom, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from convcut_trt import newest
from convcut_trt.errors import InputError
from convcut_trt.faces.detect import whole_picture
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream, stop_on_signals
from tests.stream.loop import FakeEngine, Silent, balanced, forever, frames, picture, source_threads


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
