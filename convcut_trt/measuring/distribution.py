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
        samples: The calls, sorted; of more than ``KEPT`` so many, evenly spaced by rank, the first and the last
            among them.
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
        ranks = np.linspace(0, len(times) - 1, min(KEPT, len(times))).round().astype(int)
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
            samples=tuple(_rounded(value) for value in ordered[ranks]),
        )


def _percentile(times: F64, percent: float) -> float | None:
    """A percentile, None where not even one call is expected beyond it."""
    enough = len(times) * (100 - percent) >= 100 - 1e-9
    return _rounded(np.percentile(times, percent)) if enough else None


def _rounded(milliseconds: float) -> float:
    return round(float(milliseconds), 4)  # a tenth of a microsecond: the clock tells no more
