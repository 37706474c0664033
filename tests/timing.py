"""A clock of its own, and engines that take a known time by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Runnable

ANSWER = np.array([[0.25, 0.75]], np.float32)
FACES = [np.full((1, 4, 4, 3), value, np.uint8) for value in (0, 1)]


class Clock:
    """Stands in for ``time``: goes on when something is done, not when the machine is busy with other things."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Seconds."""
        self.now += 1e-7  # reading it takes time too
        return self.now

    def process_time(self) -> float:
        """Seconds that cores worked: between calls none does."""
        return 0.0

    def sleep(self, seconds: float) -> None:
        """Wakes up on time."""
        self.now += seconds


class Engine:
    """A session that takes the times given, one after the other and from the start again, by a clock.

    Attributes:
        asked: The first pixel of every batch it was asked for.
        closed: Whether it was closed.
    """

    outputs = ("probabilities",)

    def __init__(self, clock: Clock, seconds: Sequence[float], wrong_at: int | None = None) -> None:
        self._clock, self._seconds, self._wrong_at = clock, seconds, wrong_at
        self.asked: list[int] = []
        self.closed = False

    def run(self, images: NDArray[np.uint8], out: Any = None) -> dict[str, NDArray[np.float32]]:
        """The same answer for every face, but at one call."""
        self._clock.now += self._seconds[len(self.asked) % len(self._seconds)]
        self.asked.append(int(images.ravel()[0]))
        answer = np.repeat(ANSWER, len(images), axis=0)
        if len(self.asked) == self._wrong_at:
            answer = answer[:, ::-1].copy()
        return {"probabilities": answer}

    @contextmanager
    def opened(self) -> Iterator[Runnable]:
        """Closes it in the end."""
        yield self
        self.closed = True
