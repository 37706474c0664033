"""The page of ``bench.soak``: the verdicts and the course of every run in its result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_TEXT = (
    "One process: a camera of 640x480 JPEGs with known stamps, a detector that knows the face, the loop with "
    "smoothing, the model on onnxruntime, JSON lines into a file. **The machine may have had other work "
    "meanwhile**: its load average, and how long the loop stood ready without a core, stand in the tables. "
    "Intervals are 95 %."
)
_ROWS = 12  # of a table
_HEAD = {
    "seconds": "minute",
    "answered": "answered",
    "dropped": "dropped",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "least_lag_ms": "least from stamp to answer, ms",
    "cpu_ms": "CPU a frame, ms",
    "waited_ms": "without a core a frame, ms",
    "rss_mib": "resident, MiB",
    "uss_mib": "private, MiB",
    "blocks": "Python's blocks",
    "fds": "open files",
    "threads": "threads",
    "load": "load",
}
_SUMS = ("answered", "dropped")
_LAST = ("seconds", "rss_mib", "uss_mib", "blocks", "fds", "threads")


def markdown(report: Mapping[str, Any]) -> str:
    """All parts of the result file."""
    lines = ["# The robot loop for hours", "", _TEXT]
    for name, part in report["parts"].items():
        samples, machine = part["samples"], part["machine"]
        load = samples["load"] or [0.0]
        lines += [
            "",
            f"## {name}",
            "",
            f"`{part['command']}`, {part['engine']}; {machine['cores']} cores of {machine['processor']}, "
            f"load {min(load):.1f} to {max(load):.1f}; {part['date'][:16].replace('T', ' ')}, "
            f"commit `{part['commit']}`.",
            "",
            "| promise | verdict | figures |",
            "| --- | --- | --- |",
            *(f"| {c['name']} | {c['verdict']} | {c['reason']} |" for c in part["checks"]),
        ]
        if samples["seconds"]:
            lines += ["", *_course(samples)]
    return "\n".join(lines) + "\n"


def _course(samples: Mapping[str, list[float]]) -> list[str]:
    """Samples put together to at most ``_ROWS`` rows: sums of what is counted, the last of what grows, medians."""
    count = len(samples["seconds"])
    groups = np.array_split(np.arange(count), min(_ROWS, count))
    rows = []
    for group in groups:
        cells = []
        for name in _HEAD:
            values = np.array(samples[name])[group]
            value = values.sum() if name in _SUMS else np.median(values)
            value = values[-1] if name in _LAST else value
            cells.append(_cell(name, float(value)))
        rows.append(f"| {' | '.join(cells)} |")
    head = f"| {' | '.join(_HEAD.values())} |"
    return [
        f"{count} samples in {len(groups)} rows: sums, medians, and the last of memory, files and threads.",
        "",
        head,
        f"| {' | '.join(['---'] * len(_HEAD))} |",
        *rows,
    ]


def _cell(name: str, value: float) -> str:
    if name == "seconds":
        return f"{value / 60:.1f}"
    return f"{value:.0f}" if value == int(value) and name != "load" else f"{value:.2f}"
