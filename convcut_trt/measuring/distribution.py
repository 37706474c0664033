"""What is kept of the times of many calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convcut_trt.measuring.timed import F64

KEPT = 501


@dataclass(frozen=True)
class Distribution:
    """Times of many calls.

    Attributes:
        calls: How many.
        mean: Of all.
        p50: Median. A percentile is None where fewer calls were made than one in its tail takes: 1,000 for p99_9.
        p90: See ``p50``.
        p95: See ``p50``.
        p99: See ``p50``.
        p99_9: See ``p50``.
        max: The longest.
        jitter: Mean difference between a call and the next (as between packets in RFC 3550, section 6.4.1).
        samples: The calls in the order in which they were taken; of more than ``KEPT`` so many, evenly spaced over
            them, the first and the last among them. Older results have them sorted, evenly spaced by rank.
    """

    calls: int
    mean: float
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float
    jitter: float | None
    samples: tuple[float, ...]

    @classmethod
    def of(cls, times: F64) -> Distribution:
        """Of times in the order in which they were taken, float64 [N], N at least 1."""
        ordered = np.sort(times)
        places = np.linspace(0, len(times) - 1, min(KEPT, len(times))).round().astype(int)
        return cls(
            calls=len(times),
            mean=_rounded(times.mean()),
            p50=_percentile(ordered, 50),
            p90=_percentile(ordered, 90),
            p95=_percentile(ordered, 95),
            p99=_percentile(ordered, 99),
            p99_9=_percentile(ordered, 99.9),
            max=_rounded(ordered[-1]),
            jitter=_rounded(np.abs(np.diff(times)).mean()) if len(times) > 1 else None,
            samples=tuple(_rounded(value) for value in times[places]),
        )

    @property
    def ranked(self) -> F64:
        """The samples from the shortest to the longest, float64 [K]."""
        return np.sort(np.array(self.samples))

    @property
    def course(self) -> F64 | None:
        """The samples in the order in which they were taken, float64 [K]; None where only their ranks are known.

        Sorted samples count as ranks: that is how older results have them, and calls that are really timed do not
        come in that order, unless they are too few to show a course.
        """
        times = np.array(self.samples)
        return None if np.all(np.diff(times) >= 0) else times


def _percentile(times: F64, percent: float) -> float | None:
    """A percentile, None where not even one call is expected beyond it."""
    enough = len(times) * (100 - percent) >= 100 - 1e-9
    return _rounded(np.percentile(times, percent)) if enough else None


def _rounded(milliseconds: float) -> float:
    return round(float(milliseconds), 4)  # a tenth of a microsecond: the clock tells no more
