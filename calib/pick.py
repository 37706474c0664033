"""The calibration set: faces of the training split, every class alike, chosen by seed and content.

The choice depends on the pictures' content hashes alone, so another order of the files gives the same set,
and a larger set of the same seed holds the smaller one as long as no class runs out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcut_trt.datasets import SPLITS, Dataset
from convcut_trt.datasets.duplicates import seen_in
from convcut_trt.errors import InputError

EVALUATION = (SPLITS.index("validation"), SPLITS.index("test"))


@dataclass(frozen=True)
class Choice:
    """N pictures of a data set.

    Attributes:
        rows: int64 [N], their positions in the data set, class by class.
        hashes: Their ``pixel_hash``, in the same order; no two are equal.
        balance: Class -> how many of them show it.
        available: Class -> how many could have been taken.
        left_out: Reason -> how many training pictures it kept out.
        seed: Of the choice.
    """

    rows: NDArray[np.intp]
    hashes: tuple[str, ...]
    balance: Mapping[str, int]
    available: Mapping[str, int]
    left_out: Mapping[str, int]
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def short(self) -> Mapping[str, int]:
        """Classes with too few pictures for an equal share, and how many they gave."""
        fullest = max(self.balance.values())
        return {
            name: count
            for name, count in self.balance.items()
            if count == self.available[name] and count < fullest
        }

    def halves(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows in two disjoint sets, every class alike in both."""
        return self.rows[0::2], self.rows[1::2]


def pick(dataset: Dataset, classes: Sequence[str], images: int, seed: int) -> Choice:
    """Chooses pictures of the training split, as many of each class as there are.

    Pictures that also occur in validation or test, the same or nearly so, are never taken: an engine is judged
    on those. Of pictures that are nearly the same one is taken, and none where their labels differ.

    Args:
        dataset: Labelled faces.
        classes: Of the model; pictures of other classes are not taken.
        images: How many to choose; all there are where there are fewer.
        seed: Another seed gives another choice.

    Raises:
        InputError: Fewer than two pictures, asked for or found; one class only; no training split.
    """
    if images < 2:
        raise InputError(
            f"{images} picture is no calibration set: ask for some hundreds with --images"
        )
    candidates, left_out = _candidates(dataset, classes, seed)
    found = [sorted(group, key=lambda key: _draw(key, seed)) for group in candidates]
    filled = [name for name, group in zip(classes, found, strict=True) if group]
    if len(filled) < 2:
        raise InputError(
            f"the training split of {dataset.name} has pictures of {len(filled)} of the model's classes "
            f"({', '.join(filled) or 'none'}; the model knows {', '.join(classes)}): calibration needs at least "
            "two, give data with more"
        )
    quotas = shares([len(group) for group in found], images)
    chosen = [key for group, quota in zip(found, quotas, strict=True) for key in group[:quota]]
    rows = {key: row for group in candidates for key, row in group.items()}
    return Choice(
        rows=np.array([rows[key] for key in chosen], dtype=np.intp),
        hashes=tuple(chosen),
        balance=dict(zip(classes, quotas, strict=True)),
        available={name: len(group) for name, group in zip(classes, found, strict=True)},
        left_out=left_out,
        seed=seed,
    )


def shares(available: Sequence[int], total: int) -> list[int]:
    """How many to take of each class: equal numbers, and what small classes lack from the larger ones."""
    quotas = [0] * len(available)
    by_size = sorted(range(len(available)), key=lambda k: (available[k], k))
    for place, k in enumerate(by_size):
        quotas[k] = min(available[k], total // (len(available) - place))
        total -= quotas[k]
    return quotas


def in_evaluation(dataset: Dataset) -> NDArray[np.bool_]:
    """Marks the pictures, bool [N], that also occur in validation or test, the same or nearly so."""
    return seen_in(dataset.near_groups(), dataset.split, EVALUATION)


def _candidates(
    dataset: Dataset, classes: Sequence[str], seed: int
) -> tuple[list[dict[str, int]], dict[str, int]]:
    """Hash -> position of the pictures that may be taken, one mapping a class, and how many may not."""
    training = dataset.subset("train")
    if not len(training):
        raise InputError(
            f"{dataset.name} has no labelled {SPLITS[0]} pictures, and calibration takes no others: give data "
            "with a training split"
        )
    hashes, near = dataset.hashes(), dataset.near_groups()
    same = seen_in(hashes, dataset.split, EVALUATION)[training]
    seen = in_evaluation(dataset)[training]
    left_out = {
        "also in evaluation": int(same.sum()),
        "nearly the same as one in evaluation": int((seen & ~same).sum()),
        **dict.fromkeys(("repeated", "of contradicting labels", "of other classes"), 0),
    }
    groups: dict[int, list[int]] = defaultdict(list)
    for row in training[~seen].tolist():
        groups[near[row]].append(row)
    candidates: list[dict[str, int]] = [{} for _ in classes]
    for rows in groups.values():
        names = {dataset.classes[dataset.labels[row]] for row in rows}
        if len(names) > 1:
            left_out["of contradicting labels"] += len(rows)
        elif not names <= set(classes):
            left_out["of other classes"] += len(rows)
        else:
            left_out["repeated"] += len(rows) - 1
            row = min(rows, key=lambda row: _draw(hashes[row], seed))
            candidates[list(classes).index(names.pop())][hashes[row]] = row
    return candidates, left_out


def _draw(key: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()
