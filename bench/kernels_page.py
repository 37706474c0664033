"""The page of ``kernels.DEVICE.json``: what had to be reached, and every figure with its floor beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.kernel_methods import EMPTY, KERNEL
from bench.turns import BACK_TO_BACK, IN_GRAPH, WAITED

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"
FACES_US = 20.0
FACES_DEVICE = "H200"
_EAGER, _COMPILE = "torch eager", "torch.compile"
_NONE = "–"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """Something to reach, and whether it was.

    Attributes:
        name: What.
        case: Of which rows the worst counts.
        figure: The worst, with its interval; empty where nothing was measured.
        verdict: ``met``: the whole interval is on the right side; ``not met``; ``not measured``.
    """

    name: str
    case: str
    figure: str
    verdict: str


def targets(whole: Row) -> list[Target]:
    """Of a result file, in the order of the page."""
    found = []
    rows = [row for row in _rows(whole, "tail") if row["batch"] == 1]
    for attention in ("channel", "spatial", "none"):
        chosen = [row for row in rows if row["attention"] == attention]
        for way in (WAITED, BACK_TO_BACK):
            case = f"{attention} attention, batch 1, {way}"
            for channels, limit in ((32, 1.5), (256, 3.0)):
                of = [row for row in chosen if row["channels"] == channels]
                name = f"C = {channels}: at most {limit:g} times an empty kernel"
                found.append(_judged(name, case, of, EMPTY, way, limit, at_most=True))
            for rival, times in ((_COMPILE, 3.0), (_EAGER, 10.0)):
                name = f"at least {times:g} times as fast as {rival}"
                found.append(_judged(name, case, chosen, rival, way, times, at_most=False))
    return [*found, _faces(whole)]


def _judged(
    name: str, case: str, rows: Sequence[Row], rival: str, way: str, limit: float, *, at_most: bool
) -> Target:
    """The worst over the rows and over all methods whose name begins with the rival's."""
    ratios = []
    for row in rows:
        for method, ways in row.get("kernel_is", {}).items():
            if method.startswith(rival) and way in ways:
                ratios.append((ways[way], f"{_shape(row)}{method.removeprefix(rival)}"))
    if not ratios:
        return Target(name, case, "", NOT_MEASURED)
    sign = -1 if at_most else 1
    # The end of the interval that lies on the wrong side decides.
    (value, low, high), which = min(ratios, key=lambda ratio: sign * ratio[0][2 if at_most else 1])
    reached = high <= limit if at_most else low >= limit
    figure = f"{value:.2f} ({low:.2f} to {high:.2f}), the worst: {which}"
    return Target(name, case, figure, MET if reached else NOT_MET)


def _faces(whole: Row) -> Target:
    name = f"8 faces of a 1080p frame below {FACES_US:g} us of GPU time on an {FACES_DEVICE}"
    case = "90th percentile, the slowest format"
    times = [
        (row["methods"][KERNEL][IN_GRAPH]["p90"], row["format"])
        for row in _rows(whole, "preprocessing")
        if row["faces"] == 8 and IN_GRAPH in row.get("methods", {}).get(KERNEL, {})
    ]
    if not times or FACES_DEVICE not in whole["device"]:
        return Target(name, case, "", NOT_MEASURED)
    slowest, format = max(times)
    return Target(name, case, f"{slowest:.2f} us, {format}", MET if slowest < FACES_US else NOT_MET)


def markdown(whole: Row) -> str:
    """The whole page."""
    parts = [f"# The kernels on {whole['device']}"]
    for name, part in whole["parts"].items():
        parts.append(_origin(name, part))
    parts.append(
        "Microseconds. *waited*: one call from Python until its answer is there. *back to back*: calls from Python "
        "one behind the other, waited for once, divided. *in a graph*: GPU time of many runs in one CUDA graph, "
        "divided. Maps are float32 [N, C, H, W], as engines write them, with 8 classes. Inputs lie "
        "in GPU memory, warm in its cache, as the trunk leaves them; every method was checked "
        "against float64 or the twin, its outputs poisoned before. Methods took turns in random order; intervals "
        "are 95 % bootstrap intervals over rounds. The floor is the formula of the kernel's header comment "
        "without the launch, which the empty kernel shows."
    )
    head = ("target", "case", "measured", "verdict")
    rows = [(t.name, t.case, t.figure or _NONE, t.verdict) for t in targets(whole)]
    parts += ["## What had to be reached", _table(head, rows)]
    if "tail" in whole["parts"]:
        parts += _tail_tables(_rows(whole, "tail"))
    if "preprocessing" in whole["parts"]:
        parts += _faces_tables(_rows(whole, "preprocessing"))
    return "\n\n".join(parts) + "\n"


