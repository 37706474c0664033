"""Timing engines against each other: in pairs, inside one run, so that what else runs hits all alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Runnable
from convcut_trt.gates import Step
from convcut_trt.stats import bootstrap

ROUNDS = 21
WARM_UP_S = 0.5
SLOT_S = (
    0.1  # an engine's turn in a round: long against the clock, short against drifts of the machine
)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one engine is as another.

    Attributes:
        value: Median over the rounds of time(other) / time(one).
        low: Of its 95 % bootstrap interval over rounds.
        high: The same, upper end.
    """

    value: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        """Whether it is shown to be faster: the whole interval lies above 1."""
        return self.low > 1


@dataclass(frozen=True)
class Timings:
    """Milliseconds of each engine, one figure a round, all rounds in one run.

    Attributes:
        batch: Faces in a call.
        rounds: Engine -> float64 [R], the median of its calls in each round.
    """

    batch: int
    rounds: Mapping[str, NDArray[np.float64]]

    def milliseconds(self, name: str) -> float:
        """Median over the rounds, for a whole batch."""
        return float(np.median(self.rounds[name]))

    def ratio(self, name: str, other: str) -> Ratio:
        """How many times as fast ``name`` is as ``other``, from rounds in which both took turns."""
        ratios = self.rounds[other] / self.rounds[name]

        def medians(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            order = np.argsort(ratios)
            sums = np.cumsum(weights[:, order], axis=1)
            middle: NDArray[np.intp] = (sums >= sums[:, -1:] / 2).argmax(axis=1)
            values: NDArray[np.float64] = ratios[order][middle]
            return values

        low, high = bootstrap(medians, len(ratios))
        return Ratio(float(np.median(ratios)), float(low), float(high))


def paired(
    sessions: Mapping[str, Runnable],
    faces: NDArray[np.uint8],
    step: Step,
) -> Timings:
    """Times engines in turns; the order within a round is drawn anew each time.

    Args:
        sessions: Open engines by name.
        faces: uint8 [B, S, S, 3], the batch of every call.
        step: Called as ``step(phase, done, total)``.
    """
    random = np.random.default_rng(0)
    phase = f"timing, batch {len(faces)}"
    calls = {name: _warm_up(session, faces) for name, session in sessions.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(ROUNDS):
        step(phase, number, ROUNDS)
        for name in random.permutation(list(sessions)):
            times[name].append(_turn(sessions[name], faces, calls[name]))
    step(phase, ROUNDS, ROUNDS)
    return Timings(len(faces), {name: np.array(values) for name, values in times.items()})


def _warm_up(session: Runnable, faces: NDArray[np.uint8]) -> int:
    """Runs an engine until its caches and clocks have settled; how many calls fill a turn."""
    end = time.perf_counter() + WARM_UP_S
    durations: list[float] = []
    while not durations or time.perf_counter() < end:
        durations.append(_turn(session, faces, 1))
    return max(1, round(SLOT_S * 1000 / float(np.median(durations))))


def _turn(session: Runnable, faces: NDArray[np.uint8], calls: int) -> float:
    """Milliseconds of a call, the median of several."""
    durations = []
    for _ in range(calls):
        start = time.perf_counter()
        session.run(faces)
        durations.append(time.perf_counter() - start)
    return float(np.median(durations)) * 1000
