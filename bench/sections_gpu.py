"""What `make gpu` found beside the benches: the CUDA kernels, and the engine with either tail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import charts, kernels_page
from bench.charts import Row
from bench.page import Html, Section, bullets, element, missing, plain_table, section
from bench.results import Raw
from bench.sections_latency import NONE, milliseconds
from bench.sections_robot import part_origin
from bench.tails import KERNEL, NATIVE
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.measuring.measure import SAME


def kernels(found: Sequence[Raw]) -> Section:
    """What the CUDA kernels had to reach, and what they did."""
    title = "CUDA kernels, measured"
    if not found:
        return section(title, missing("No GPU has run them yet", "make gpu"))
    parts = []
    for raw in found:
        parts.append(element("h3", raw.values["device"]))
        parts += [
            part_origin(raw, part, name, raw.values["device"])
            for name, part in raw.values["parts"].items()
        ]
        rows = [
            (t.name, t.case, t.figure or NONE, t.verdict) for t in kernels_page.targets(raw.values)
        ]
        parts.append(plain_table(("to be reached", "case", "measured", "verdict"), rows))
    return section(title, *parts)


def tails(found: Sequence[Raw]) -> Section:
    """The FP16 engine with the native tail and with the kernel behind it, on each GPU that tried."""
    title = "Native tail and kernel tail, measured"
    if not found:
        return section(title, missing("No GPU has run them yet", "make gpu"))
    rule = f"{DEFAULT_MODEL} in FP16: ms of a call from faces to answers in host memory, both in turns."
    parts = [element("p", rule)]
    for raw in found:
        for backend, part in raw.values["parts"].items():
            parts += [element("h3", f"{raw.values['device']}, {backend}"), *_tails(raw, part)]
    return section(title, *parts)


def _tails(raw: Raw, part: Mapping[str, Any]) -> Iterator[Html]:
    yield part_origin(raw, part, part["outcome"], raw.values["device"])
    told = [
        f"Built ahead of time for {t['target']}: {t['outcome']}." for t in part.get("ahead", ())
    ]
    if part.get("said"):
        told.append(f"It said: {part['said']}")
    yield bullets(told)
    if timings := part.get("timings"):
        yield charts.figures([_ratios(raw, timings)])
        yield plain_table(
            ("profile", "batch", f"{NATIVE}, ms", f"{KERNEL}, ms", "the kernel is, times as fast"),
            [
                (
                    *(_profile(row["profile"]), str(row["batch"])),
                    *(milliseconds(row["ms"][name]) for name in (NATIVE, KERNEL)),
                    "{:.3f} ({:.3f} to {:.3f})".format(*row["kernel_is"]),
                )
                for row in timings
            ],
        )
    if engines := part.get("engines"):
        yield plain_table(
            ("engine", "profile", "MB", "operations", "not passed"),
            [
                (
                    *(row["engine"], _profile(row["batch"]), f"{row['megabytes']:.1f}"),
                    *(str(row["operations"] or NONE), ", ".join(row["failed"]) or NONE),
                )
                for row in engines
            ],
        )


def _profile(batch: Sequence[int]) -> str:
    return ":".join(map(str, batch))


def _ratios(raw: Raw, timings: Sequence[Mapping[str, Any]]) -> Html:
    rows = []
    for row in timings:
        value, low, high = row["kernel_is"]
        label = f"batch {row['batch']}, profile {_profile(row['profile'])}"
        rows.append(Row(label, f"{value:.2f}", value, low, high, 0))
    ends = [end for row in timings for end in row["kernel_is"]]
    shown = [end for end in ends if 1 / 16 < end < 16]
    axis = charts.logarithmic("times as fast", [*shown, 1 / SAME, SAME])
    what = f"How many times as fast the {KERNEL} is, {raw.values['device']}"
    told = "; ".join(f"{row.label}: {row.text}" for row in rows)
    svg = charts.rows(what, told, axis, rows, (1 / SAME, SAME))
    return charts.figure(svg, f"{what}: mean over the rounds and its 95 % interval.")
