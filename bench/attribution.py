"""Which operations of an engine do which layers of ``measuring.work``, and how both compare.

An engine's operations fuse layers, split them, and do what no layer is. Its report names the nodes of the network
that an operation covers, and a layer names its own: operations and layers with a node in common belong together. A
group is all that hangs together so. It holds whole operations and whole layers, and what its operations took is
held against what was estimated for its layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from convcut_trt.backends.trt_plan import Operation
from convcut_trt.measuring.roofline import LayerEstimate
from convcut_trt.measuring.work import Work

SHARE = 0.02
"""Of the time: from here on a group is held against its estimate."""
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Operations and layers that belong together.

    Attributes:
        operations: Names, in the order in which they ran.
        layers: Positions in the list of layers.
    """

    operations: tuple[str, ...]
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Attribution:
    """What an engine's operations do.

    Attributes:
        groups: In the order of their first operations.
        strangers: Operations that no layer has to do with.
        absent: Positions of layers that no operation covers.
    """

    groups: tuple[Group, ...]
    strangers: tuple[str, ...]
    absent: tuple[int, ...]


def attribute(
    told: Sequence[str], operations: Sequence[Operation], work: Sequence[Work]
) -> Attribution:
    """Groups operations and layers.

    Args:
        told: Names of the operations whose time is known, in the order in which they ran.
        operations: All of the engine by its own report; none where it cannot be read.
        work: The layers, of ``work.layers``.
    """
    nodes = {name: at for at, layer in enumerate(work) for name in (layer.name, *layer.riders)}
    covers: dict[str, set[int]] = {name: set() for name in told}
    for operation in operations:
        if operation.name in covers:
            covers[operation.name] |= {nodes[name] for name in operation.covers if name in nodes}
    pairs = [(row, len(told) + at) for row, name in enumerate(told) for at in sorted(covers[name])]
    size = len(told) + len(work)
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        members.setdefault(int(label), []).append(place)
    groups: list[Group] = []
    unknown: list[str] = []
    absent: list[int] = []
    for places in members.values():
        names = tuple(told[place] for place in places if place < len(told))
        layers = tuple(place - len(told) for place in places if place >= len(told))
        if names and layers:
            groups.append(Group(names, layers))
        unknown += [] if layers else names
        absent += [] if names else layers
    return Attribution(tuple(groups), tuple(unknown), tuple(absent))


def compared(
    times: Mapping[str, F64], found: Attribution, estimates: Sequence[LayerEstimate]
) -> dict[str, Any]:
    """Groups above ``SHARE`` of the time beside their estimates, and what is left of both.

    Args:
        times: Operation -> milliseconds in each run, float64 [runs].
        found: Of ``attribute``, for the same operations.
        estimates: One for each layer.

    Returns:
        ``groups``: the longest first. ``layer_factor``: the largest of theirs, None without groups. ``small``: how
        many groups are below, and both sums of them. ``absent``: layers without an operation, and their estimates.
    """
    whole = _us(times, list(times))
    rows, small = [], []
    for group in found.groups:
        of_layers = [estimates[at] for at in group.layers]
        measured = _us(times, group.operations)
        expected = sum(layer.expected_us for layer in of_layers)
        if measured <= SHARE * whole:
            small.append((measured, expected))
            continue
        rows.append(
            {
                "layers": [layer.work.name for layer in of_layers],
                "operations": list(group.operations),
                "share": short(measured / whole),
                "measured_us": short(measured),
                "estimate_us": short(expected),
                "factor": factor(measured, expected),
                **roof(of_layers, measured),
            }
        )
    rows.sort(key=lambda row: -row["measured_us"])
    return {
        "groups": rows,
        "layer_factor": max((row["factor"] for row in rows), default=None),
        "small": {
            "groups": len(small),
            "measured_us": short(sum(measured for measured, _ in small)),
            "estimate_us": short(sum(expected for _, expected in small)),
        },
        "absent": [
            {
                "layer": estimates[at].work.name,
                "estimate_us": short(estimates[at].expected_us),
            }
            for at in found.absent
        ],
    }


def strangers(times: Mapping[str, F64], found: Attribution) -> list[dict[str, Any]]:
    """Operations that no layer has to do with, and their microseconds, the longest first."""
    rows = [
        {"operation": name, "measured_us": short(_us(times, [name]))} for name in found.strangers
    ]
    return sorted(rows, key=lambda row: -row["measured_us"])


def roof(estimates: Sequence[LayerEstimate], measured_us: float) -> dict[str, Any]:
    """What limits layers by their estimates, which roof is nearer, and the share of it that was reached."""
    limits: dict[str, float] = {}
    for layer in estimates:
        limits[layer.limited_by] = limits.get(layer.limited_by, 0.0) + layer.expected_us
    compute = sum(layer.compute_us for layer in estimates)
    memory = sum(layer.memory_us for layer in estimates)
    return {
        "limited_by": max(limits, key=lambda limit: limits[limit]),
        "roof": "compute" if compute >= memory else "memory",
        "of_roof": short(sum(layer.floor_us for layer in estimates) / measured_us),
    }


def factor(measured: float, estimate: float) -> float:
    """How far apart they are, 1 or more."""
    return short(max(measured / estimate, estimate / measured))


def short(value: float) -> float:
    """Four digits of it."""
    return float(f"{value:.4g}")


def _us(times: Mapping[str, F64], names: Sequence[str]) -> float:
    """Median over the runs of what some operations took together, microseconds."""
    return float(np.median(sum(times[name] for name in names)) * 1e3)
