"""The devices: what was measured on them, and apart from it what is estimated for them from datasheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache

from bench import charts
from bench.charts import Row
from bench.page import Html, Section, bullets, element, missing, plain_table, section
from bench.results import Bench, Raw
from bench.roof_of import estimate_of, typed
from bench.sections_latency import COMMAND, NONE, commit, middle, milliseconds, spread, state
from convcut_trt.devices import Device, Figures, known
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.measuring.results import ON_GPU, STEADY, Measured, Series
from convcut_trt.measuring.roofline import Estimate, estimate_for

PRECISIONS = ("fp32", "fp16", "int8")
_LOOKS = {"fp32": 0, "fp16": 1, "int8": 2}
_SHEET = {
    "bandwidth_gb_s": "memory, GB/s",
    "fp32_tflops": "FP32, TFLOP/s",
    "fp16_tflops": "FP16, TFLOP/s",
    "int8_tops": "INT8, TOP/s",
    "l2_mb": "L2, MB",
    "memory_gb": "memory, GB",
    "power_w": "power, W",
}


def measured(benches: Sequence[Bench], roofs: Sequence[Raw]) -> Section:
    """A row for every engine and peer on every device it was measured on.

    Args:
        benches: With these.
        roofs: Of processors, files of ``bench.roofs``.
    """
    title = "Devices, measured"
    rows = [
        (*_where(bench), *_row(bench, one, series, roofs))
        for bench in benches
        for one in bench.result.measured
        if (series := typical(one)) is not None
    ]
    if not rows:
        return section(title, missing("No device has been measured yet", COMMAND))
    head = ("device", "date", "engine", "way", "batch", "median, ms", "5th to 95th percentile")
    more = ("faces/s", "of the roof (an estimate)", "clocks", "flags", "from")
    note = element(
        "p",
        "The fastest way of timing that the device allows. The share of the roof sets a measured time against an "
        "estimate: from the datasheet of a GPU, or from roofs measured on all cores of the same processor. It is "
        "there where the device and the network are known.",
    )
    return section(title, note, plain_table((*head, *more), rows))


def _where(bench: Bench) -> tuple[str, str]:
    return bench.result.machine.device, bench.result.date[:10]


def _row(bench: Bench, one: Measured, series: Series, roofs: Sequence[Raw]) -> tuple[str, ...]:
    low, high = spread(series.times)
    time = middle(series.times)
    guess = estimate_of(bench.result.machine, one, series.batch, roofs)
    return (
        *(one.subject.name, series.way, str(series.batch), milliseconds(time)),
        f"{milliseconds(low)} to {milliseconds(high)}",
        f"{series.throughput:,.0f}",
        NONE if guess is None else guess.against(time),
        "; ".join(state(one)) or NONE,
        ", ".join(one.flags) or NONE,
        f"{bench.file}{commit(bench.result.commit)}",
    )


def typical(one: Measured) -> Series | None:
    """What stands for an engine in one line: timed on the GPU alone, else steady, at the first batch."""
    for way in (ON_GPU, STEADY):
        for series in one.series:
            if series.way == way:
                return series
    return None


@dataclass(frozen=True)
class Estimated:
    """One variant of a device, and its estimates by precision."""

    device: Device
    figures: Figures
    by_precision: Mapping[str, Estimate]

    @property
    def name(self) -> str:
        """With the variant."""
        variant = self.figures.variant
        return f"{self.device.name}, {variant}" if variant else self.device.name


@cache
def estimated() -> tuple[Estimated, ...]:
    """Every variant of every device with figures, for the bundled model, batch 1."""
    models = {precision: typed(DEFAULT_MODEL, precision, "", "") for precision in PRECISIONS}
    return tuple(
        Estimated(
            device,
            figures,
            {p: estimate_for(device, model, 1, figures.variant) for p, model in models.items()},
        )
        for device in known().values()
        for figures in device.variants
    )


def estimates() -> Section:
    """What is estimated for every device, and the datasheets behind it. Nothing here is measured."""
    found = estimated()
    basis = next(iter(found[0].by_precision.values())).basis
    text = element(
        "p",
        element("strong", "Nothing in this section was measured. "),
        f"Estimates for {DEFAULT_MODEL}, batch 1, of ",
        element("code", "convcut_trt.measuring.roofline"),
        f": {basis}. Each range goes from a device that hides all it can to one that reaches a third of its roofs.",
    )
    head = (
        "device (estimate)",
        *(f"{p}, ms (estimate)" for p in PRECISIONS),
        "fp16 floor, ms (estimate)",
    )
    table = plain_table(
        (*head, "fp16 limited by (estimate)"),
        [
            (
                each.name,
                *(_range(each.by_precision[precision]) for precision in PRECISIONS),
                f"{each.by_precision['fp16'].floor_ms:.2g}",
                each.by_precision["fp16"].limited_by,
            )
            for each in found
        ],
    )
    without = bullets(_without())
    drawn = charts.figures(_chart(found, precision) for precision in ("fp16", "int8"))
    sheets = element("h3", "Datasheets that the estimates come from")
    return section("Devices, estimates", text, drawn, table, without, sheets, *_datasheets(found))


def _range(estimate: Estimate) -> str:
    return f"{estimate.expected_ms:.2g} ({estimate.low_ms:.2g} to {estimate.high_ms:.2g})"


def _chart(found: Sequence[Estimated], precision: str) -> Html:
    guesses = [(each.name, each.by_precision[precision]) for each in found]
    axis = charts.logarithmic(
        "ms a face (estimate)",
        [end for _, guess in guesses for end in (guess.low_ms, guess.high_ms)],
    )
    rows = [
        Row(name, _range(guess), guess.expected_ms, guess.low_ms, guess.high_ms, _LOOKS[precision])
        for name, guess in guesses
    ]
    told = "; ".join(f"{row.label}: {row.text} ms" for row in rows)
    title = f"Estimated time of a face, {precision}, not measured"
    caption = f"Estimates, {precision}, with their ranges. Not measurements."
    return charts.figure(charts.rows(title, told, axis, rows), caption)


def _without() -> Iterator[str]:
    """Devices that have no estimate, and why."""
    for device in known().values():
        if not device.variants:
            why = device.note if not device.flavours else "no datasheet figures of it are kept"
            yield f"{device.name}: no estimate; {why}."


def _datasheets(found: Sequence[Estimated]) -> Iterator[Html]:
    rows = []
    for each in found:
        doubtful = each.figures.doubtful
        cells = (
            f"{getattr(each.figures, name):g}{' ?' if name in doubtful else ''}" for name in _SHEET
        )
        rows.append((each.name, *cells, each.device.sm, ", ".join(each.device.flavours)))
    head = ("device (datasheet)", *_SHEET.values(), "architecture", "backends")
    yield plain_table(head, rows)
    yield element("p", "Dense figures, none with sparsity. A question mark: doubtful, because")
    names = {field.name for field in fields(Figures)}
    yield bullets(
        f"{device.name}, {_SHEET.get(name, name.replace('_', ' '))}: {why}"
        for device in known().values()
        if device.variants
        for name, why in device.variants[0].doubtful.items()
        if name in names
    )
    sources = {url: None for each in found for url in each.figures.sources.values()}
    links = (
        element("a", url.removeprefix("https://"), href=url)
        for url in sources
        if url.startswith("https://")
    )
    yield element("details", element("summary", "Sources"), bullets(links))
