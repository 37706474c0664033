"""What a set of labelled faces holds and what is wrong with it: counts, labels dropped, duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convcut_trt.datasets import SPLITS, Dataset, duplicates, layout, open_dataset
from convcut_trt.datasets.duplicates import Duplicates

KIND = "labelled faces"

_LAYOUTS = {
    "npz": "FERPlus as npz",
    "csv": "FERPlus as fer2013.csv and fer2013new.csv",
    "png": "FERPlus as PNG folders",
    "rafdb": "RAF-DB, official layout",
    "folders": "class folders",
}
_COUNTS = {
    "images": "images",
    "labelled": "with a majority",
    "clean": "  without exact duplicates",
    "strict": "  nor near ones",
    "voted": "with shares of votes",
}
_NAMED = 10


def report(path: Path) -> dict[str, Any]:
    """Examine labelled faces of any layout of ``open_dataset``; ready for JSON.

    Pictures that cannot be read are left out of all counts and listed. Counts of a split: ``images``;
    ``labelled``, those with a label; ``clean`` and ``strict``, those of them without exact, or exact and
    near, duplicates in an earlier split; ``voted``, those with shares of votes; ``classes``, the
    labelled ones by class. ``crossing`` names the groups of near and exact duplicates that lie in
    more than one split.

    Raises:
        InputError: Whatever makes the data unusable, with the fix.
    """
    dataset = open_dataset(path, skip_corrupt=True)
    near = duplicates(dataset, near=True)
    sizes = np.unique(dataset.sizes(), axis=0).tolist()
    return {
        "kind": KIND,
        "name": dataset.name,
        "layout": _LAYOUTS[layout(path)],
        "classes": list(dataset.classes),
        "images": len(dataset),
        "sizes": {"different": len(sizes), "smallest": sizes[0], "largest": sizes[-1]},
        "splits": {split: _counts(dataset, split) for split in SPLITS},
        "without_label": int(np.count_nonzero(dataset.labels < 0)),
        "without_votes": dataset.without_votes,
        "unreadable": list(dataset.skipped),
        "exact_duplicates": _summary(duplicates(dataset)),
        "near_duplicates": _summary(near),
        "crossing": [
            [dataset.image_name(i) for i in group]
            for group in near.groups
            if len(set(dataset.split[list(group)].tolist())) > 1
        ],
    }


def _counts(dataset: Dataset, split: str) -> dict[str, Any]:
    rows = dataset.subset(split)
    counts = np.bincount(dataset.labels[rows], minlength=len(dataset.classes)).tolist()
    return {
        "images": len(dataset.subset(split, labelled=False)),
        "labelled": len(rows),
        "clean": len(dataset.subset(split, clean=True)),
        "strict": len(dataset.subset(split, strict=True)),
        "voted": len(dataset.subset(split, kind="votes")),
        "classes": dict(zip(dataset.classes, counts, strict=True)),
    }


def _summary(found: Duplicates) -> dict[str, Any]:
    return {
        "groups": len(found.groups),
        "pictures": sum(map(len, found.groups)),
        "within": found.within,
        "across": {f"{split} also in {other}": n for (split, other), n in found.across.items()},
        "groups_of_several_labels": len(found.conflicts),
    }


def table(found: dict[str, Any]) -> str:
    """A ``report`` as text."""
    sizes, splits = found["sizes"], found["splits"]
    size = " x ".join(map(str, sizes["smallest"]))
    if sizes["different"] > 1:
        largest = " x ".join(map(str, sizes["largest"]))
        size = f"{sizes['different']} sizes from {size} to {largest}"
    lines = [
        f"{found['name']}: {found['layout']}",
        f"{found['images']:,} images of {len(found['classes'])} classes, height x width {size}",
        "",
        f"{'':28}" + "".join(f"{split:>12}" for split in SPLITS),
    ]
    rows = [(text, [splits[split][key] for split in SPLITS]) for key, text in _COUNTS.items()]
    rows += [(name, [splits[s]["classes"][name] for s in SPLITS]) for name in found["classes"]]
    lines += [f"{text:28}" + "".join(f"{count:12,}" for count in counts) for text, counts in rows]
    lines += [
        "",
        f"without a label (no majority, or of no class): {found['without_label']:,}; without any "
        f"vote for a class, in no target: {found['without_votes']:,}",
        *(_sentence(kind, found[f"{kind}_duplicates"]) for kind in ("exact", "near")),
    ]
    if found["crossing"]:
        lines.append(
            f"{len(found['crossing'])} groups of duplicates lie in more than one split: --json names them; "
            "subset(..., strict=True) leaves them out of the later one"
        )
    unreadable = found["unreadable"]
    if unreadable:
        lines.append(f"{len(unreadable)} pictures cannot be read, and count nowhere above:")
        lines += [f"  {line}" for line in unreadable[:_NAMED]]
        if len(unreadable) > _NAMED:
            lines.append(f"  ... and {len(unreadable) - _NAMED} more, all in --json")
    return "\n".join(lines)


def _sentence(kind: str, found: dict[str, Any]) -> str:
    text = {"exact": "exact duplicates", "near": "exact and near duplicates"}[kind]
    counts = [f"{n:,} of {place}" for place, n in found["across"].items() if n]
    counts += [f"{n:,} again within {split}" for split, n in found["within"].items() if n]
    return (
        f"{text}: {found['pictures']:,} pictures in {found['groups']:,} groups, "
        f"{found['groups_of_several_labels']:,} of them with different labels"
        f"{''.join(f'; {count}' for count in counts)}"
    )
