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
    drawn = [pair for pair in pairs if pair.name == pairs[0].name][:_MOST_ROWS]
    drawn = list(pairs) if len(pairs) <= _MOST_ROWS else drawn
    rows = [
        _row(f"{names[pair.name]} against {names[pair.other]}", pair, _LOOKS[pair.verdict])
        for pair in drawn
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
    return [_ratios("Ratios of speed", bench, rows, drawn[0].batch), table]


def _row(label: str, pair: Compared, series: int) -> Row:
    return Row(label, f"{pair.ratio:.2f}, {pair.verdict}", pair.ratio, pair.low, pair.high, series)


def _ratios(what: str, bench: Bench, rows: Sequence[Row], batch: int) -> Html:
    """Rows of ratios, with the band of the same."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    shown = [end for end in ends if 1 / 16 < end < 16] or [1.0]  # two openings' may be endless
    axis = charts.logarithmic("times as fast", [*shown, 1 / SAME, SAME])
    told = "; ".join(f"{row.label}: {row.text}" for row in rows)
    svg = charts.rows(
        f"{what}, batch {batch}, {name_of(bench)}", told, axis, rows, (1 / SAME, SAME)
    )
    caption = f"{what}, batch {batch}: mean over the openings and its 95 % interval."
    return charts.figures([charts.figure(svg, caption)])


def interval(pair: Compared) -> str:
    """The interval in a table."""
    if pair.low is None or pair.high is None:
        return "none yet"
    return f"{pair.low:.3f} to {pair.high:.3f}"


def _range(values: Sequence[float]) -> str:
    return f"{milliseconds(min(values))} to {milliseconds(max(values))}"


def precisions(benches: Sequence[Bench]) -> Section:
    """What each precision and placement gains over FP32, and how it did at the gates."""
    title = "Precision and placement, measured"
    parts: list[Html] = []
    for bench in benches:
        engines = [one for one in bench.result.measured if one.subject.kind == "engine"]
        if len(engines) > 1:
            parts += [element("h3", name_of(bench)), whence(bench), *_precisions(bench, engines)]
    if not parts:
        parts = [missing("No bench has measured several engines yet", COMMAND)]
    return section(title, *parts)


def _precisions(bench: Bench, engines: Sequence[Measured]) -> list[Html]:
    names = short([one.subject.name for one in engines])
    rows, drawn, batch = [], [], 1
    for one in engines:
        subject = one.subject
        pair = _over_fp32(bench, one, engines)
        gain = NONE
        if pair is not None:
            gain = f"{pair.ratio:.3f} ({interval(pair)}), {pair.verdict}"
            batch = pair.batch
            drawn.append(_row(f"{names[subject.name]} over fp32", pair, _LOOKS[pair.verdict]))
        verdicts = Counter(str(gate.get("verdict")) for gate in subject.gates)
        counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or NONE
        rows.append(
            (
                *(names[subject.name], subject.flavour, subject.precision),
                *(subject.placement or NONE, subject.mlp or NONE, subject.tail or NONE),
                *(gain, counted, _open(one), subject.verified_on or NONE),
                *(_detail(one, "agreement"), f"{one.difference:.2g}", subject.judged_on or NONE),
            )
        )
    head = ("engine", "backend", "precision", "placement", "MLPs", "tail", "times as fast as fp32")
    more = ("gates", "not passed", "gates ran on", "labels kept", "largest difference", "judged on")
    table = plain_table((*head, *more), rows)
    if not drawn:
        return [table]
    return [_ratios("Speed over the FP32 engine", bench, drawn, batch), table]


def _detail(one: Measured, name: str) -> str:
    """What a gate said, as the manifest has it."""
    found = (str(g.get("detail")) for g in one.subject.gates if g.get("name") == name)
    return next(found, NONE)


def _open(one: Measured) -> str:
    """Gates that did not pass, by name."""
    gates = one.subject.gates
    found = [f"{g.get('name')}: {g.get('verdict')}" for g in gates if g.get("verdict") != "pass"]
    return ", ".join(found) or NONE


def _over_fp32(bench: Bench, one: Measured, engines: Sequence[Measured]) -> Compared | None:
    """The comparison with the FP32 engine of the same network, turned so that it comes second."""
    own = one.subject
    same = [
        e.subject for e in engines if e.subject.asked == "fp32" and e.subject.model == own.model
    ]
    same.sort(key=lambda subject: subject.flavour != own.flavour)
    if not same or same[0].name == own.name:
        return None
    for pair in bench.result.compared:
        if (pair.name, pair.other) == (own.name, same[0].name):
            return pair
        if (pair.other, pair.name) == (own.name, same[0].name):
            return turned(pair)
    return None


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
