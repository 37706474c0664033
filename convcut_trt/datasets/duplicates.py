"""Pictures that occur more than once: the same one in training and in test flatters a model."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def pixel_hash(image: npt.NDArray[np.uint8]) -> str:
    """Identify a picture by what it shows, whatever file or array it comes from.

    Args:
        image: uint8 [H, W] or [H, W, 3]; RGB with three equal channels counts as its grey plane.

    Returns:
        SHA-256 in hex over height and width (little-endian uint32 each) and the row-major bytes.
    """
    if (
        image.ndim == 3
        and np.array_equal(image[..., 0], image[..., 1])
        and np.array_equal(image[..., 0], image[..., 2])
    ):
        image = image[..., 0]
    digest = hashlib.sha256(np.array(image.shape[:2], dtype="<u4").tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Duplicates:
    """Pictures that occur more than once.

    Attributes:
        groups: Positions of the pictures that are the same, two or more in each group.
        within: ``split`` -> how many of its pictures repeat another one of it.
        across: ``(split, other)`` -> how many pictures of ``split`` are also in ``other``;
            ``other`` stands before ``split`` in train, validation, test.
        conflicts: Groups whose labels differ, pictures without a label left aside.
    """

    groups: tuple[tuple[int, ...], ...]
    within: dict[str, int]
    across: dict[tuple[str, str], int]
    conflicts: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        """One line for people."""
        pictures = sum(map(len, self.groups))
        crossing = ", ".join(f"{n} of {a} also in {b}" for (a, b), n in self.across.items() if n)
        return (
            f"{pictures} pictures in {len(self.groups)} groups of duplicates, "
            f"{len(self.conflicts)} with different labels; {crossing or 'none across splits'}"
        )


def find_duplicates(
    hashes: Sequence[Hashable],
    split: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    split_names: Sequence[str],
) -> Duplicates:
    """Group equal hashes, or numbers of groups, and count them; see ``Duplicates``."""
    positions: dict[Hashable, list[int]] = defaultdict(list)
    for position, value in enumerate(hashes):
        positions[value].append(position)
    groups = tuple(tuple(group) for group in positions.values() if len(group) > 1)
    within = {
        name: int(np.count_nonzero(split == code)) - len({hashes[i] for i in _of(split, code)})
        for code, name in enumerate(split_names)
    }
    across = {
        (name, split_names[other]): int(
            np.count_nonzero(seen_in(hashes, split, (other,)) & (split == code))
        )
        for code, name in enumerate(split_names)
        for other in range(code)
    }
    conflicts = tuple(group for group in groups if len({int(labels[i]) for i in group} - {-1}) > 1)
    return Duplicates(groups, within, across, conflicts)


def seen_in(
    hashes: Sequence[Hashable], split: npt.NDArray[np.uint8], codes: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Mark the pictures, bool [N], that also occur in a split of the given codes."""
    present = {hashes[i] for code in codes for i in _of(split, code)}
    return np.fromiter((value in present for value in hashes), dtype=np.bool_, count=len(hashes))


def _of(split: npt.NDArray[np.uint8], code: int) -> list[int]:
    positions: list[int] = np.flatnonzero(split == code).tolist()
    return positions
