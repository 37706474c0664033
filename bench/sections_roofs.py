"""Rooflines: what layers and networks reach of what a device could do, and what estimates are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench import charts
from bench.charts import Plot
from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Bench, Raw
from bench.roof_of import device_of, estimate_of, figures_of
from bench.sections_devices import typical
from bench.sections_latency import commit, middle, name_of, short
from convcut_trt.measuring.results import ON_GPU
from convcut_trt.measuring.roofline import Estimate
from convcut_trt.measuring.work import PRODUCTS

_COMMAND = "python -m bench.roofs conv-cut-mini --precision fp32"
Point = tuple[str, int, float, float]
"""Name, series, operations a byte, 1e9 operations a second."""


def roofline(roofs: Sequence[Raw], benches: Sequence[Bench]) -> Section:
    """The plots, and a table of whole networks."""
    text = element(
        "p",
        "A point is a layer, a kind of layers, or a whole network: its operations a byte (a multiply-add is two) "
        "and how many it did in a second. The slanted lines are bandwidths, the level ones peaks of computing; "
        "operations and bytes are counted in the graph. A CPU's lines are measured too, beside other work and at "
        "their lower quartile, so that a layer may come to lie a little above.",
    )
    drawn = [figure for raw in roofs for figure in _cpu(raw)]
    drawn += [figure for bench in benches for figure in _gpu(bench)]
    tables = [table for raw in roofs for table in _wholes(raw)]
    tables += _wholes_on_gpu(benches)
    if not drawn and not tables:
        return section("Rooflines", missing("Yet to be measured", _COMMAND))
    return section("Rooflines", text, charts.figures(drawn), *tables)


def _cpu(raw: Raw) -> Iterator[Html]:
    """A plot for each network and precision, on the most threads: what it multiplies below the CPU's roofs."""
    parts = sorted(raw.values["parts"].values(), key=lambda part: int(part.get("threads", 1)))
    widest = {(part["network"].partition(",")[0], part["precision"]): part for part in parts}
    for part in widest.values():
        # files of older versions do not count
        large = [row for row in part["layers"] if row.get("multiply_adds")]
        shown = {row["kind"] for row in large}
        small = [row for row in part["kinds"] if row.get("multiply_adds")]
        points: list[Point] = [
            (row["kind"], PRODUCTS.index(row["kind"]), *_at(row))
            for row in (*large, *(row for row in small if row["kind"] not in shown))
        ]
        if not points:
            continue
        worst = max(part["passes"], key=lambda found: found["factor"])["roofs"]
        peaks = {k: v * 1000 for k, v in worst["tflops"].items() if k != "fp16"}
        bandwidths = {"memory": worst["memory_gb_s"], "last cache": worst["cache_gb_s"]}
        title = (
            f"{part['network']}, {part['precision']}, on a CPU of {part['machine']['cores']} cores"
        )
        caption = (
            f"{title}: layers above 2 % of the time, and of kinds with no such layer all together, measured by "
            f"onnxruntime's profile; the roofs are measured too. {part['command']}, {part['date'][:10]}"
            f"{commit(part['commit'])}, {raw.file}."
        )
        yield _plot(title, caption, points, peaks, bandwidths, sorted({p[:2] for p in points}))


def _at(row: Mapping[str, float]) -> tuple[float, float]:
    operations = 2 * row["multiply_adds"]
    return operations / row["bytes"], operations / row["measured_us"] / 1e3


def _gpu(bench: Bench) -> Iterator[Html]:
    """Whole networks below the datasheet's roofs, where the device and its power mode are known."""
    device = device_of(bench.result.machine)
    if device is None:
        return
    names = short([one.subject.name for one in bench.result.measured])
    points: dict[str, list[Point]] = {}
    for number, one in enumerate(bench.result.measured):
        series, figures = typical(one), figures_of(device, one.before.gpu)
        guess = series and estimate_of(bench.result.machine, one, series.batch)
        if series and guess and figures:
            place = _whole(guess, middle(series.times))
            found = points.setdefault(figures.variant, [])
            found.append((names[one.subject.name], number, *place))
    for variant, found in points.items():
        figures = device.figures(variant)
        peaks = {
            "fp32": figures.fp32_tflops * 1e3,
            "fp16": figures.fp16_tflops * 1e3,
            "int8": figures.int8_tops * 1e3,
        }
        mode = f", {variant}" if len(device.variants) > 1 else ""
        title = f"Whole networks on {name_of(bench)}{mode}, below the datasheet's roofs"
        caption = f"{title}. {bench.result.command}, {bench.result.date[:10]}, {bench.file}."
        legend = [(name, number) for name, number, *_ in found]
        yield _plot(title, caption, found, peaks, {"memory": figures.bandwidth_gb_s}, legend)