def _origin(name: str, part: Row) -> str:
    versions = ", ".join(f"{key} {value}" for key, value in part["versions"].items())
    clocks = (
        f"{when} {_clock(part[f'clocks_{when}'])}"
        for when in ("before", "after")
        if f"clocks_{when}" in part
    )
    return (
        f"{name}: `{part['command']}` at commit {part['commit']}, {part['date']}, {part['seconds']:.0f} s. "
        f"Compute capability {part['compute_capability']}, {part['multiprocessors']} multiprocessors, memory "
        f"copies at {part['copy_gb_per_s']:.0f} GB/s; clocks {', '.join(clocks)}. {versions}."
    )


def _clock(state: Row | None) -> str:
    if state is None:
        return "not readable"
    held = ", ".join(state.get("throttle") or ())
    return (
        f"SM {state['sm_mhz']} MHz, memory {state['memory_mhz']} MHz{f' ({held})' if held else ''}"
    )


def _tail_tables(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Tail: from Python, batch 1"
    names = _methods(rows)
    single = [row for row in rows if row["batch"] == 1]
    for way in (WAITED, BACK_TO_BACK):
        yield f"{way}, median / 99th percentile"
        lines = [(_shape(row), *_cells(row, names, way, with_p99=True)) for row in single]
        yield _table(("tail", *names), lines)
    yield "## Tail: GPU time in a graph, median"
    graphed = _methods(rows, IN_GRAPH)
    for shape in dict.fromkeys(map(_shape, rows)):
        yield f"### {shape}"
        lines = [
            (str(row["batch"]), _floor(row), *_cells(row, graphed, IN_GRAPH))
            for row in rows
            if _shape(row) == shape
        ]
        yield _table(("batch", "floor", *graphed), lines)
    yield from _reasons(rows)


def _faces_tables(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Preprocessing of a frame in GPU memory"
    for way in (WAITED, IN_GRAPH):
        names = _methods(rows, way)
        note = " (with planning and the copy of the boxes)" if way == WAITED else " (kernel alone)"
        yield f"{way}{note}, median"
        lines = [
            (_frame(row), str(row["faces"]), _floor(row), *_cells(row, names, way)) for row in rows
        ]
        yield _table(("frame", "faces", "floor", *names), lines)
    yield from _reasons(rows)


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """Why there are no figures, each reason once."""
    reasons = {row["reason"]: "shapes" for row in rows if "reason" in row}
    for row in rows:
        for name, method in row.get("methods", {}).items():
            if "reason" in method:
                reasons.setdefault(method["reason"], name)
    if reasons:
        yield "\n".join(f"- {name}: {reason}" for reason, name in reasons.items())


def _methods(rows: Sequence[Row], way: str = WAITED) -> list[str]:
    names = dict.fromkeys(
        name for row in rows for name, method in row.get("methods", {}).items() if way in method
    )
    return sorted(names, key=lambda name: (name != KERNEL, name != EMPTY))


def _cells(row: Row, names: Sequence[str], way: str, *, with_p99: bool = False) -> Iterator[str]:
    for name in names:
        figures = row.get("methods", {}).get(name, {}).get(way)
        if figures is None:
            yield _NONE
        else:
            yield f"{figures['p50']:.2f}" + (f" / {figures['p99']:.2f}" if with_p99 else "")


def _floor(row: Row) -> str:
    values = [value for value in row.get("floor", {}).values() if value is not None]
    return f"{max(values):.3f}" if values else _NONE


def _frame(row: Row) -> str:
    width, height = row["frame"]
    return f"{width}x{height} {row['format']}"


def _shape(row: Row) -> str:
    units = f", projection to {row['units']}" if row["units"] else ""
    return f"C {row['channels']}, {row['side']}x{row['side']}{units}, {row['attention']}"


def _rows(whole: Row, part: str) -> list[Row]:
    rows: list[Row] = whole["parts"].get(part, {}).get("rows", [])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
