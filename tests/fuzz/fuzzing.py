"""Fuzzing by Hypothesis, so many inputs or so long; what is found is made small, and the search goes on."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from tests.fuzz.apart import Limits, Outcome, Read, Reader

KEPT = Path(__file__).parents[2] / ".hypothesis" / "fuzz"
"""Where ``fuzz`` keeps what it finds."""
_ROUND = 200  # inputs from one seed; Hypothesis spends more and more on each of a longer round
_SMALLER_S = 10.0  # for one finding


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Attributes:
        inputs: What it is given.
        read: What reads it.
        limits: What one input may cost.
        few: Inputs in the fast tests; 0 where it takes too long to begin.
    """

    inputs: SearchStrategy[bytes]
    read: Read
    limits: Limits = Limits()
    few: int = 20


@dataclass
class Report:
    """What came of a run.

    Attributes:
        counts: Inputs by ``Outcome.kind``.
        seconds: It took.
        found: Place -> what is wrong there, and the smallest input seen that shows it.
    """

    counts: dict[str, int] = field(default_factory=lambda: {"taken": 0, "refused": 0, "wrong": 0})
    seconds: float = 0.0
    found: dict[str, tuple[Outcome, bytes]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Figures in a line, then every finding with where its input is kept."""
        inputs = sum(self.counts.values())
        rate = inputs / max(self.seconds, 1e-9)
        lines = [f"{inputs} inputs, {rate:.0f} a second: {self.counts}"]
        for outcome, content in self.found.values():
            told = f"{kept(content)}: {content[:300]!r}"
            lines.append(f"--- {outcome.place}\n{outcome.detail[-2000:]}\n{told}")
        return "\n".join(lines)


def kept(content: bytes) -> Path:
    """Where an input is kept: by its hash, so that no two findings share a file."""
    return KEPT / f"{hashlib.sha256(content).hexdigest()[:16]}.bin"


class _Content(bytes):
    """Hypothesis prints what it found, as often as it finds it."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


class _WrongError(Exception):
    """Tells Hypothesis that an input is worth making smaller."""


def fuzz(target: Target, reader: Reader, seconds: float | None = None) -> Report:
    """Reads mutated inputs, the same ones each time; what is wrong is also written into ``KEPT``.

    Args:
        target: What is read.
        reader: Where.
        seconds: For how long; None reads ``target.few`` inputs.
    """
    report = Report()
    begun = time.monotonic()
    end = begun + (600.0 if seconds is None else seconds)
    number = 0
    while True:
        _round(target, reader, report, number, end, target.few if seconds is None else _ROUND)
        report.seconds = time.monotonic() - begun
        for _, content in report.found.values():
            KEPT.mkdir(parents=True, exist_ok=True)
            kept(content).write_bytes(content)
        if seconds is None or time.monotonic() > end:
            return report
        number += 1


def _round(
    target: Target, reader: Reader, report: Report, number: int, end: float, most: int
) -> None:
    smallest: list[tuple[Outcome, bytes]] = []
    until = end

    @seed(number)
    @settings(
        max_examples=most,
        database=None,
        derandomize=False,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(target.inputs.map(_Content))
    def attempt(content: bytes) -> None:
        nonlocal until
        if time.monotonic() > until:
            return
        outcome = reader.read(target.read, bytes(content), target.limits)
        report.counts[outcome.kind] += 1
        if outcome.kind != "wrong" or outcome.place in report.found:
            return
        if outcome.costly:
            report.found[outcome.place] = (outcome, bytes(content))
        else:
            until = until if smallest else min(end, time.monotonic() + _SMALLER_S)
            smallest[:] = [(outcome, bytes(content))]
            raise _WrongError

    try:
        attempt()
    except (_WrongError, HypothesisException):  # the latter where it does not happen again
        outcome, content = smallest[0]
        report.found[outcome.place] = (outcome, content)
