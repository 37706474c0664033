"""Which engine to take: comparisons with their verdicts, what a precision wins and loses, accuracy against time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from bench import charts
from bench.charts import Plot, Row
from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Bench
from bench.sections_latency import (
    COMMAND,
    NONE,
    middle,
    milliseconds,
    name_of,
    short,
    spread,
    whence,
)
from convcut_trt.measuring.measure import ALIKE, FASTER, INCONCLUSIVE, SAME, SLOWER
from convcut_trt.measuring.results import STEADY, Compared, Measured, Series

_MOST_ROWS = 15  # of a figure; a table takes any number
_LOOKS = {FASTER: 2, SLOWER: 1, ALIKE: 0, INCONCLUSIVE: 6}
_OPPOSITE = {FASTER: SLOWER, SLOWER: FASTER}
_RULE = (
    "Each opening opens all of them afresh and calls them in turns; the interval (95 %) is over the openings. "
    "Faster and slower: the whole interval lies on one side of 1. Same: all of it lies within 2 % (the grey band). "
    "Inconclusive: neither, or the machine was throttled, swapping or busy."
)


def comparisons(benches: Sequence[Bench]) -> Section:
    """Every pair with its ratio, interval and verdict."""
    title = "Engines and peers against each other, measured"
    with_pairs = [bench for bench in benches if bench.result.compared]
    if not with_pairs:
        return section(title, missing("Nothing has been compared yet", COMMAND))
    parts = [element("p", _RULE)]
    for bench in with_pairs:
        parts += [element("h3", name_of(bench)), whence(bench), *_compared(bench)]
    return section(title, *parts)


def _compared(bench: Bench) -> list[Html]:
    pairs = bench.result.compared
    names = short(list(dict.fromkeys(name for pair in pairs for name in (pair.name, pair.other))))
    by_batch: dict[int, list[Compared]] = {}
    for pair in pairs:
        by_batch.setdefault(pair.batch, []).append(pair)
    drawn = [
        ratio_chart(
            "Ratios of speed",
            bench,
            batch,
            [
                ratio_row(f"{names[pair.name]} against {names[pair.other]}", pair)
                for pair in _drawn(found)
            ],
            len(found),
        )
        for batch, found in by_batch.items()
    ]
    head = ("engine", "against", "batch", "times as fast", "95 % interval", "verdict")
    table = plain_table(
        (*head, "medians, ms", "openings", "the machine"),
        [
            (
                *(names[pair.name], names[pair.other], str(pair.batch), f"{pair.ratio:.3f}"),
                *(interval(pair), pair.verdict),
                f"{_range(pair.name_ms)} against {_range(pair.other_ms)}",
                f"{pair.openings} of {pair.seconds:g} s",
                "; ".join(f"{flag}: {why}" for flag, why in pair.flags.items()) or NONE,
            )
            for pair in pairs
        ],
    )
    return [charts.figures(drawn), table]


def _drawn(pairs: Sequence[Compared]) -> list[Compared]:
    """Those of one batch that a figure has room for: of too many, some with the engine that is in most of them."""
    if len(pairs) <= _MOST_ROWS:
        return list(pairs)
    counts = Counter(name for pair in pairs for name in (pair.name, pair.other))
    ((most, _),) = counts.most_common(1)
    return [pair for pair in pairs if most in (pair.name, pair.other)][:_MOST_ROWS]


def ratio_row(label: str, pair: Compared) -> Row:
    """A row of ``ratio_chart``."""
    text = f"{pair.ratio:.2f}, {pair.verdict}"
    return Row(label, text, pair.ratio, pair.low, pair.high, _LOOKS[pair.verdict])


def ratio_chart(what: str, bench: Bench, batch: int, rows: Sequence[Row], of: int) -> Html:
    """Ratios of one batch, with the band of the same.

    Args:
        what: They are.
        bench: From where.
        batch: Faces in a call.
        rows: Each a ratio.
        of: How many there are in all.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    shown = [end for end in ends if 1 / 16 < end < 16] or [1.0]  # two openings' may be endless
    axis = charts.logarithmic("times as fast", [*shown, 1 / SAME, SAME])
    told = "; ".join(f"{row.label}: {row.text}" for row in rows)
    svg = charts.rows(
        f"{what}, batch {batch}, {name_of(bench)}", told, axis, rows, (1 / SAME, SAME)
    )
    caption = f"{what}, batch {batch}: mean over the openings and its 95 % interval."
    if len(rows) < of:
        caption += f" {len(rows)} of {of}; the table has all."
    return charts.figure(svg, caption)


