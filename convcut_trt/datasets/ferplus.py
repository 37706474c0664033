"""FERPlus: its majority rule, and readers of the three forms in which people have it.

Rules and layouts are those of github.com/microsoft/FERPlus (``src/ferplus.py``,
``src/generate_training_data.py``). Use ``convcut_trt.datasets.open_dataset`` to open any of them.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from itertools import zip_longest
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcut_trt.errors import InputError
from convcut_trt.pictures import PictureFiles, check_pixels

CLASSES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
VOTE_NAMES = (*CLASSES, "unknown", "NF")
FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")

_USAGE = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}


class Faces(NamedTuple):
    """Images, split codes [N] and the ten votes [N, 10] of each, columns as in ``VOTE_NAMES``."""

    images: npt.NDArray[np.uint8] | PictureFiles
    split: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.int64]


def without_singles(votes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Drop the votes of classes that one person alone voted for: the official outlier rule."""
    return np.where(votes > 1, votes, 0).astype(np.int64)


def majority_labels(votes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The official majority rule (``src/ferplus.py``, majority mode).

    A class with one vote is dropped; the winner needs more than half of what remains.

    Args:
        votes: Counts, [N, 10], columns as in ``VOTE_NAMES``.

    Returns:
        int64 [N], position in ``CLASSES``, -1 without a majority or for unknown and NF.
    """
    kept = without_singles(votes)
    best = kept.argmax(axis=1)
    wins = (2 * kept.max(axis=1) > kept.sum(axis=1)) & (best < len(CLASSES))
    return np.where(wins, best, -1).astype(np.int64)


def read_npz(path: Path) -> Faces:
    """Read ``images``, ``votes`` and ``usage`` of an npz; nothing in it is unpickled.

    Raises:
        InputError: Unreadable, pickled, a key missing, or an array of the wrong shape or type.
    """
    images, votes, usage, names = _arrays(path)
    check_pixels(images, str(path))
    count = len(images)
    if votes.shape != (count, len(VOTE_NAMES)) or votes.dtype.kind not in "ui":
        raise InputError(
            f"{path}: votes are {votes.dtype} {list(votes.shape)}, store counts as [{count}, 10]."
        )
    whole = usage.dtype.kind in "ui" and usage.shape == (count,)
    if not whole or not np.isin(usage, (0, 1, 2)).all():
        raise InputError(f"{path}: usage must be [{count}] whole numbers, each 0, 1 or 2.")
    if (votes < 0).any():
        raise InputError(f"{path}: votes must be counts, none of them negative.")
    if tuple(map(str, names)) != VOTE_NAMES:
        raise InputError(f"{path}: vote_names must be {' '.join(VOTE_NAMES)}, in this order.")
    return Faces(images, usage.astype(np.uint8), votes.astype(np.int64))


def _arrays(path: Path) -> list[npt.NDArray[Any]]:
    keys = ("images", "votes", "usage")
    try:
        # Opened here, because NumPy leaves a file open that it cannot read.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(f"{path} is a single array: give an npz with {', '.join(keys)}.")
            missing = [key for key in keys if key not in file.files]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}: give a ferplus.npz.")
            names = file["vote_names"] if "vote_names" in file.files else np.array(VOTE_NAMES)
            return [*(file[key] for key in keys), names]
    except InputError:
        raise
    except Exception as error:
        # Damaged archives raise anything from BadZipFile to zlib.error; objects, a ValueError.
        raise InputError(
            f"{path} is not an npz of plain arrays ({error}): copy it again, save without pickle."
        ) from error


def read_csv(folder: Path) -> tuple[Faces, bool]:
    """Read ``fer2013.csv`` row by row with the votes of ``fer2013new.csv``.

    As in FERPlus' own tool, rows without an image name are no faces and left out, and of rows with
    the same name (four names occur twice) the last one stands. Where ``label.csv`` files lie in the
    folder or its ``data``, their votes and their choice are used.

    Returns:
        The faces, and whether the votes are those of ``label.csv``.

    Raises:
        InputError: A file is missing or damaged, or the two do not belong together.
    """
    pixels, labels = folder / "fer2013.csv", folder / "fer2013new.csv"
    for file in (pixels, labels):
        if not file.is_file():
            raise InputError(f"{file} is missing: put fer2013.csv and fer2013new.csv together.")
    rows = list(_rows(labels, {"Usage", "Image name", *VOTE_NAMES}))
    files = label_files(folder).values()
    better = {name: votes for file in files for name, votes in _label_rows(file)}
    last = {row["Image name"]: number for number, row in enumerate(rows)}
    keep = [
        bool(name := row["Image name"]) and last[name] == number and (not better or name in better)
        for number, row in enumerate(rows)
    ]
    if not any(keep):
        raise InputError(f"{labels} names no image: take the file of the FERPlus repository.")
    images, split = _read_faces(pixels, labels, rows, keep)
    kept = [(n, row) for n, row in enumerate(rows, start=1) if keep[n - 1]]
    votes = [
        better[row["Image name"]]
        if better
        else _counts([row[name] for name in VOTE_NAMES], f"{labels}, row {n}")
        for n, row in kept
    ]
    return Faces(images, split, np.array(votes, dtype=np.int64)), bool(better)


def _read_faces(
    pixels: Path, labels: Path, rows: list[dict[str, str]], keep: list[bool]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images: npt.NDArray[np.uint8] | None = None
    split: list[int] = []
    for number, (face, row) in enumerate(zip_longest(_rows(pixels, {"pixels", "Usage"}), rows)):
        if face is None or row is None:
            longer = labels if face is None else pixels
            raise InputError(
                f"{pixels} and {labels.name} differ in length, {longer.name} goes on after row "
                f"{number}: take two whole files that belong together."
            )
        where = f"{pixels}, row {number + 1}"
        if face["Usage"] != row["Usage"] or face["Usage"] not in _USAGE:
            raise InputError(f"{where}: Usage differs from {labels.name}, take the files unsorted.")
        if not keep[number]:
            continue
        image = _parse_pixels(face["pixels"], where)
        if images is None:
            images = np.empty((sum(keep), *image.shape), dtype=np.uint8)
        if image.shape != images.shape[1:]:
            raise InputError(f"{where}: another size than the first face, take the file anew.")
        images[len(split)] = image
        split.append(_USAGE[face["Usage"]])
    if images is None:
        raise InputError(f"{pixels} has no faces: take the file of the competition.")
    return images, np.array(split, dtype=np.uint8)


def _parse_pixels(text: str, where: str) -> npt.NDArray[np.uint8]:
    # Six times as fast as int() on each number, and the file has 83 million of them.
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how NumPy reports what is no number
        try:
            values = np.fromstring(text, dtype=np.int32, sep=" ")
        except (ValueError, DeprecationWarning) as error:
            raise InputError(f"{where}: pixels must be numbers ({error}).") from error
    side = isqrt(values.size)
    if side == 0 or side * side != values.size:
        raise InputError(f"{where}: {values.size} pixels are no square face, take the file anew.")
    if values.min() < 0 or values.max() > 255:
        raise InputError(f"{where}: pixels must lie between 0 and 255, take the file anew.")
    return values.astype(np.uint8).reshape(side, side)


def label_files(folder: Path) -> dict[int, Path]:
    """Find the ``label.csv`` files, split code -> file, in ``folder`` or in its ``data``."""
    for root in (folder, folder / "data"):
        files = {code: root / name / "label.csv" for code, name in enumerate(FOLDERS)}
        found = {code: file for code, file in files.items() if file.is_file()}
        if found:
            return found
    return {}


def has_pngs(folder: Path) -> bool:
    """Tell whether any PNG lies beside a ``label.csv`` of ``folder``."""
    return any(next(f.parent.glob("*.png"), None) for f in label_files(folder).values())


def read_png(
    folder: Path,
) -> tuple[PictureFiles, npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the ``label.csv`` files of FERPlus' PNG folders: the three parts of ``Faces``.

    Raises:
        InputError: No ``label.csv``, no pictures, or a damaged line.
    """
    files = label_files(folder)
    if not files:
        raise InputError(f"{folder} has no {FOLDERS[0]}/label.csv: give the folder that holds it.")
    if not has_pngs(folder):
        raise InputError(
            f"{folder} has label.csv files but no PNGs: make them with FERPlus' "
            "generate_training_data.py, or put fer2013.csv and fer2013new.csv beside them."
        )
    # By path, because the tool writes a name that occurs twice as two lines but one picture.
    rows = {file.parent / n: (c, v) for c, file in files.items() for n, v in _label_rows(file)}
    if not rows:
        raise InputError(f"The label.csv files of {folder} are empty: take them from FERPlus.")
    split, votes = zip(*rows.values(), strict=True)
    pictures = PictureFiles(tuple(rows), grey=True)
    return pictures, np.array(split, dtype=np.uint8), np.array(votes, dtype=np.int64)


def _label_rows(file: Path) -> Iterator[tuple[str, list[int]]]:
    # The repository's files have a face box as second cell, those of its tool have not.
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(_readable(csv.reader(stream), file), start=1):
            if not row:
                continue
            where = f"{file}, line {number}"
            name = row[0].strip()
            if len(row) not in (11, 12) or not name or Path(name).name != name:
                raise InputError(f"{where}: need a picture's name and ten votes, restore the file.")
            yield name, _counts(row[-10:], where)


def _rows(file: Path, needed: set[str]) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        lines = _readable(csv.reader(stream), file)
        # Kaggle has handed the pixels out with and without blanks after the commas of the header.
        header = [name.strip() for name in next(lines, [])]
        missing = sorted(needed - set(header))
        if missing:
            raise InputError(
                f"{file} lacks the columns {', '.join(missing)}: take the official one."
            )
        for number, row in enumerate(lines, start=1):
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"{file}, row {number}: {len(row)} cells, not {len(header)}.")
            yield {name: cell.strip() for name, cell in zip(header, row, strict=True)}


def _readable(lines: Iterator[list[str]], file: Path) -> Iterator[list[str]]:
    try:
        yield from lines
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a readable CSV file ({error}): take it anew.") from error


def _counts(cells: list[str], where: str) -> list[int]:
    try:
        counts = [int(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{where}: votes must be whole numbers ({error}).") from error
    if min(counts) < 0 or max(counts) > 255:
        raise InputError(f"{where}: votes must lie between 0 and 255, restore the file.")
    return counts
