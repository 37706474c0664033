"""The page of ``bench.robot``: what its result file holds, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = (
    "Three processes on one machine, over Zenoh (TCP on loopback): a camera sends JPEGs of 640x480 with one moving "
    "face, the loop decodes, finds the face, crops, asks the bundled model and publishes JSON, a listener notes "
    "when it comes. Times in ms. **All three share a machine that may have had other work**: cores, and its load "
    "before and after, stand in the table. Total: from the camera's stamp to the listener. Own CPU time: of our "
    "code in both threads, without decoder, detector, engine and Zenoh; once with the crops, which are mostly "
    "Pillow's resampling, and once without them."
)
PERCENTILES = ("p50", "p95", "p99")
_HEAD = (
    *("run", "sent", "answered", "dropped", "lost on the way"),
    *("memory, settled to end", "cores", "load", "date"),
)


def markdown(report: Mapping[str, Any]) -> str:
    """All parts of the result file."""
    lines = ["# The robot loop, from camera to answer", "", _TEXT, ""]
    lines += [f"| {' | '.join(_HEAD)} |", f"| {' | '.join(['---'] * len(_HEAD))} |"]
    parts = sorted(report["parts"].items(), key=lambda item: item[1]["rate"])
    for name, part in parts:
        memory, load = part["memory_mib"], part["machine"]["load"]
        cells = [
            f"{name}, {part['seconds'] / 60:.1f} min",
            *(str(part[key]) for key in ("sent", "answered", "dropped")),
            str(len(part["lost_on_the_way"])),
            f"{memory['settled']:.1f} to {memory['end']:.1f} MiB",
            str(part["machine"]["cores"]),
            f"{load[0]:.1f} to {load[1]:.1f}",
            part["date"][:10],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| own CPU time, ms a frame | p50 | p95 | p99 |", "| --- | --- | --- | --- |"]
    for name, part in parts:
        cpu = part["own_cpu_ms"]
        lines.append(_row(f"{name}, with the crops", {key: cpu[key] for key in PERCENTILES}))
        if "without_crops" in cpu:  # results of before do not have it
            lines.append(_row(f"{name}, without the crops", cpu["without_crops"]))
    for name, part in parts:
        lines += ["", f"## {name}", "", "| ms | p50 | p95 | p99 |", "| --- | --- | --- | --- |"]
        lines += [_row(stage, figures) for stage, figures in part["latency_ms"].items()]
        lines.append(_row("in the loop: arrival to answer", part["loop_latency_ms"]))
        lines.append(_row("work on a frame", part["work_ms"]))
        minutes, cpu = part["each_minute_ms"], part["own_cpu_ms"]
        spread = ", ".join(
            f"{key} {min(m[key] for m in minutes):.1f} to {max(m[key] for m in minutes):.1f}"
            for key in minutes[0]
        )
        lines += [
            "",
            f"- Own CPU time, medians: {cpu['loop']:.2f} ms in the loop, of it {cpu['crop']:.2f} for the crops "
            f"(mostly Pillow), and {cpu['reading']:.2f} in the thread that reads.",
            f"- The total from minute to minute: {spread}.",
            f"- {part['within_two_frames_of_work']:.2%} of the answers took no longer than the work on the frame "
            f"before and on their own; {part['one_face']:.1%} have one face.",
            *(
                f"- {'Kept' if kept else '**Not kept**'}: {promise}."
                for promise, kept in part["kept"].items()
            ),
            f"- `{part['command']}`; {part['engine']}.",
        ]
    return "\n".join(lines) + "\n"


def _row(name: str, figures: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in figures.values()) + " |"