def interval(pair: Compared) -> str:
    """The interval in a table."""
    if pair.low is None or pair.high is None:
        return "none yet"
    return f"{pair.low:.3f} to {pair.high:.3f}"


def _range(values: Sequence[float]) -> str:
    return f"{milliseconds(min(values))} to {milliseconds(max(values))}"


def turned(pair: Compared) -> Compared:
    """The same comparison, seen from the other side."""
    return Compared(
        name=pair.other,
        other=pair.name,
        batch=pair.batch,
        openings=pair.openings,
        seconds=pair.seconds,
        ratio=1 / pair.ratio,
        low=None if pair.high is None else 1 / pair.high,
        high=None if not pair.low else 1 / pair.low,
        verdict=_OPPOSITE.get(pair.verdict, pair.verdict),
        log_ratios=tuple(-value for value in pair.log_ratios),
        name_ms=pair.other_ms,
        other_ms=pair.name_ms,
        before=pair.before,
        after=pair.after,
        flags=pair.flags,
    )


def accuracy(benches: Sequence[Bench]) -> Section:
    """Accuracy against time, and which engines nothing beats in both."""
    title = "Accuracy against latency, measured"
    parts: list[Html] = []
    for bench in benches:
        points = [
            (number, one, series)
            for number, one in enumerate(bench.result.measured)
            if one.accuracy is not None
            and (series := next((s for s in one.series if s.way == STEADY), None)) is not None
        ]
        if points:
            parts += [element("h3", name_of(bench)), whence(bench), *_accuracy(bench, points)]
    if not parts:
        parts = [missing("No bench has answered labelled faces yet", COMMAND)]
    return section(title, *parts)


def _accuracy(bench: Bench, points: Sequence[tuple[int, Measured, Series]]) -> list[Html]:
    names = short([one.subject.name for _, one, _ in points])
    found = [
        (number, names[one.subject.name], one.accuracy, series)
        for number, one, series in points
        if one.accuracy is not None
    ]
    places = [(middle(series.times), share.share) for _, _, share, series in found]
    front = pareto(places)
    ends = [spread(series.times) for *_, series in found]
    x = charts.logarithmic("median, ms a call", [end for both in ends for end in both])
    y = charts.linear(
        "accuracy, %", [100 * end for _, _, share, _ in found for end in (share.low, share.high)]
    )
    told = "; ".join(
        f"{name}: {share.share:.2%} at {middle(series.times):.3g} ms"
        for _, name, share, series in found
    )
    sizes = ", ".join(sorted({str(series.batch) for *_, series in found}))
    plot = Plot(f"Accuracy against latency, batch {sizes}, {name_of(bench)}", told, x, y)
    plot.line(_stairs([places[k] for k in front]), 0, "front")
    for (number, _, own, _), (ms, _), (low, high) in zip(found, places, ends, strict=True):
        plot.upright(ms, 100 * own.low, 100 * own.high, number)
        plot.level(low, high, 100 * own.share, number)
        plot.mark(ms, 100 * own.share, number)
    data = ", ".join(sorted({s.data for _, _, s, _ in found}))
    caption = (
        f"On {data}. Upright bars: 95 % intervals; level bars: from the 5th to the 95th percentile of the calls, "
        f"batch {sizes}. The grey border runs through what nothing else beats in both, by the marks."
    )
    legend = [(name, number) for number, name, _, _ in found]
    table = plain_table(
        ("engine", "accuracy", "95 % interval", "faces", "batch", "median, ms", "beaten in both"),
        [
            (
                *(name, f"{share.share:.2%}", f"{share.low:.2%} to {share.high:.2%}"),
                *(f"{share.images:,}", str(series.batch), milliseconds(middle(series.times))),
                "no" if place in front else "yes",
            )
            for place, (_, name, share, series) in enumerate(found)
        ],
    )
    return [charts.figures([charts.figure(plot.svg(), caption, legend)]), table]


def _stairs(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The border of what is reached, from below the fastest to the right of the most accurate, in percent."""
    points, reached = [], -math.inf
    for ms, share in sorted(front):
        points += [(ms, reached), (ms, 100 * share)]
        reached = 100 * share
    return [*points, (math.inf, reached)]


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats: none is at once as fast and as right, and better in one of both.

    Args:
        points: Milliseconds and accuracy.
    """
    return [
        number
        for number, (ms, share) in enumerate(points)
        if not any(
            other_ms <= ms and other >= share and (other_ms, other) != (ms, share)
            for other_ms, other in points
        )
    ]
