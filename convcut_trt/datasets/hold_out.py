"""A share of a training split held out, by content: the same pictures whatever their names and order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def held_out(
    rows: npt.NDArray[np.intp],
    labels: npt.NDArray[np.int64],
    hashes: Sequence[str],
    groups: Sequence[int],
    share: float,
    seed: int,
) -> list[int]:
    """Choose about ``share`` of each class, whole groups only, in an order that seed and content give.

    Pictures that come or go do not change the order of the others, only where it is cut: in a class that
    grows by n about ``share * n`` new ones are held out, and few old ones change sides.

    Args:
        rows: Positions to choose from.
        labels: int64 [N], of all pictures; -1 is a class of its own.
        hashes: ``pixel_hash`` of all pictures.
        groups: ``near_groups`` of all pictures; a group of several labels goes with its commonest.
        share: Between 0 and 1. At least one picture of a class is held out, and at least one is not,
            where the groups permit: one that would overshoot by more than what is missing stays.
        seed: Another seed gives another choice.

    Returns:
        The positions held out, ascending.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row in rows.tolist():
        members[groups[row]].append(row)
    classes: dict[int, list[list[int]]] = defaultdict(list)
    for group in members.values():
        found = labels[group].tolist()
        classes[min(set(found), key=lambda label: (-found.count(label), label))].append(group)
    chosen: list[int] = []
    for own in classes.values():
        total = sum(map(len, own))
        wanted = max(1, round(share * total))
        taken: list[int] = []
        for group in sorted(own, key=lambda rows: min(_draw(hashes[row], seed) for row in rows)):
            size = len(group)
            if size <= 2 * (wanted - len(taken)) and len(taken) + size < total:
                taken += group
        chosen += taken
    return sorted(chosen)


def _draw(digest: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {digest}".encode()).hexdigest()
