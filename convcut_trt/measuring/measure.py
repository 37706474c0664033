"""What timing engines against each other gives: ratios with intervals, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcut_trt.stats import studentised

F64 = NDArray[np.float64]

SAME = 1.02
FASTER, SLOWER, ALIKE, INCONCLUSIVE = "faster", "slower", "same", "inconclusive"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one engine is as another.

    Attributes:
        value: Geometric mean over the units, openings or rounds, of time(other) / time(one).
        low: Of its 95 % interval over the units.
        high: The same, upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, logs: ArrayLike) -> Ratio:
        """From the logarithms of the ratios of several units, [R]."""
        values = np.asarray(logs, np.float64)
        low, high = studentised(values)
        with np.errstate(over="ignore"):  # of too few units the ends are as far apart as can be
            return cls(*map(float, np.exp([values.mean(), low, high])))

    @property
    def verdict(self) -> str:
        """``same``: the interval lies within 2 %; ``faster`` or ``slower``: it lies on one side of 1 and not within
        2 %; ``inconclusive``: neither."""
        if self.low >= 1 / SAME and self.high <= SAME:
            return ALIKE
        return FASTER if self.low > 1 else SLOWER if self.high < 1 else INCONCLUSIVE


def log_ratio(one: ArrayLike, other: ArrayLike) -> float:
    """Logarithm of how many times as fast the one is as the other, from times taken side by side.

    The median over the pairs: a machine that is slower for a while slows both of a pair, and what strikes one call
    alone is an outlier. Between identical sessions in 102 openings on a busy machine it varied half as much as the
    ratio of the medians (``bench/results/openings.md``).

    Args:
        one: Times [P].
        other: Times [P].
    """
    return float(np.median(np.log(other) - np.log(one)))


@dataclass(frozen=True)
class Timings:
    """Milliseconds of several engines, taken in units, openings or rounds, in each of which all of them took turns.

    Attributes:
        batch: Faces in a call.
        units: Engine -> of each unit its time, or float64 [P] its times, each side by side with the same one of the
            others.
        flags: What was wrong with the machine meanwhile, see ``conditions.flags``.
    """

    batch: int
    units: Mapping[str, Sequence[F64] | F64]
    flags: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def rounds(self) -> Mapping[str, F64]:
        """Engine -> float64 [R], the median of each unit."""
        return {
            name: np.array([np.median(times) for times in units])
            for name, units in self.units.items()
        }

    def milliseconds(self, name: str) -> float:
        """Median over the units, for a whole batch."""
        return float(np.median(self.rounds[name]))

    def log_ratios(self, name: str, other: str) -> F64:
        """``log_ratio`` of ``name`` over ``other`` in each unit, float64 [R]."""
        pairs = zip(self.units[name], self.units[other], strict=True)
        return np.array([log_ratio(one, two) for one, two in pairs])

    def ratio(self, name: str, other: str) -> Ratio:
        """How many times as fast ``name`` is as ``other``."""
        return Ratio.of(self.log_ratios(name, other))

    def verdict(self, name: str, other: str) -> str:
        """``Ratio.verdict``; where there are flags ``inconclusive``, whatever the interval."""
        return INCONCLUSIVE if self.flags else self.ratio(name, other).verdict
