"""Timed calls whose every answer is checked, and when an engine has warmed up."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Runnable
from convcut_trt.errors import GateFailed
from convcut_trt.gates import Step

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

WARM_UP_S = 10.0
"""Longest warm-up, seconds."""
WINDOW_S = 0.1  # a window of the warm-up; at least WINDOW_CALLS
WINDOW_CALLS = 10
WINDOWS = 4
SETTLED = 0.02
_TOLD_S = 0.1  # between two words of progress
FIX = "`convcut-trt verify` says more, and `convcut-trt build` makes a new one"
"""What to do about an engine that answers wrong."""


class Timed:
    """Asks an engine one thing after the other, and holds every answer against the right one."""

    def __init__(
        self,
        name: str,
        asks: Sequence[Callable[[], F32]],
        budget: float,
        wanted: Sequence[F32] | None = None,
        fix: str = FIX,
    ) -> None:
        """Nothing is called yet.

        Args:
            name: For messages.
            asks: Each asks for one batch and returns its probabilities, float32 [B, K]. They are taken in turns, so
                that an answer left over from the call before is seen.
            budget: Largest difference of a probability that is allowed.
            wanted: The right probabilities for each; None takes the first answer of each.
            fix: What to do where an answer is wrong; ends the message.
        """
        self.calls = 0
        self.worst = 0.0
        """Largest difference of a probability so far."""
        self._name, self._asks, self._budget, self._fix = name, tuple(asks), budget, fix
        self._wanted: list[F32 | None] = [None] * len(self._asks)
        if wanted is not None:
            self._wanted = list(wanted)
        self._good = [b""] * len(self._asks)

    @property
    def place(self) -> int:
        """Of what is asked next."""
        return self.calls % len(self._asks)

    def __call__(self) -> float:
        """Milliseconds of one call; checking is not part of them.

        Raises:
            GateFailed: A wrong answer.
        """
        place = self.place
        ask = self._asks[place]
        start = time.perf_counter()
        probabilities = ask()
        passed = time.perf_counter() - start
        self.calls += 1
        self.check(place, probabilities)
        return passed * 1000

    def check(self, place: int, probabilities: F32) -> None:
        """Holds an answer to what is asked at ``place`` against the right one.

        Raises:
            GateFailed: It is another.
        """
        # The very bytes of an answer that was right are right again: that costs a microsecond.
        given = probabilities.tobytes()
        if given == self._good[place]:
            return
        wanted = self._wanted[place]
        if wanted is None:
            wanted = self._wanted[place] = probabilities.copy()
        worst = float(np.abs(probabilities - wanted).max())
        if not worst <= self._budget:  # a NaN is not
            raise GateFailed(
                f"{self._name} answered wrong at call {self.calls}: a probability is off by {worst:.2g}, "
                f"{self._budget:g} is allowed, so its times mean nothing: {self._fix}"
            )
        self.worst = max(self.worst, worst)
        self._good[place] = given


def asking(session: Runnable, batches: Sequence[U8]) -> list[Callable[[], F32]]:
    """What ``Timed`` takes: from faces in host memory, uint8 [B, S, S, 3] each, to answers there."""

    def ask(batch: U8) -> F32:
        return session.run(batch)["probabilities"]

    return [partial(ask, batch) for batch in batches]


def settle(call: Callable[[], float], limit_s: float | None = None) -> bool:
    """Calls until the times have become stable; whether they did.

    Stable are four windows in a row whose medians have a coefficient of variation of at most 2 %: the rule of
    Georges, Buytaert and Eeckhout ("Statistically rigorous Java performance evaluation", OOPSLA 2007, section 3.3),
    on windows of 0.1 s and at least 10 calls, because single calls seldom vary that little.

    Args:
        call: Makes one call and returns its milliseconds.
        limit_s: Seconds after which it is given up; None is ``WARM_UP_S``.
    """
    end = time.perf_counter() + (WARM_UP_S if limit_s is None else limit_s)
    medians: list[float] = []
    while time.perf_counter() < end:
        start = time.perf_counter()
        window: list[float] = []
        while len(window) < WINDOW_CALLS or time.perf_counter() - start < WINDOW_S:
            window.append(call())
            if time.perf_counter() > end:
                return False
        medians.append(float(np.median(window)))
        last = medians[-WINDOWS:]
        if len(last) == WINDOWS and np.std(last, ddof=1) <= SETTLED * np.mean(last):
            return True
    return False


def sample(
    call: Callable[[], float], seconds: float, phase: str, step: Step, period_s: float = 0.0
) -> F64:
    """Milliseconds of calls one behind the other, or one in each period, for some seconds and at least once.

    Args:
        call: Makes one call and returns its milliseconds.
        seconds: For how long.
        phase: For ``step``.
        step: Called as ``step(phase, done, total)``, in tenths of seconds, between calls.
        period_s: Seconds from the start of a call to that of the next, which is slept through; 0 does not wait.

    Returns:
        float64 [calls].
    """
    times: list[float] = []
    total = max(1, round(seconds / _TOLD_S))
    with no_garbage_collection():
        start = now = time.perf_counter()
        told = start
        due = start
        while not times or now < start + seconds:
            if period_s:
                due += period_s
                time.sleep(max(0.0, due - now))
            times.append(call())
            now = time.perf_counter()
            if now >= told:
                step(phase, min(total, int((now - start) / _TOLD_S)), total)
                told = now + _TOLD_S
    step(phase, total, total)
    return np.array(times)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collects now, and not again before the end: a collection is no part of any engine."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
