"""Labelled faces from the layouts that people have, as one ``Dataset``.

    faces = open_dataset("ferplus.npz")                   # or a folder; the layout is recognised
    train = faces.subset("train")                         # positions of the labelled images
    labels = faces.labels[train]                          # int64, the majority
    pixels = faces.stack(train)                           # uint8 [M, 48, 48]
    test = faces.subset("test", clean=True)               # without what was seen in training
    test = faces.subset("test", strict=True)              # nor what is nearly the same

    train = faces.subset("train", kind="votes")           # every image that people could judge
    shares = faces.targets("votes")[train]                # float32 [M, K], rows sum to 1

Layouts: ``ferplus.npz``; FERPlus as ``fer2013.csv`` + ``fer2013new.csv``; FERPlus as PNG folders,
``FER2013{Train,Valid,Test}/label.csv``; RAF-DB as it is handed out; folders named by class.

FERPlus has two sets of votes. The published sizes (25,045 / 3,191 / 3,137) come from ``label.csv``
in its repository; ``fer2013new.csv`` differs on 1,602 images, and FERPlus' own tool overwrites
``label.csv`` with those. Where ``label.csv`` files lie beside the CSV pair, their votes are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convcut_trt.datasets import ferplus
from convcut_trt.datasets.labelled import (
    SPLITS,
    Dataset,
    TargetKind,
    check_classes,
    dataset_from_arrays,
    duplicates,
)
from convcut_trt.datasets.picture_folders import (
    RAFDB_CLASSES,
    Listed,
    list_folders,
    list_rafdb,
    rafdb_list,
)
from convcut_trt.datasets.read_pictures import Read, read_all
from convcut_trt.errors import InputError
from convcut_trt.pictures import PictureFiles

KINDS = ("auto", "npz", "csv", "png", "rafdb", "folders")

__all__ = [
    "KINDS",
    "SPLITS",
    "Dataset",
    "TargetKind",
    "dataset_from_arrays",
    "duplicates",
    "layout",
    "open_dataset",
]


def open_dataset(
    source: str | Path,
    *,
    kind: str = "auto",
    classes: Sequence[str] | None = None,
    skip_corrupt: bool = False,
) -> Dataset:
    """Open labelled faces; the module's text has the layouts and an example.

    Picture files are decoded once here, so that a bad one is named now and not in the middle of a
    training; after that each is decoded when asked for.

    Args:
        source: A file or a folder.
        kind: One of ``KINDS``; 'auto' recognises the layout.
        classes: Class names in the wanted order. For FERPlus and RAF-DB a selection: images of
            other classes stay, without a label. For folders: all that may occur. Default: FERPlus'
            and RAF-DB's own order, and the alphabet for folders.
        skip_corrupt: Leave out pictures that cannot be read, listed in ``Dataset.skipped``.

    Raises:
        InputError: Whatever is wrong with the data, with the fix.
    """
    path = Path(source).expanduser()
    if kind not in KINDS:
        raise InputError(f"Unknown kind of data {kind!r}: use one of {', '.join(KINDS)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist: give a data file or folder that does.")
    try:
        return _open(path, layout(path) if kind == "auto" else kind, classes, skip_corrupt)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): check permissions and disk.") from error


def _open(path: Path, kind: str, classes: Sequence[str] | None, skip_corrupt: bool) -> Dataset:
    if kind == "npz":
        faces = ferplus.read_npz(path / "ferplus.npz" if path.is_dir() else path)
        return _from_votes("FERPlus (npz)", faces, classes)
    if kind == "csv":
        faces, better = ferplus.read_csv(path if path.is_dir() else path.parent)
        name = "FERPlus (csv, votes of label.csv)" if better else "FERPlus (csv)"
        return _from_votes(name, faces, classes)
    if kind == "png":
        return _open_png(path if path.is_dir() else path.parent.parent, classes, skip_corrupt)
    if kind == "rafdb":
        return _from_files("RAF-DB", list_rafdb(path), classes, RAFDB_CLASSES, skip_corrupt)
    return _from_files(path.resolve().name, list_folders(path), classes, (), skip_corrupt)


def layout(path: Path) -> str:
    """Recognise the layout of data: one of ``KINDS``; folders without any sign are class folders.

    Raises:
        InputError: A file that is none of those known.
    """
    if path.is_file():
        kinds = {"fer2013.csv": "csv", "fer2013new.csv": "csv", "label.csv": "png"}
        kind = "npz" if path.suffix == ".npz" else kinds.get(path.name)
        if kind is None:
            raise InputError(
                f"{path} is not a data file known here: give ferplus.npz, fer2013.csv or a folder."
            )
        return kind
    if (path / "ferplus.npz").is_file():
        return "npz"
    if ferplus.has_pngs(path):
        return "png"
    if any((path / name).is_file() for name in ("fer2013.csv", "fer2013new.csv")):
        return "csv"
    if ferplus.label_files(path):
        return "png"
    return "rafdb" if rafdb_list(path) else "folders"


def _open_png(folder: Path, classes: Sequence[str] | None, skip_corrupt: bool) -> Dataset:
    pictures, split, votes = ferplus.read_png(folder)
    read = read_all(pictures, skip_corrupt=skip_corrupt)
    faces = ferplus.Faces(read.images, split[read.kept], votes[read.kept])
    return _from_votes("FERPlus (png)", faces, classes, read)


def _from_votes(
    name: str,
    faces: ferplus.Faces,
    classes: Sequence[str] | None,
    read: Read | None = None,
) -> Dataset:
    chosen = tuple(ferplus.CLASSES if classes is None else classes)
    check_classes(chosen, ferplus.CLASSES)
    columns = [ferplus.CLASSES.index(c) for c in chosen]
    place = np.full(len(ferplus.CLASSES) + 1, -1, dtype=np.int64)  # the last is for label -1
    place[columns] = np.arange(len(chosen))
    return Dataset(
        name,
        chosen,
        faces.images,
        faces.split,
        labels=place[ferplus.majority_labels(faces.votes)],
        votes=faces.votes[:, columns].astype(np.float32),
        shares=_shares(faces.votes, columns),
        read=read,
    )


def _shares(votes: npt.NDArray[np.int64], columns: list[int]) -> npt.NDArray[np.float32]:
    kept = ferplus.without_singles(votes)
    ours = kept[:, columns]
    total = ours.sum(axis=1, keepdims=True)
    judged = 2 * total > kept.sum(axis=1, keepdims=True)
    return np.where(judged, ours / np.maximum(total, 1), 0).astype(np.float32)


def _from_files(
    name: str,
    listed: list[Listed],
    classes: Sequence[str] | None,
    known: Sequence[str],
    skip_corrupt: bool,
) -> Dataset:
    present = sorted({item.label for item in listed})
    chosen = tuple(known or present) if classes is None else tuple(classes)
    check_classes(chosen, known)
    strangers = [label for label in present if label not in chosen]
    if strangers and not known:
        raise InputError(
            f"{name} has folders outside the list of classes ({', '.join(strangers)}): "
            "add them to it or move them away."
        )
    read = read_all(PictureFiles(tuple(item.file for item in listed)), skip_corrupt=skip_corrupt)
    place = {label: position for position, label in enumerate(chosen)}
    kept = [listed[i] for i in read.kept]
    return dataset_from_arrays(
        name,
        read.images,
        [place.get(item.label, -1) for item in kept],
        chosen,
        [item.split for item in kept],
        read=read,
    )
