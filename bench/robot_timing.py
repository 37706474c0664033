"""Where the loop of ``bench.robot`` spends its time: what is put around others' code to tell it from ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convcut_trt.sources import Frame

_NAMES = ("decode", "detect", "crop", "infer", "out")


class Spent:
    """What was spent in others' code since the last ``take``, in the loop's thread."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, int, int]] = {}

    def take(self) -> dict[str, tuple[int, int, int]]:
        """Name -> wall time, CPU time and start of the last call, in ns; zeros for what was not called."""
        zero = (0, 0, time.time_ns())
        taken = {name: self._now.get(name, zero) for name in _NAMES}
        self._now.clear()
        return taken

    def time(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls, and notes what it took."""
        cpu = time.thread_time_ns()  # first and last, so that little of the timing counts as ours
        start, wall = time.time_ns(), time.perf_counter_ns()
        try:
            return call(*arguments)
        finally:
            wall = time.perf_counter_ns() - wall
            self._now[name] = (wall, time.thread_time_ns() - cpu, start)


class Timed:
    """An object of which one method is timed."""

    def __init__(self, inner: Any, method: str, spent: Spent, name: str) -> None:
        self._inner, self._spent, self._name = inner, spent, name
        if method != "__call__":
            setattr(self, method, self.__call__)
        self._call = getattr(inner, method)

    def __call__(self, *arguments: Any) -> Any:
        return self._spent.time(self._name, self._call, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Pixels:
    """A frame's decoder, timed, with what is known of its arrival."""

    def __init__(self, decode: Any, spent: Spent, arrived: int, cpu: int) -> None:
        self._decode, self._spent = decode, spent
        self.arrived, self.cpu = arrived, cpu

    def __call__(self) -> NDArray[np.uint8]:
        return cast("NDArray[np.uint8]", self._spent.time("decode", self._decode))


class _Samples:
    """A subscriber's samples; ``cpu`` is what Zenoh took to hand them over, in ns."""

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self.cpu = 0

    def __iter__(self) -> Iterator[Any]:
        samples = iter(self._subscriber)
        while True:
            start = time.thread_time_ns()
            sample = next(samples, None)
            self.cpu += time.thread_time_ns() - start
            if sample is None:
                return
            yield sample

    def undeclare(self) -> None:
        self._subscriber.undeclare()


class Watched:
    """A source whose frames carry when they came, and the CPU time that our code took to read one.

    Attributes:
        live: True.
        missing: Sequence numbers below ``due`` that never came.
        due: The next sequence number.
    """

    live = True

    def __init__(self, source: Any, spent: Spent) -> None:
        self._source, self._spent = source, spent
        self.missing: list[int] = []
        self.due = 0
        self._samples = source._subscriber = _Samples(source._subscriber)

    def __iter__(self) -> Iterator[Frame]:
        before, cpu = time.thread_time_ns(), 0
        for frame in self._source:
            arrived = time.time_ns()
            self.missing += range(self.due, frame.sequence)
            self.due = frame.sequence + 1
            cpu += time.thread_time_ns() - self._samples.cpu - before
            pixels = Pixels(frame.pixels, self._spent, arrived, cpu)
            object.__setattr__(frame, "pixels", pixels)  # nobody else has seen this frame
            before = time.thread_time_ns() - self._samples.cpu
            yield frame
            # What the stream does with it.
            now = time.thread_time_ns() - self._samples.cpu
            cpu, before = now - before, now

    def stop(self) -> None:
        """Ends the wait for the next frame."""
        self._source.stop()

    def close(self) -> None:
        """Closes it."""
        self._source.close()


class Memory:
    """What this process has in memory, noted now and then."""

    def __init__(self) -> None:
        self.mib: list[float] = []

    def note(self, answers: int) -> None:
        """Adds a figure, about one a second."""
        if answers % 30:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
