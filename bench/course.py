"""How the calls of a series went from the first to the last: drift, throttling, and calls that stray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bench import charts
from bench.charts import Strip
from bench.page import Html
from convcut_trt.measuring.results import Series
from convcut_trt.measuring.timed import F64

_PIECES = 50
_STRAY = 99  # percentile of what was kept of a series
_ROOM = 0.9, 1.5  # of the median, at least: noise alone does not fill a strip
_Points = list[tuple[float, float]]


def course(bench: str, given: Sequence[tuple[int, str, Series]]) -> Iterator[Html]:
    """A figure of those whose calls are known in their order; nothing where only the ranks of all are.

    Args:
        bench: Its name.
        given: Looks, name and series of each engine, all timed in the same way.
    """
    found = [
        (_strip(number, name, times), series)
        for number, name, series in given
        if (times := series.times.course) is not None
    ]
    if not found:
        return
    strips = [strip for strip, _ in found]
    told = "; ".join(f"{strip.label}: {strip.text}" for strip in strips)
    size = ", ".join(sorted({str(series.batch) for _, series in found}))
    what = f"{found[0][1].way}, batch {size}"
    x = charts.linear("share of the calls, %", (0, 100))
    svg = charts.strips(f"Course of the calls, {what}, {bench}", told, x, strips)
    seconds = _span([series.times.calls * series.times.mean / 1000 for _, series in found])
    caption = (
        f"{what}: ms of the calls in the order in which they were made, {seconds} s of each. Where more than "
        f"{_PIECES} calls are kept, the lines show the medians of {_PIECES} pieces, and the marks the longest "
        "hundredth, at the upper edge where they lie beyond it. On the right the ends of each line."
    )
    yield charts.figures([charts.figure(svg, caption)])


def _strip(number: int, name: str, times: F64) -> Strip:
    line, stray = _pieces(times)
    middle = float(np.median(times))
    ends = [*(middle * share for share in _ROOM), *(ms for _, ms in line)]
    y = charts.logarithmic("ms", ends)
    y = replace(y, ticks=tuple((end, _short(end)) for end in (min(ends), max(ends))))
    text = f"{_short(line[0][1])}, at last {_short(line[-1][1])} ms"
    return Strip(name, text, y, line, stray, number)


def _short(milliseconds: float) -> str:
    return charts.number(float(f"{milliseconds:.3g}"))


def _pieces(times: F64) -> tuple[_Points, _Points]:
    """Percent of the series and ms: of a line along it, and of the calls that stray."""
    places = np.linspace(0, 100, len(times))
    if len(times) <= _PIECES:
        return _points(places, times), []
    split = (np.array_split(values, _PIECES) for values in (places, times))
    line = [(float(at.mean()), float(np.median(ms))) for at, ms in zip(*split, strict=True)]
    far = times > np.percentile(times, _STRAY)
    return line, _points(places[far], times[far])


def _points(places: F64, times: F64) -> _Points:
    return list(zip(places.tolist(), times.tolist(), strict=True))


def _span(values: Sequence[float]) -> str:
    low, high = (f"{end:.2g}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
