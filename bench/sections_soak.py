"""The robot loop for hours: its verdicts, and the course of latency and memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import charts
from bench.charts import Plot
from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Raw
from bench.sections_latency import commit

_CURVES = (
    ("Latency, ms", "ms", (("median", "p50_ms", 0), ("99th percentile", "p99_ms", 1))),
    ("Memory, MiB", "MiB", (("resident", "rss_mib", 0), ("private", "uss_mib", 1))),
)


def soak(found: Sequence[Raw]) -> Section:
    """What stayed flat."""
    title = "The loop for hours, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.soak"))
    return section(title, *(part for raw in found for part in _soak(raw)))


def _soak(raw: Raw) -> Iterator[Html]:
    for name, part in raw.values["parts"].items():
        samples, machine = part["samples"], part["machine"]
        load = samples["load"]
        beside = f", load {min(load):.1f} to {max(load):.1f}" if load else ""
        yield element("h3", name)
        yield element(
            "p",
            f"{part['engine']}. {machine['cores']} cores of {machine['processor']}{beside}. ",
            element("code", part["command"]),
            f", {part['date'][:10]}{commit(part['commit'])}. From ",
            element("code", raw.file),
            ".",
            class_="origin",
        )
        cells = [(check["name"], check["verdict"], check["reason"]) for check in part["checks"]]
        yield plain_table(("promise", "verdict", "figures"), cells)
        if len(load) > 1:
            yield charts.figures(_curve(name, samples, *curve) for curve in _CURVES)


def _curve(
    name: str,
    samples: Mapping[str, Any],
    title: str,
    unit: str,
    series: Sequence[tuple[str, str, int]],
) -> Html:
    minutes = [seconds / 60 for seconds in samples["seconds"]]
    values = [value for _, column, _ in series for value in samples[column]]
    told = "; ".join(
        f"{what}: {min(samples[column]):.1f} to {max(samples[column]):.1f}"
        for what, column, _ in series
    )
    plot = Plot(
        f"{title}, {name}",
        told,
        charts.linear("minutes", [0, *minutes]),
        charts.linear(unit, [0, *values]),
    )
    for _, column, looks in series:
        plot.line(list(zip(minutes, samples[column], strict=True)), looks)
    return charts.figure(plot.svg(), f"{title}.", [(what, looks) for what, _, looks in series])
