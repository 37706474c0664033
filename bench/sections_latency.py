"""What benches measured of each engine for itself: distributions, batches, memory, energy, the machine's state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bench import charts
from bench.charts import Plot
from bench.course import course
from bench.page import Html, Section, element, joined, missing, plain_table, section
from bench.results import Bench
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.distribution import Distribution
from convcut_trt.measuring.results import ON_GPU, STEADY, Measured, Series

NONE = "–"
COMMAND = "convcut-trt bench --batch 1,4,16 --data FACES -o bench/results/DEVICE.json"
_POINTS = 70  # of a curve
_WAYS = (
    "steady: calls one behind the other, from faces in host memory to answers there. after idle: the same, 30 "
    "times a second, as from a camera. frame to label: from a frame and a box to the label. on the GPU: between "
    "events, faces and answers in GPU memory, as a CUDA graph. All times are of whole calls, in ms."
)


def latency(benches: Sequence[Bench]) -> Section:
    """Distributions of the times, and tables of them."""
    title = "Latency, measured"
    if not benches:
        return section(title, missing("Yet to be measured", COMMAND))
    parts = [element("p", _WAYS)]
    for bench in benches:
        parts += [element("h3", name_of(bench)), origin(bench), *_of(bench)]
    return section(title, *parts)


def _of(bench: Bench) -> Iterator[Html]:
    names = short([one.subject.name for one in bench.result.measured])
    yield charts.figures(_curves(bench, way, names) for way in _ways(bench))
    steady = [(number, names[name], series) for number, name, series in _first(bench, STEADY)]
    yield from course(name_of(bench), steady)
    head = ("engine", "way", "batch", "p50", "p90", "p95", "p99", "p99.9", "max", "jitter", "calls")
    yield plain_table(
        (*head, "faces/s"),
        [
            (names[one.subject.name], *_cells(series))
            for one in bench.result.measured
            for series in one.series
        ],
    )
    yield plain_table(
        (
            "engine",
            "precision",
            "opened",
            "first call",
            "memory",
            "energy of a face",
            "made with",
            "the machine",
        ),
        [(names[one.subject.name], *_facts(one)) for one in bench.result.measured],
    )


def batches(benches: Sequence[Bench]) -> Section:
    """Time and throughput over the batch."""
    title = "More faces in a call, measured"
    parts = []
    for bench in benches:
        drawn = [
            _batch_curve(bench, way, chosen, rate=rate)
            for way in (STEADY, ON_GPU)
            if (chosen := _of_several(bench, way))
            for rate in (False, True)
        ]
        if drawn:
            parts += [element("h3", name_of(bench)), whence(bench), charts.figures(drawn)]
    if not parts:
        parts = [missing("No bench has measured several batches yet", COMMAND)]
    return section(title, *parts)


def _of_several(bench: Bench, way: str) -> dict[str, list[Series]]:
    """Series of those that were timed in this way at several batches, by name."""
    found = {
        one.subject.name: [series for series in one.series if series.way == way]
        for one in bench.result.measured
    }
    return {name: series for name, series in found.items() if len(series) > 1}


def _batch_curve(
    bench: Bench, way: str, chosen: Mapping[str, Sequence[Series]], *, rate: bool
) -> Html:
    names = short(list(chosen))
    places = {name: [_place(s, rate=rate) for s in found] for name, found in chosen.items()}
    every = [place for found in places.values() for place in found]
    label, what = ("faces/s", "Throughput") if rate else ("ms a call", "Time of a call")
    sizes = [batch for batch, *_ in every]
    x = charts.marked(charts.logarithmic("faces in a call", sizes), sizes)
    y = charts.logarithmic(label, [end for _, _, *ends in every for end in ends])
    told = "; ".join(
        f"{names[name]}, batch {batch:.0f}: {charts.number(value)}"
        for name, found in places.items()
        for batch, value, *_ in found
    )
    plot = Plot(f"{what} over the batch, {way}, {name_of(bench)}", f"{label}: {told}", x, y)
    for number, found in enumerate(places.values()):
        plot.line([place[:2] for place in sorted(found)], number)
        for batch, value, low, high in found:
            plot.upright(batch, low, high, number)
            plot.mark(batch, value, number)
    caption = f"{what} over the batch, {way}: medians, bars from the 5th to the 95th percentile."
    return charts.figure(plot.svg(), caption, [(names[n], k) for k, n in enumerate(chosen)])


def _place(series: Series, *, rate: bool) -> tuple[float, float, float, float]:
    """Batch, and the middle and the ends of the times or of the faces a second."""
    low, high = spread(series.times)
    times = (middle(series.times), low, high)
    if not rate:
        return float(series.batch), *times
    value, most, least = (1000 * series.batch / ms for ms in times)
    return float(series.batch), value, least, most


def _ways(bench: Bench) -> list[str]:
    return list(dict.fromkeys(s.way for one in bench.result.measured for s in one.series))


def _curves(bench: Bench, way: str, names: Mapping[str, str]) -> Html:
    """Every engine's percentiles at the first batch measured in this way."""
    found = _first(bench, way)
    curves = [(number, name, _curve(series.times)) for number, name, series in found]
    x = charts.percentiles("percentile", max(series.times.calls for _, _, series in found))
    y = charts.logarithmic("ms", [ms for _, _, points in curves for _, ms in points])
    told = "; ".join(
        f"{names[name]}: median {middle(series.times):.3g} ms, longest of {series.times.calls} "
        f"{series.times.max:.3g} ms"
        for _, name, series in found
    )
    size = ", ".join(sorted({str(series.batch) for _, _, series in found}))
    plot = Plot(f"Percentiles of the time, {way}, batch {size}, {name_of(bench)}", told, x, y)
    for number, _, points in curves:
        plot.line(points, number)
    caption = f"{way}, batch {size}: the time that a share of the calls stays below, up to the longest call."
    return charts.figure(plot.svg(), caption, [(names[name], n) for n, name, _ in curves])