def _whole(guess: Estimate, milliseconds: float) -> tuple[float, float]:
    operations = 2 * sum(layer.work.multiply_adds for layer in guess.layers)
    moved = sum(layer.work.bytes for layer in guess.layers)
    return operations / moved, operations / milliseconds / 1e6


def _plot(
    title: str,
    caption: str,
    points: Sequence[Point],
    peaks: Mapping[str, float],
    bandwidths: Mapping[str, float],
    legend: Sequence[tuple[str, int]],
) -> Html:
    ridge = max(peaks.values()) / min(bandwidths.values())
    x = charts.logarithmic(
        "operations a byte",
        [*(point[2] for point in points), max(p[2] for p in points) * 6, ridge / 30],
    )
    rates = [point[3] for point in points]
    y = charts.logarithmic("10⁹ operations/s", [*rates, *(1.3 * peak for peak in peaks.values())])
    told = "; ".join(f"{name}: {rate:.3g} at {at:.3g}" for name, _, at, rate in points)
    roofs = [f"{name} {charts.number(peak)}" for name, peak in peaks.items()]
    roofs += [f"{name} {rate:.4g} GB/s" for name, rate in bandwidths.items()]
    plot = Plot(f"Roofline: {title}", f"Roofs: {', '.join(roofs)}. Points: {told}", x, y)
    low, high, bottom = 10**x.low, 10**x.high, 10**y.low
    for name, peak in peaks.items():
        plot.line([(peak / max(bandwidths.values()), peak), (high, peak)], 6, "roof")
        plot.note(high, peak, f"{name} {charts.number(peak)}")
    for rate in bandwidths.values():
        start = max(low, bottom / rate)
        plot.line(
            [(start, start * rate), (end := max(peaks.values()) / rate, end * rate)], 6, "roof"
        )
    for _, series, at, rate in points:
        plot.mark(at, rate, series)
    return charts.figure(plot.svg(), f"{caption} {', '.join(roofs)}.", legend)


def _wholes(raw: Raw) -> Iterator[Html]:
    """What the estimates of whole networks are worth on the CPU that they were held against."""
    yield element("h3", "Estimates against measurements of whole networks")
    rows = []
    for part in raw.values["parts"].values():
        passes = part["passes"]
        shares = [found["floor_ms"] / found["measured_ms"] for found in passes]
        rows.append(
            (
                *(part["network"], part["precision"]),
                *(
                    _ends([found[key] for found in passes])
                    for key in ("measured_ms", "estimate_ms")
                ),
                _ends([100 * share for share in shares]),
                _ends([found["factor"] for found in passes]),
                f"CPU, {part['machine']['cores']} cores: {part['command']}, {part['date'][:10]}",
            )
        )
    head = ("network", "precision", "measured, ms", "estimate, ms", "of the floor's speed, %")
    yield plain_table((*head, "factor between both", "where"), rows)


def _wholes_on_gpu(benches: Sequence[Bench]) -> Iterator[Html]:
    """The same on GPUs with a datasheet: every batch of which the GPU's own time was measured."""
    rows = []
    for bench in benches:
        machine = bench.result.machine
        timed = (
            (one, series)
            for one in bench.result.measured
            for series in one.series
            if series.way == ON_GPU and device_of(machine) is not None
        )
        for one, series in timed:
            guess = estimate_of(machine, one, series.batch)
            if guess is None:
                continue
            time = middle(series.times)
            factor = max(time / guess.expected_ms, guess.expected_ms / time)
            within = guess.low_ms <= time <= guess.high_ms
            rows.append(
                (
                    *(one.subject.name, str(series.batch), f"{time:.3g}"),
                    f"{guess.expected_ms:.3g} ({guess.low_ms:.3g} to {guess.high_ms:.3g})",
                    f"{100 * guess.floor_ms / time:.3g}",
                    *(f"{factor:.3g}", "yes" if within else "no"),
                    f"{guess.name}: {bench.file}, {bench.result.date[:10]}",
                )
            )
    if rows:
        yield element("h3", "Estimates against measurements of whole networks on GPUs")
        head = ("engine", "batch", "measured, ms", "estimate, ms (its range)")
        more = ("of the floor's speed, %", "factor between both", "inside the range", "where")
        yield plain_table((*head, *more), rows)


def _ends(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
