"""A sweep as text: what became of every engine, how fast it is, and the fastest that passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from convcut_trt.measuring.bench_table import table
from convcut_trt.measuring.measure import FASTER
from convcut_trt.measuring.results import STEADY, Compared, Result
from convcut_trt.measuring.sweep_plan import Cell

PASSED, FAILED, REFUSED, CRASHED = "passed", "failed", "refused", "crashed"
"""failed: at a gate or in the builder; refused: it cannot be built here; crashed: its process ended."""


@dataclass(frozen=True)
class Fate:
    """How a cell ended.

    Attributes:
        kind: ``PASSED``, ``FAILED``, ``REFUSED`` or ``CRASHED``.
        reason: Why; empty where it passed.
    """

    kind: str
    reason: str


def text(
    cells: Sequence[Cell], fates: Mapping[str, Fate], result: Result, batches: Sequence[int]
) -> str:
    """A row for each cell, why some have no times, and the fastest of each network at each batch."""
    head = ["engine", "outcome"]
    for batch in batches:
        head += [f"batch {batch}, ms", "times as fast"]
    rows = [head, *(_row(cell.name, fates.get(cell.name), result, batches) for cell in cells)]
    parts = [table(rows)]
    reasons: dict[str, list[str]] = {}
    for name, fate in fates.items():
        if fate.reason:
            reasons.setdefault(f"{fate.kind}: {fate.reason}", []).append(name)
    parts += [f"{reason}\n  {', '.join(names)}" for reason, names in reasons.items()]
    networks = dict.fromkeys(cell.network for cell in cells)
    parts += ["\n".join(_fastest(network, result, batches)) for network in networks]
    if not result.complete:
        parts.append("not complete: the same command goes on with what is missing")
    return "\n\n".join(part for part in parts if part)


def _row(name: str, fate: Fate | None, result: Result, batches: Sequence[int]) -> list[str]:
    row = [name, "not yet" if fate is None else fate.kind]
    times = {
        series.batch: series.times.p50
        for one in result.measured
        if one.subject.name == name
        for series in one.series
        if series.way == STEADY
    }
    compared = {one.batch: one for one in result.compared if one.name == name}
    for batch in batches:
        time = times.get(batch)
        row.append("-" if time is None else f"{time:.3f}")
        row.append(_ratio(compared[batch]) if batch in compared else "1" if times else "-")
    return row


def _ratio(compared: Compared) -> str:
    if compared.low is None or compared.high is None:
        return compared.verdict
    return f"{compared.ratio:.2f} ({compared.low:.2f} to {compared.high:.2f}), {compared.verdict}"


def _fastest(network: str, result: Result, batches: Sequence[int]) -> Iterator[str]:
    """A line for each batch. All were compared with one engine: where intervals overlap, two are not told apart."""
    names = [one.subject.name for one in result.measured if one.subject.model == network]
    if not names:
        return
    for batch in batches:
        found = [one for one in result.compared if one.batch == batch and one.name in names]
        faster = [one for one in found if one.verdict == FASTER]
        head = f"{network}, batch {batch}: "
        if not faster:
            yield f"{head}none that passed is shown to be faster than {names[0]}"
            continue
        best = max(faster, key=lambda one: one.ratio)
        alike = [
            one.name for one in found if one is not best and (one.high or 0.0) >= (best.low or 0.0)
        ]
        said = f"; not told apart from it: {', '.join(alike)}" if alike else ""
        yield (
            f"{head}{best.name} is the fastest that passed, {best.ratio:.2f}x {best.other} "
            f"({best.low:.2f} to {best.high:.2f}){said}"
        )