def _first(bench: Bench, way: str) -> list[tuple[int, str, Series]]:
    """Number, name and first series of those that were timed in this way."""
    return [
        (number, one.subject.name, series)
        for number, one in enumerate(bench.result.measured)
        if (series := next((s for s in one.series if s.way == way), None)) is not None
    ]


def _curve(times: Distribution) -> list[tuple[float, float]]:
    """Percentile and time: of few calls from all of them, of more from 90 on only what was kept of all."""
    samples = times.ranked
    whole = len(samples) == times.calls
    end = 1 - 1 / max(len(samples), 2) if whole else 0.9
    shares = 1 - np.logspace(0, np.log10(1 - end), _POINTS)
    inside = np.interp(shares, np.linspace(0, 1, len(samples)), samples)
    points = [(100 * float(share), float(ms)) for share, ms in zip(shares, inside, strict=True)]
    if whole:
        return points
    high = ((90, times.p90), (95, times.p95), (99, times.p99), (99.9, times.p99_9))
    known = [(float(percent), ms) for percent, ms in high if ms is not None]
    known.append((100 * (1 - 1 / times.calls), times.max))
    # What is kept may exceed the percentile of all by a little.
    return [*((percent, min(ms, known[0][1])) for percent, ms in points[:-1]), *known]


def _cells(series: Series) -> tuple[str, ...]:
    times = series.times
    shown = (times.p50, times.p90, times.p95, times.p99, times.p99_9, times.max, times.jitter)
    way = series.way if series.settled else f"{series.way}, unsettled"
    rate = f"{series.throughput:,.0f}"
    return way, str(series.batch), *map(milliseconds, shown), f"{times.calls:,}", rate


def _facts(one: Measured) -> tuple[str, ...]:
    memory, energy = one.memory, one.energy
    sizes = {"engine": memory.engine, "peak": memory.peak, "GPU": memory.gpu}
    # older results have less than nothing where memory was freed meanwhile
    sizes_known = [
        f"{name} {size / 1e6:.0f} MB"
        for name, size in sizes.items()
        if size is not None and size > 0
    ]
    cost = NONE
    if energy is not None:
        watts = f"{energy.watts:.1f} W, idle {energy.idle_watts:.1f} W"
        cost = f"{energy.joules * 1000:.3g} mJ at {watts} ({energy.of})"
    said = [f"{flag}: {why}" for flag, why in one.flags.items()]
    said += [f"{way} not measured: {why}" for way, why in one.not_measured.items()]
    return (
        one.subject.precision,
        f"{one.open_ms:.0f} ms",
        f"{one.first_ms:.2f} ms",
        ", ".join(sizes_known) or NONE,
        cost,
        _made_with(one),
        "; ".join([*state(one), *said]) or NONE,
    )


