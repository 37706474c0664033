"""Waiting until nothing spins: on real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convcut_trt.measuring import quiet

pytestmark = pytest.mark.skipif(
    not quiet.THREADS.is_dir(), reason="this system does not tell of threads in /proc"
)


@contextmanager
def spinning(seconds: float) -> Iterator[list[float]]:
    """A thread that is at work for some seconds; gives the moment at which it stopped, once it has."""
    stopped: list[float] = []

    def work() -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        stopped.append(time.perf_counter())

    thread = threading.Thread(target=work, name="ends with ) R")
    thread.start()
    try:
        yield stopped
    finally:
        thread.join()


def test_a_thread_that_is_at_work_is_waited_for() -> None:
    with spinning(0.04) as stopped:
        quiet.until_quiet()
        assert stopped and time.perf_counter() - stopped[0] < 0.04


def test_threads_that_sleep_are_not() -> None:
    end = threading.Event()
    sleeper = threading.Thread(target=end.wait)
    sleeper.start()
    try:
        start = time.perf_counter()
        quiet.until_quiet()
        assert time.perf_counter() - start < quiet.LONGEST_S
    finally:
        end.set()
        sleeper.join()


def test_it_is_not_waited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "LONGEST_S", 0.02)
    with spinning(1.0) as stopped:
        quiet.until_quiet()
        assert not stopped


def test_a_thread_that_ends_meanwhile_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()  # its stat is gone already
    monkeypatch.setattr(quiet, "THREADS", tmp_path)
    assert not quiet.others_run()


def test_where_threads_are_not_told_of_it_waits_its_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "LONGEST_S", 0.02)
    monkeypatch.setattr(quiet, "THREADS", tmp_path / "none")
    start = time.perf_counter()
    quiet.until_quiet()
    assert time.perf_counter() - start >= 0.02
