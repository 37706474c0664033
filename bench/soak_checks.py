"""What has to hold of a soak, told from its samples: each promise is kept, broken, or not shown by them.

Slopes are Theil and Sen's with their 95 % interval (Sen 1968, JASA 63, 1379-1389): the median of the slopes of all
pairs of samples, which a few outliers do not move. The start, a quarter of the run but at most ten minutes, is left
out. In runs below two minutes the stream is still filling its record of its last 1000 answers: memory grows there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

KEPT, BROKEN, NOT_SHOWN = "kept", "broken", "not shown"
MOST_MIB = 1.0
"""An hour, by which memory may grow."""
MOST_BLOCKS = 0.1
"""Blocks of Python's allocator that a frame may leave behind: 30 times a second that is about a MiB an hour, too. A
frame leaves up to 0.03 of them in the first minutes, while CPython's cache of method names fills."""
MOST_DRIFT_MS = 5.0
"""An hour, by which answers may fall behind the stamps of their frames, or gain on them."""
BAND = 1.25
"""Of the median of the last quarter to that of the second: latency and CPU time are flat up to here."""
SETTLING = (0.25, 600.0)
"""Share of the run, and seconds at most, that are left out."""
LEAST = 8
"""Samples without which no slope is looked at."""

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """A promise, its verdict, and the figures behind it."""

    name: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class _Limit:
    """A column, and by how much it may grow an hour."""

    column: str
    most: float
    unit: str
    both_ways: bool = False


def checks(found: Mapping[str, Any], rate: float) -> list[Check]:
    """The verdicts on a run.

    Args:
        found: See ``soak_loop.soak``.
        rate: Frames a second.
    """
    column = {name: np.array(values) for name, values in found["samples"].items()}
    seconds = column["seconds"]
    settled = seconds >= min(SETTLING[0] * seconds.max(initial=0), SETTLING[1])
    after = {name: values[settled] for name, values in column.items()}
    return [
        _slope("resident memory flat", after, _Limit("rss_mib", MOST_MIB, "MiB")),
        _slope("private memory flat", after, _Limit("uss_mib", MOST_MIB, "MiB")),
        _slope(
            "Python's memory flat", after, _Limit("blocks", MOST_BLOCKS * rate * 3600, "blocks")
        ),
        _constant("open files flat", after["fds"]),
        _constant("threads flat", after["threads"]),
        _level("latency p99 flat", column, "p99_ms"),
        _level("CPU time a frame flat", column, "cpu_ms"),
        _slope(
            "no drift against the stamps", after, _Limit("least_lag_ms", MOST_DRIFT_MS, "ms", True)
        ),
        *_counted(found["counts"]),
    ]


def _slope(name: str, after: Mapping[str, F64], limit: _Limit) -> Check:
    values = after[limit.column]
    if len(values) < LEAST:
        return _too_few(name, values)
    slope, _, low, high = theilslopes(values, after["seconds"] / 3600, 0.95)
    least = -limit.most if limit.both_ways else -np.inf
    inside = high < limit.most and low > least
    outside = low >= limit.most or high <= least
    verdict = KEPT if inside else BROKEN if outside else NOT_SHOWN
    sign = "±" if limit.both_ways else ""
    return Check(
        name,
        verdict,
        f"{slope:+.3g} {limit.unit} an hour ({low:+.3g} to {high:+.3g}), allowed {sign}{limit.most:g}; "
        f"{values[0]:.6g} to {values[-1]:.6g} {limit.unit}",
    )


def _constant(name: str, values: F64) -> Check:
    if not len(values):
        return _too_few(name, values)
    low, high = int(values.min()), int(values.max())
    return Check(name, KEPT if low == high else BROKEN, f"{low} to {high}")


def _level(name: str, column: Mapping[str, F64], key: str) -> Check:
    seconds = column["seconds"]
    if len(seconds) < LEAST:
        return _too_few(name, seconds)
    quarter = np.minimum(seconds * 4 // seconds.max(), 3)
    second, last = (
        {of: float(np.median(column[of][quarter == number])) for of in (key, "waited_ms", "load")}
        for number in (1, 3)
    )
    ratio = last[key] / second[key]
    slope, _, low, high = theilslopes(column[key][quarter > 0], seconds[quarter > 0] / 3600, 0.95)
    # What rises by chance alone, or while the loop waits more for a core, says nothing of the loop.
    disturbed = last["waited_ms"] > second["waited_ms"] * BAND
    verdict = KEPT if ratio <= BAND else NOT_SHOWN if low <= 0 or disturbed else BROKEN
    return Check(
        name,
        verdict,
        f"{second[key]:.2f} ms in the second quarter, {last[key]:.2f} in the last: {ratio:.2f} times, "
        f"allowed {BAND}; "
        f"{slope:+.3g} ms an hour ({low:+.3g} to {high:+.3g}); without a core {second['waited_ms']:.2f} and "
        f"{last['waited_ms']:.2f} ms a frame, load {second['load']:.1f} and {last['load']:.1f}",
    )


def _counted(counts: Mapping[str, int]) -> Iterator[Check]:
    wrong = counts["altered"] + counts["unordered"]
    yield Check(
        "stamps pass unchanged and in order",
        BROKEN if wrong or not counts["lines"] else KEPT,
        f"{counts['lines']} answers, {counts['altered']} of them altered, {counts['unordered']} out of order",
    )
    accounted = counts["processed"] + counts["dropped"] + counts["bad"]
    sums = counts["frames"] == accounted and counts["lines"] == counts["processed"]
    yield Check(
        "every frame accounted for",
        KEPT if sums and not counts["bad"] and not counts["bad_boxes"] else BROKEN,
        f"{counts['frames']} frames, {counts['processed']} answered, {counts['dropped']} dropped, "
        f"{counts['bad']} bad; {counts['lines']} lines written",
    )


def _too_few(name: str, values: Sequence[float] | F64) -> Check:
    return Check(name, NOT_SHOWN, f"{len(values)} samples are too few: run longer")
