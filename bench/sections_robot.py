"""Around the engine: the whole robot loop, the face detectors, and what its threads cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from bench import charts
from bench.charts import Row
from bench.page import Html, Section, bullets, element, missing, plain_table, section
from bench.results import Raw
from bench.sections_latency import NONE, commit


def robot(found: Sequence[Raw]) -> Section:
    """From the camera's stamp to the answer that a listener has."""
    title = "From camera to answer, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.robot"))
    return section(title, *(part for raw in found for part in _robot(raw)))


def _robot(raw: Raw) -> Iterator[Html]:
    yield element(
        "p",
        "A camera, the loop and a listener, each a process of its own on one machine, over Zenoh. Times in ms.",
    )
    for name, part in raw.values["parts"].items():
        stages = part["latency_ms"]
        yield element("h3", name)
        yield part_origin(raw, part, part["engine"], raw.values["device"])
        ends = [figures[key] for figures in stages.values() for key in ("p50", "p99")]
        axis = charts.logarithmic("ms", [max(end, 0.01) for end in ends])
        rows = [
            Row(
                stage,
                f"{figures['p50']:.2f}, p99 {figures['p99']:.2f}",
                max(figures["p50"], 0.01),
                max(figures["p50"], 0.01),
                max(figures["p99"], 0.01),
                1 if stage == "total" else 0,
            )
            for stage, figures in stages.items()
        ]
        told = "; ".join(f"{row.label}: {row.text}" for row in rows)
        svg = charts.rows(f"Time of each stage, {name}", told, axis, rows)
        caption = "Each stage: the median, and a bar from there to the 99th percentile."
        yield charts.figures([charts.figure(svg, caption)])
        columns = list(next(iter(stages.values())))
        cells = [(stage, *(f"{f[key]:.2f}" for key in columns)) for stage, f in stages.items()]
        yield plain_table(("stage, ms", *columns), cells)
        counts = ", ".join(f"{part[key]} {key}" for key in ("sent", "answered", "dropped"))
        cpu, memory = part["own_cpu_ms"], part["memory_mib"]
        yield bullets(
            [
                f"{part['seconds'] / 60:.1f} minutes: {counts}.",
                f"Our own code: {cpu['p50']:.2f} ms of CPU time a frame (p99 {cpu['p99']:.2f}).",
                f"Memory: {memory['settled']:.1f} MiB settled, {memory['end']:.1f} MiB at the end.",
                *(
                    f"{'Kept' if kept else 'Not kept'}: {what}."
                    for what, kept in part["kept"].items()
                ),
            ]
        )


def detectors(found: Sequence[Raw]) -> Section:
    """How many faces each detector finds, and what its crop costs in accuracy."""
    title = "Face detectors, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.detectors"))
    return section(title, *(part for raw in found for part in _detectors(raw)))


def _detectors(raw: Raw) -> Iterator[Html]:
    head = (
        "detector",
        "found",
        "accuracy, picture",
        "through detector",
        "change, points",
        "ms a frame",
    )
    rows = []
    for name, part in raw.values["parts"].items():
        low, high = (100 * end for end in part["change_interval"])
        rows.append(
            (
                name,
                f"{part['found']} of {part['images']}, {_percent(part['found_interval'])}",
                *(_accuracy(part[key]) for key in ("accuracy_plain", "accuracy_through")),
                f"{100 * part['change']:+.1f} ({low:+.1f} to {high:+.1f})",
                f"{part['milliseconds']:.0f}",
            )
        )
    yield element("p", "Faces at random places in an empty frame of 640x480; intervals are 95 %.")
    yield plain_table(head, rows)
    for part in raw.values["parts"].values():
        yield part_origin(
            raw, part, f"{part['data']}, {part['images']} faces", raw.values["device"]
        )


def _accuracy(entry: Mapping[str, Any]) -> str:
    return f"{entry['value']:.1%}, {_percent(entry['interval'])}"


def _percent(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def aligned(found: Sequence[Raw]) -> Section:
    """What black bars beside a face do to the answers."""
    title = "Aligned faces with black bars, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.aligned --data FACES"))
    parts = []
    for raw in found:
        values = raw.values
        rows = [("no bars", _accuracy(values["plain"]), NONE)]
        rows += [
            (f"box of {shape}", _accuracy(of["bars"]), _accuracy(of["inner"]))
            for shape, of in values["boxes"].items()
        ]
        parts.append(plain_table(("face", "accuracy", "accuracy, inner square"), rows))
        what = f"{values['model']} on {values['data']}, {values['plain']['images']} faces"
        parts.append(part_origin(raw, values, what, "CPU"))
    return section(title, *parts)


def spinning(found: Sequence[Raw]) -> Section:
    """What threads cost that go on spinning after a run."""
    title = "Spinning threads of onnxruntime, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.spinning"))
    parts = []
    for raw in found:
        rows = []
        for way, sessions in raw.values["rounds"].items():
            for name, rounds in sessions.items():
                found_of = [[one[key] for one in rounds] for key in ("p50_ms", "p90_ms", "cores")]
                rows.append((way, name, *map(_usual, found_of)))
        parts.append(plain_table(("asked", "threads", "p50, ms", "p90, ms", "cores busy"), rows))
        rounds_of = len(next(iter(next(iter(raw.values["rounds"].values())).values())))
        parts.append(
            part_origin(raw, raw.values, f"{raw.values['model']}, {rounds_of} rounds", "CPU")
        )
    return section(title, *parts)


def _usual(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def part_origin(raw: Raw, part: Mapping[str, Any], what: str, device: str) -> Html:
    """Where a part of a file comes from."""
    machine = part["machine"]
    load = f", load {' to '.join(f'{v:.1f}' for v in machine['load'])}" if "load" in machine else ""
    return element(
        "p",
        f"{what}. {device}, {machine['cores']} cores of {machine['processor']}{load}. ",
        element("code", part["command"]),
        f", {part['date'][:10]}{commit(part['commit'])}. From ",
        element("code", raw.file),
        ".",
        class_="origin",
    )
