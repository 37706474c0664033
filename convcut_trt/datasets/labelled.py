"""Labelled pictures with their splits: ``Dataset``. ``convcut_trt.datasets`` opens one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from convcut_trt.datasets.duplicates import Duplicates, find_duplicates, pixel_hash, seen_in
from convcut_trt.datasets.hold_out import held_out
from convcut_trt.datasets.near_duplicates import fingerprint, near_groups
from convcut_trt.datasets.read_pictures import Read
from convcut_trt.errors import InputError
from convcut_trt.pictures import PictureFiles, check_pixels

TargetKind = Literal["majority", "votes"]

SPLITS = ("train", "validation", "test")


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
        read: What reading image files once gave.
    """

    name: str
    classes: tuple[str, ...]
    images: npt.NDArray[np.uint8] | PictureFiles
    split: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    votes: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32]
    read: Read | None = None

    def __post_init__(self) -> None:
        if not (self.labels >= 0).any():
            raise InputError(f"No image of {self.name} has a label: check its labels or votes.")
        for array in (self.images, self.split, self.labels, self.votes, self.shares):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def skipped(self) -> tuple[str, ...]:
        """A line for each picture that could not be read and was left out, with ``skip_corrupt``."""
        return self.read.skipped if self.read else ()

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

    def sizes(self) -> npt.NDArray[np.int64]:
        """Height and width of every image in pixels, int64 [N, 2]."""
        if self.read is not None:
            return self.read.sizes
        shapes = (self.image(i).shape[:2] for i in range(len(self)))
        return np.array(list(shapes), dtype=np.int64)

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
            return one_hot(self.labels, len(self.classes))
        raise InputError(f"Unknown kind of target {kind!r}: use 'majority' or 'votes'.")

    def subset(
        self,
        split: str,
        *,
        clean: bool = False,
        strict: bool = False,
        labelled: bool = True,
        kind: TargetKind = "majority",
    ) -> npt.NDArray[np.intp]:
        """Positions of the images of a split, ascending; empty where the data has none.

        Args:
            split: 'train', 'validation' or 'test'.
            clean: Leave out images whose pixels also occur in an earlier split: in train for
                validation, in train or validation for test. Nothing changes for train.
            strict: Leave out images with an exact or near duplicate in an earlier split.
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
        if strict and code:
            chosen = chosen & ~seen_in(self.near_groups(), self.split, range(code))
        return np.flatnonzero(chosen)

    def class_weights(self) -> npt.NDArray[np.float32]:
        """Balanced weights over the training split's labels, float32 [K]: n / (K n_k).

        n images, n_k of them of class k. A class without training images weighs 0 and does not
        count in K, so that the mean over the images is 1.

        Raises:
            InputError: No labelled training images.
        """
        labels = self.labels[self.subset("train")]
        if not len(labels):
            raise InputError(f"{self.name} has no labelled training images to weigh: add some.")
        counts = np.bincount(labels, minlength=len(self.classes))
        present = np.count_nonzero(counts)
        weights = len(labels) / (present * np.maximum(counts, 1))
        return np.where(counts > 0, weights, 0).astype(np.float32)

    def with_validation(self, share: float = 0.1, seed: int = 0) -> Dataset:
        """The same data with part of the training split as its validation split, for data without one.

        Of each class about ``share``, at least one picture, is held out; near and exact duplicates stay
        on one side. The choice depends on the pictures' content and ``seed``: names and order do not
        matter, and where pictures are added nearly all others stay where they were. The test split
        stays as it is. Compares all pictures, see ``near_groups``.

        Raises:
            InputError: A validation split is there already, ``share`` is not in (0, 0.5], or the classes
                have too few different pictures.
        """
        if len(self.subset("validation")):
            raise InputError(f"{self.name} has a validation split already: use that one.")
        if not 0 < share <= 0.5:
            raise InputError(
                f"A share of {share} cannot be held out: give more than 0, at most 0.5."
            )
        train = self.subset("train", labelled=False)
        rows = held_out(train, self.labels, self.hashes(), self.near_groups(), share, seed)
        if not (self.labels[rows] >= 0).any():
            raise InputError(
                f"{self.name} has too few different training pictures to hold some out: add pictures, "
                "or a validation folder."
            )
        split = self.split.copy()
        split[rows] = SPLITS.index("validation")
        return replace(self, split=split)

    def hashes(self) -> tuple[str, ...]:
        """``pixel_hash`` of every image: equal where the pixels are; computed once."""
        return self._hashes

    def near_groups(self) -> tuple[int, ...]:
        """A number for every image, equal for exact and near duplicates; computed once.

        Compares all pairs of images: see ``near_duplicates.near_groups`` for threshold and time.
        """
        return self._near_groups

    @cached_property
    def _hashes(self) -> tuple[str, ...]:
        if self.read is not None:
            return self.read.hashes
        return tuple(pixel_hash(self.image(i)) for i in range(len(self)))

    @cached_property
    def _near_groups(self) -> tuple[int, ...]:
        if self.read is not None:
            return near_groups(self.hashes(), self.read.fingerprints)
        prints = np.stack([fingerprint(self.image(i)) for i in range(len(self))])
        return near_groups(self.hashes(), prints)


def duplicates(dataset: Dataset, *, near: bool = False) -> Duplicates:
    """Find the exact duplicates, or the exact and near ones, within and across the splits."""
    same = dataset.near_groups() if near else dataset.hashes()
    return find_duplicates(same, dataset.split, dataset.labels, SPLITS)


def dataset_from_arrays(
    name: str,
    images: npt.NDArray[np.uint8] | PictureFiles,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    split: npt.ArrayLike,
    *,
    read: Read | None = None,
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
        check_pixels(images, name)
        images = images.view()  # made read-only below; the caller's array is not
    check_classes(classes)
    for what, values, low, high in (("label", hard, -1, len(classes)), ("split", codes, 0, 3)):
        if values.dtype.kind not in "iu" or values.min() < low or values.max() >= high:
            raise InputError(f"{name} has a {what} outside {low}..{high - 1}: correct the numbers.")
    hard = hard.astype(np.int64)
    votes = one_hot(hard, len(classes))
    return Dataset(
        name,
        tuple(classes),
        images,
        codes.astype(np.uint8),
        hard,
        votes,
        votes,
        read,
    )


def one_hot(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """Labels int64 [N] as float32 [N, K], a row of zeros for -1."""
    return np.eye(classes + 1, classes, dtype=np.float32)[labels]


def check_classes(classes: Sequence[str], known: Sequence[str] = ()) -> None:
    """Raise an ``InputError`` unless there are two or more, each once, and all of them ``known``."""
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise InputError(f"{list(classes)} are no set of classes: give at least two, each once.")
    strangers = sorted(set(classes) - set(known)) if known else []
    if strangers:
        raise InputError(
            f"This data has no class {', '.join(strangers)}: choose from {', '.join(known)}."
        )
