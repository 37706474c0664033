"""Labelled faces from the layouts that people have, as one ``Dataset``.

    faces = open_dataset("ferplus.npz")                   # or a folder; the layout is recognised
    train = faces.subset("train")                         # positions of the labelled images
    labels = faces.labels[train]                          # int64, the majority
    pixels = faces.stack(train)                           # uint8 [M, 48, 48]
    test = faces.subset("test", clean=True)               # without what was seen in training

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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from convcut_trt import ferplus
from convcut_trt.duplicates import Duplicates, find_duplicates, pixel_hash, seen_in
from convcut_trt.errors import InputError
from convcut_trt.picture_folders import (
    RAFDB_CLASSES,
    Listed,
    list_folders,
    list_rafdb,
    rafdb_root,
    read_all,
)
from convcut_trt.pictures import PictureFiles

TargetKind = Literal["majority", "votes"]

SPLITS = ("train", "validation", "test")
KINDS = ("auto", "npz", "csv", "png", "rafdb", "folders")


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled images in K classes; the arrays are read-only.

    Attributes:
        name: Where the images come from, for reports.
        classes: The K class names, in the order of labels and columns.
        images: uint8 [N, H, W] or [N, H, W, 3] in memory, or files.
        split: uint8 [N], position in ``SPLITS``.
        labels: int64 [N], -1 where no class has the majority.
        votes: float32 [N, K], the counts as given; one-hot for hard labels; a row may sum to 0.
        shares: float32 [N, K], ``votes`` under the rule of ``targets``: sums to 1, or to 0 where
            the image is excluded.
        skipped: One line for each picture that could not be read, with ``skip_corrupt``.
        known_hashes: What ``hashes`` returns, where reading the files gave it for nothing.
    """

    name: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8] | PictureFiles
    split: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    votes: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32]
    skipped: tuple[str, ...] = ()
    known_hashes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (self.labels >= 0).any():
            raise InputError(f"No image of {self.name} has a label: check its labels or votes.")
        for array in (self.images, self.split, self.labels, self.votes, self.shares):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def without_votes(self) -> int:
        """How many images have no vote for any of the classes; they are in no target."""
        return int(np.count_nonzero(self.votes.sum(axis=1) == 0))

    def image(self, position: int) -> npt.NDArray[np.uint8]:
        """One image, uint8 [H, W] or [H, W, 3]: a view of the array, or decoded from its file."""
        picture: npt.NDArray[np.uint8] = self.images[position]
        return picture

    def image_name(self, position: int) -> str:
        """The file of an image, or its position where it comes from an array."""
        if isinstance(self.images, PictureFiles):
            return str(self.images.paths[position])
        return f"{self.name}[{position}]"

    def stack(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        """Copy images into one array, uint8 [M, H, W] or [M, H, W, 3]; one size only.

        Raises:
            InputError: No positions, or files of different sizes.
        """
        if isinstance(self.images, np.ndarray):
            return np.asarray(self.images[np.asarray(positions, dtype=np.intp)])
        pictures = [self.image(int(i)) for i in positions]
        shapes = sorted({picture.shape for picture in pictures})
        if len(shapes) != 1:
            found = f"sizes from {shapes[0]} to {shapes[-1]}" if shapes else "no pictures"
            raise InputError(f"{self.name}: {found} do not stack, resize each image first.")
        return np.stack(pictures)

    def targets(self, kind: TargetKind = "majority") -> npt.NDArray[np.float32]:
        """Target probabilities of all images, float32 [N, K]; rows of zeros are excluded images.

        ``majority`` is one-hot of ``labels``. ``votes`` are the shares of the votes: as in FERPlus,
        a class with a single vote is dropped, and the image counts if more than half of what
        remains is for the K classes together, not for unknown, NF or a class left out. FERPlus'
        ``crossentropy`` mode (``src/ferplus.py``) also cuts to the leading classes; this does not.
        """
        if kind == "votes":
            return self.shares
        if kind == "majority":
            return _one_hot(self.labels, len(self.classes))
        raise InputError(f"Unknown kind of target {kind!r}: use 'majority' or 'votes'.")

    def subset(
        self,
        split: str,
        *,
        clean: bool = False,
        labelled: bool = True,
        kind: TargetKind = "majority",
    ) -> npt.NDArray[np.intp]:
        """Positions of the images of a split, ascending; empty where the data has none.

        Args:
            split: 'train', 'validation' or 'test'.
            clean: Leave out images whose pixels also occur in an earlier split: in train for
                validation, in train or validation for test. Nothing changes for train.
            labelled: Only images with a target of this ``kind``; see ``targets``.
            kind: 'majority' or 'votes'.
        """
        if split not in SPLITS:
            raise InputError(f"Unknown split {split!r}: use one of {', '.join(SPLITS)}.")
        code = SPLITS.index(split)
        chosen = self.split == code
        if labelled:
            chosen = chosen & (self.targets(kind).sum(axis=1) > 0)
        if clean and code:
            chosen = chosen & ~seen_in(self.hashes(), self.split, range(code))
        return np.flatnonzero(chosen)

    def hashes(self) -> tuple[str, ...]:
        """``pixel_hash`` of every image: equal where the pixels are; computed once."""
        return self._hashes

    @cached_property
    def _hashes(self) -> tuple[str, ...]:
        return self.known_hashes or tuple(pixel_hash(self.image(i)) for i in range(len(self)))


def duplicates(dataset: Dataset) -> Duplicates:
    """Find the exact duplicates within and across the splits, by pixel content."""
    return find_duplicates(dataset.hashes(), dataset.split, dataset.labels, SPLITS)


def class_weights(labels: npt.ArrayLike, classes: int) -> npt.NDArray[np.float32]:
    """Balanced weights, float32 [K]: images / (classes present * images of the class).

    Labels of -1 are left aside; a class without images gets 0. The mean over the images is 1.

    Raises:
        InputError: No labels, or a label outside 0..K-1.
    """
    values = np.asarray(labels, dtype=np.int64)
    values = values[values != -1]
    if values.size == 0 or values.min() < 0 or values.max() >= classes:
        raise InputError(
            f"Class weights need labels between 0 and {classes - 1}: check the labels."
        )
    counts = np.bincount(values, minlength=classes)
    present = counts > 0
    weights = np.where(present, values.size / (present.sum() * np.maximum(counts, 1)), 0.0)
    return weights.astype(np.float32)


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
        return _open(path, _recognise(path) if kind == "auto" else kind, classes, skip_corrupt)
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


def _recognise(path: Path) -> str:
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
    return "rafdb" if rafdb_root(path) else "folders"


def dataset_from_arrays(
    name: str,
    images: npt.NDArray[np.uint8] | PictureFiles,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    split: npt.ArrayLike,
    *,
    skipped: tuple[str, ...] = (),
    known_hashes: tuple[str, ...] | None = None,
) -> Dataset:
    """Make a ``Dataset`` from images in memory and hard labels; arguments as its attributes.

    Raises:
        InputError: Lengths that differ, images that are not uint8, a label outside -1..K-1.
    """
    hard, codes = np.array(labels), np.array(split)
    if not len(images) == len(hard) == len(codes):
        raise InputError(
            f"{name} has {len(images)} images, {len(hard)} labels and {len(codes)} splits: "
            "give one of each per image."
        )
    if isinstance(images, np.ndarray):
        ferplus.check_pixels(images, name)
        images = images.view()  # made read-only below; the caller's array is not
    _check_classes(classes)
    for what, values, low, high in (("label", hard, -1, len(classes)), ("split", codes, 0, 3)):
        if values.dtype.kind not in "iu" or values.min() < low or values.max() >= high:
            raise InputError(f"{name} has a {what} outside {low}..{high - 1}: correct the numbers.")
    hard = hard.astype(np.int64)
    votes = _one_hot(hard, len(classes))
    return Dataset(
        name,
        tuple(classes),
        images,
        codes.astype(np.uint8),
        hard,
        votes,
        votes,
        skipped,
        known_hashes,
    )


def _open_png(folder: Path, classes: Sequence[str] | None, skip_corrupt: bool) -> Dataset:
    pictures, split, votes = ferplus.read_png(folder)
    read = read_all(pictures, skip_corrupt=skip_corrupt)
    faces = ferplus.Faces(read.images, split[read.kept], votes[read.kept])
    return _from_votes("FERPlus (png)", faces, classes, read.skipped, read.hashes)


def _from_votes(
    name: str,
    faces: ferplus.Faces,
    classes: Sequence[str] | None,
    skipped: tuple[str, ...] = (),
    hashes: tuple[str, ...] | None = None,
) -> Dataset:
    chosen = tuple(ferplus.CLASSES if classes is None else classes)
    _check_classes(chosen, ferplus.CLASSES)
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
        skipped=skipped,
        known_hashes=hashes,
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
    _check_classes(chosen, known)
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
        skipped=read.skipped,
        known_hashes=read.hashes,
    )


def _one_hot(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    # Row K, for label -1, is all zeros.
    return np.eye(classes + 1, classes, dtype=np.float32)[labels]


def _check_classes(classes: Sequence[str], known: Sequence[str] = ()) -> None:
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InputError(f"{list(classes)} are no set of classes: give at least two, each once.")
    strangers = sorted(set(classes) - set(known)) if known else []
    if strangers:
        raise InputError(
            f"This data has no class {', '.join(strangers)}: choose from {', '.join(known)}."
        )
