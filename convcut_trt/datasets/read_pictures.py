"""Read picture files once, so that a bad one is named now and not in the middle of a training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convcut_trt.datasets.duplicates import pixel_hash
from convcut_trt.datasets.near_duplicates import fingerprint
from convcut_trt.errors import InputError
from convcut_trt.pictures import PictureFiles


class Read(NamedTuple):
    """The M pictures that can be read, of those asked for.

    Attributes:
        images: Their files.
        hashes: ``pixel_hash`` of each.
        fingerprints: ``fingerprint`` of each, float32 [M, 144].
        sizes: Height and width of each in pixels, int64 [M, 2].
        kept: Their positions among those asked for.
        skipped: A line for each picture that cannot be read.
    """

    images: PictureFiles
    hashes: tuple[str, ...]
    fingerprints: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.int64]
    kept: list[int]
    skipped: tuple[str, ...]


def read_all(pictures: PictureFiles, *, skip_corrupt: bool) -> Read:
    """Decode every file once.

    Raises:
        InputError: Pictures that cannot be read, the first ten by name, unless ``skip_corrupt``; or all.
    """

    def read(position: int) -> tuple[str, npt.NDArray[np.float32], tuple[int, ...]] | str:
        try:
            picture = pictures[position]
        except InputError as error:
            return str(error)
        return pixel_hash(picture), fingerprint(picture), picture.shape[:2]

    # Few threads, because each may hold a picture of 40 megapixels.
    with ThreadPoolExecutor(max_workers=4) as pool:
        results = list(pool.map(read, range(len(pictures))))
    skipped = tuple(result for result in results if isinstance(result, str))
    kept = [position for position, result in enumerate(results) if not isinstance(result, str)]
    if skipped and not (skip_corrupt and kept):
        raise InputError(
            f"{len(skipped)} of {len(pictures)} pictures cannot be read, repair or remove them"
            f"{'' if skip_corrupt else ' or pass skip_corrupt=True'}: {_first(skipped)}"
        )
    hashes, prints, sizes = zip(*(r for r in results if not isinstance(r, str)), strict=True)
    images = PictureFiles(tuple(pictures.paths[i] for i in kept), pictures.grey)
    return Read(images, hashes, np.stack(prints), np.array(sizes, np.int64), kept, skipped)


def _first(lines: Sequence[str], most: int = 10) -> str:
    more = f" ... and {len(lines) - most} more." if len(lines) > most else ""
    return " ".join(lines[:most]) + more