def _made_with(one: Measured) -> str:
    """What an engine was built with, or what a peer is; and of which file."""
    own = one.subject
    if "builder" in own.versions:
        parts = [f"{own.flavour} {own.versions['builder']}"]
    else:
        parts = [f"{name} {number}" for name, number in own.versions.items()]
    if own.target:
        parts.append(f"for {own.target}")
    if own.operations is not None:
        parts.append(f"{own.operations} operations")
    known = [digest for digest in own.sha256.values() if digest]
    parts += [f"sha256 {digest[:12]}" for digest in known[:1]]
    return ", ".join(parts) or NONE


def state(one: Measured) -> list[str]:
    """Power mode; clock, temperature, power and what holds the clock down, before and after."""
    found = []
    for when, moment in (("before", one.before), ("after", one.after)):
        if moment.gpu is not None:
            said = _gpu(moment.gpu)
        else:
            said = [] if moment.cpu_mhz is None else [f"{moment.cpu_mhz:.0f} MHz"]
        if said:
            found.append(f"{', '.join(said)} {when}")
    mode = one.before.gpu.power_mode if one.before.gpu else one.before.governor
    return [*([mode] if mode else []), *found]


def _gpu(state: State) -> list[str]:
    figures = ((state.sm_mhz, "MHz"), (state.temperature_c, "°C"), (state.power_w, "W"))
    known = [f"{value:.0f} {unit}" for value, unit in figures if value is not None]
    return [*known, *(state.throttle or ())]


def middle(times: Distribution) -> float:
    """The median; the mean of fewer than two calls."""
    return times.mean if times.p50 is None else times.p50


def spread(times: Distribution) -> tuple[float, float]:
    """The 5th percentile of what was kept, and the 95th of all calls; of few calls that of what was kept too."""
    low, high = np.percentile(times.samples, (5, 95))
    return float(low), float(high) if times.p95 is None else times.p95


def milliseconds(value: float | None) -> str:
    """A time in a table."""
    return NONE if value is None else f"{value:.3f}" if value < 100 else f"{value:.0f}"


def name_of(bench: Bench) -> str:
    """A bench for people."""
    models = ", ".join(dict.fromkeys(one.subject.model for one in bench.result.measured))
    return f"{bench.result.machine.device}: {models}"


def origin(bench: Bench) -> Html:
    """Where a bench's figures come from, with everything that is known of the machine."""
    result, machine = bench.result, bench.result.machine
    where = f"{machine.device}, {machine.cores} cores, {machine.system}"
    if machine.processor != machine.device:
        where += f", {machine.processor}"
    more = {"driver": machine.driver, "CUDA": machine.cuda, "JetPack": machine.jetpack}
    where += "".join(f", {name} {value}" for name, value in more.items() if value)
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    parts = [where, ". ", *_source(bench), f" {versions}."]
    if not result.complete:
        parts.append(" Not complete: it was stopped, or an engine answered wrong.")
    parts += [f" {name} is left out: {why}." for name, why in result.skipped.items()]
    return element("p", joined(parts), class_="origin")


def whence(bench: Bench) -> Html:
    """The same in one line."""
    machine = bench.result.machine
    where = f"{machine.device}, {machine.cores} cores. "
    return element("p", where, *_source(bench), class_="origin")


def _source(bench: Bench) -> tuple[str, ...]:
    result = bench.result
    date = f", {result.date[:10]}{commit(result.commit)}. From "
    return element("code", result.command), date, element("code", bench.file), "."


def commit(found: str | None) -> str:
    """A commit in a sentence; empty where it is not known."""
    if not found:
        return ""
    return f", commit {found[:12]}{' with changes' if found.endswith('-dirty') else ''}"


def short(names: Sequence[str]) -> dict[str, str]:
    """Names of engines without the dotted parts that all of them begin or end with; those of peers have none."""
    parts = {name: name.split(".") for name in names}
    dotted = [part for part in parts.values() if len(part) > 1]
    for place in (0, -1):
        while (
            len(dotted) > 1
            and all(len(p) > 1 for p in dotted)
            and len({p[place] for p in dotted}) == 1
        ):
            for part in dotted:
                part.pop(place)
    return {name: ".".join(part) for name, part in parts.items()}
