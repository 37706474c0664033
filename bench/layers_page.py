"""The page of ``layers.DEVICE.json``: what estimates for a GPU are worth, as a whole and by groups of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.kernels_page import NOT_MEASURED, Target
from convcut_trt.measuring.roofline import GPU_USUAL

WHOLE, LAYER = 2.0, 3.0
"""The factors that a whole network and a group of layers above 2 % of its time are meant to stay within."""
KEPT, MISSED = "kept", "missed"
RULE = (
    "Estimates are made of the roofs named beside them, a datasheet's or those measured here, with an assumed "
    f"efficiency of {GPU_USUAL.share:.0%} and {GPU_USUAL.overhead_us:g} us a layer; everything else is measured. A "
    "whole network is timed between events, in a CUDA graph, its operations by TensorRT's profiler outside of one, "
    "where they take longer. A group is whole operations and whole layers that belong together by the "
    "engine's own report. A factor is the larger of measured over estimate and estimate over measured. The large "
    "networks have random weights, which times do not feel."
)
WHOLES = (
    *("network", "precision", "batch", "roofs", "measured, ms", "estimate, ms (its range)"),
    *("factor", "reached", "groups above 2 %: factor", "not attributed"),
)
GROUPS = (
    *("network", "layers", "operations", "share of time", "measured, us", "estimate, us"),
    *("factor", "reached"),
)
_NONE = "–"
_NAMED = 2  # layers of a group that a cell names

Row = Mapping[str, Any]


def targets(part: Row) -> list[Target]:
    """Of one backend: the worst factors against each of the roofs."""
    against = [(row, one) for row in part["cases"] for one in row.get("against", ())]
    names = list(dict.fromkeys(one["roofs"] for _, one in against))
    found = []
    for name in names or ["any roofs"]:
        of = [(row, one) for row, one in against if one["roofs"] == name]
        found += [
            _judged("a whole network", f"against {name}", WHOLE, "factor", of),
            _judged("layers above 2 % of the time", f"against {name}", LAYER, "layer_factor", of),
        ]
    return found


def _judged(
    what: str, case: str, limit: float, key: str, rows: Sequence[tuple[Row, Row]]
) -> Target:
    """The worst of all."""
    name = f"{what}: estimate within {limit:g} times"
    factors = [(one[key], _case(row)) for row, one in rows if one.get(key) is not None]
    if not factors:
        return Target(name, case, "", NOT_MEASURED)
    worst, which = max(factors)
    return Target(name, case, f"{worst:.2f}, {which}", KEPT if worst <= limit else MISSED)


def wholes(part: Row) -> Iterator[tuple[str, ...]]:
    """The rows below ``WHOLES``."""
    for row in part["cases"]:
        for one in row.get("against", ()):
            low, high = one["range_ms"]
            yield (
                *(row["network"], row["precision"], str(row["batch"]), one["roofs"]),
                f"{row['measured_ms']:.4g}",
                f"{one['estimate_ms']:.3g} ({low:.3g} to {high:.3g})",
                f"{one['factor']:.2f}",
                _reached(one),
                _by_groups(one),
                _lost(row),
            )


def groups(part: Row) -> Iterator[tuple[str, ...]]:
    """The rows below ``GROUPS``, against the first roofs: the datasheet's, where there is one."""
    for row in part["cases"]:
        for group in row["against"][0].get("groups", ()) if row.get("against") else ():
            yield (
                *(_case(row), _some(group["layers"]), str(len(group["operations"]))),
                f"{100 * group['share']:.1f} %",
                *(f"{group['measured_us']:.4g}", f"{group['estimate_us']:.3g}"),
                *(f"{group['factor']:.2f}", _reached(group)),
            )


def notes(part: Row) -> Iterator[str]:
    """What was not measured, what could not be attributed, and what the roofs are."""
    for roof in part["roofs"]:
        yield (
            f"{roof['name']} ({roof['source']}): FP32 {roof['fp32_tflops']:.4g}, FP16 {roof['fp16_tflops']:.4g} "
            f"TFLOP/s, INT8 {roof['int8_tops']:.4g} TOP/s, memory {roof['memory_gb_s']:.4g} GB/s, L2 "
            f"{roof['l2_mb']:.4g} MB."
        )
    yield from (f"Roofs that are missing: {why}." for why in part["missing"])
    for row in part["cases"]:
        if "told" not in row:
            yield f"{row['network']} {row['precision']}: {row['outcome']}"
            continue
        if not row["told"]:
            yield f"{_case(row)}: of single operations TensorRT told {row['said']}."
            continue
        reported = "none" if row["reported"] is None else str(row["reported"])
        yield (
            f"{_case(row)}: {row['told']} operations took {row['told_us']:.4g} us one by one; the engine's report "
            f"names {reported}, the network has {row['layers']} layers. {_unattributed(row)}"
        )


def _unattributed(row: Row) -> str:
    texts = []
    if row["strangers"]:
        named = ", ".join(
            f"{one['operation']} ({one['measured_us']:g} us)" for one in row["strangers"][:3]
        )
        texts.append(f"Operations of no layer: {_lost(row)}, the longest {named}.")
    absent = row["against"][0]["absent"] if row["against"] else []
    if absent:
        names = _some([one["layer"] for one in absent])
        time = sum(one["estimate_us"] for one in absent)
        texts.append(f"Layers of no operation: {names}, {time:.3g} us by the estimate.")
    return " ".join(texts) or "All are attributed."


def markdown(whole: Row) -> str:
    """The page of all backends."""
    parts = [f"# Layers of engines on {whole['device']}, measured and estimated", RULE]
    for name, part in whole["parts"].items():
        versions = ", ".join(
            f"{key} {value}" for key, value in (part["versions"] | part["backend"]).items()
        )
        found = [(t.name, t.case, t.figure or _NONE, t.verdict) for t in targets(part)]
        parts += [
            f"## {name}: {part['outcome']}",
            f"`{part['command']}` at commit {part['commit']}, {part['date']}. {versions}.",
            _table(("target", "case", "measured", "verdict"), found),
            _table(WHOLES, wholes(part)),
            _table(GROUPS, groups(part)),
            "\n".join(f"- {note}" for note in notes(part)),
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    top = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*top, *lines]) if lines else ""


def _case(row: Row) -> str:
    return f"{row['network']} {row['precision']}, batch {row['batch']}"


def _reached(row: Row) -> str:
    return f"{100 * row['of_roof']:.0f} % of the {row['roof']} roof, limited by {row['limited_by']}"


def _by_groups(one: Row) -> str:
    if one.get("layer_factor") is None:
        return _NONE
    return f"{one['layer_factor']:.2f}, the worst of {len(one['groups'])}"


def _lost(row: Row) -> str:
    """Time of what no layer has to do with."""
    if not row["told"]:
        return _NONE
    time = sum(one["measured_us"] for one in row["strangers"])
    return f"{time:.3g} us ({100 * time / row['told_us']:.1f} %)" if time else "nothing"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
