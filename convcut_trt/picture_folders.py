"""Readers of labelled picture files: RAF-DB as it is handed out, and folders named by class.

Use ``convcut_trt.datasets.open_dataset`` to open them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from convcut_trt.duplicates import pixel_hash
from convcut_trt.errors import InputError
from convcut_trt.pictures import SUFFIXES, PictureFiles

RAFDB_CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")

_RAFDB_LIST = "EmoLabel/list_patition_label.txt"  # spelt so
_RAFDB_LINE = re.compile(r"(train|test)_(\d+)\.jpg\s+([1-7])")
_SPLITS = {
    **{"train": 0, "training": 0},
    **{"val": 1, "valid": 1, "validation": 1},
    **{"test": 2, "testing": 2},
}


class Listed(NamedTuple):
    """One picture file with the name of its class and the code of its split."""

    file: Path
    label: str
    split: int


class Read(NamedTuple):
    """The pictures that can be read, their hashes and positions, and a line for each other one."""

    images: PictureFiles
    hashes: tuple[str, ...]
    kept: list[int]
    skipped: tuple[str, ...]


def rafdb_root(path: Path) -> Path | None:
    """Find the folder of RAF-DB's label list: ``path``, its ``basic``, or None."""
    return next((r for r in (path, path / "basic") if (r / _RAFDB_LIST).is_file()), None)


def list_rafdb(path: Path) -> list[Listed]:
    """List RAF-DB's aligned faces, classes as in ``RAFDB_CLASSES``.

    Raises:
        InputError: No label list, an empty one, or a line that does not belong there.
    """
    root = rafdb_root(path)
    if root is None:
        raise InputError(f"{path} has no {_RAFDB_LIST}: give RAF-DB's folder 'basic'.")
    found = []
    lines = (root / _RAFDB_LIST).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _RAFDB_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{root / _RAFDB_LIST}, line {number}: need 'train_00001.jpg 5' with a label "
                "from 1 to 7, restore the file."
            )
        split, stem, label = match.groups()
        file = root / "Image" / "aligned" / f"{split}_{stem}_aligned.jpg"
        found.append(Listed(file, RAFDB_CLASSES[int(label) - 1], _SPLITS[split]))
    if not found:
        raise InputError(f"{root / _RAFDB_LIST} is empty: restore the file.")
    return found


def list_folders(path: Path) -> list[Listed]:
    """List ``ROOT/CLASS/*`` as train, or ``ROOT/{train,val,test}/CLASS/*``; hidden files are not.

    Raises:
        InputError: No pictures, one class only, or folders of splits and of others side by side.
    """
    if not path.is_dir():
        raise InputError(f"{path} is a file: give the folder that holds the class folders.")
    found = [
        Listed(file, folder.name, split)
        for split, part in _split_folders(path)
        for folder in _folders(part)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    if not found:
        raise InputError(
            f"{path} has no pictures in class folders: lay them out as {path.name}/CLASS/*.png "
            f"or {path.name}/train/CLASS/*.png."
        )
    labels = {item.label for item in found}
    if len(labels) == 1:
        raise InputError(
            f"{path} has pictures of one class only ({labels.pop()}): give the folder above, "
            "or add a second class."
        )
    return found


def _folders(path: Path) -> list[Path]:
    hidden = (".", "__")  # .git, __MACOSX
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(hidden))


def _split_folders(path: Path) -> list[tuple[int, Path]]:
    folders = _folders(path)
    parts = [(_SPLITS[p.name.lower()], p) for p in folders if p.name.lower() in _SPLITS]
    if not parts:
        return [(0, path)]
    if len(parts) != len(folders) or len({split for split, _ in parts}) != len(parts):
        raise InputError(
            f"{path} holds {', '.join(p.name for p in folders)}: keep either class folders, or "
            "one folder each of train, validation and test."
        )
    return sorted(parts)


def read_all(pictures: PictureFiles, *, skip_corrupt: bool) -> Read:
    """Decode every file once: what is unreadable is known at the start, and so are the hashes.

    Raises:
        InputError: Pictures that cannot be read, by name, unless ``skip_corrupt``; or all of them.
    """

    def read(position: int) -> tuple[str, str]:
        try:
            return pixel_hash(pictures[position]), ""
        except InputError as error:
            return "", str(error)

    # Few threads, because each may hold a picture of 40 megapixels.
    with ThreadPoolExecutor(max_workers=4) as pool:
        results = list(pool.map(read, range(len(pictures))))
    skipped = tuple(problem for _, problem in results if problem)
    kept = [position for position, (digest, _) in enumerate(results) if digest]
    if skipped and not (skip_corrupt and kept):
        raise InputError(
            f"{len(skipped)} of {len(pictures)} pictures cannot be read, repair or remove them"
            f"{'' if skip_corrupt else ' or pass skip_corrupt=True'}: {_first(skipped)}"
        )
    images = PictureFiles(tuple(pictures.paths[i] for i in kept), pictures.grey)
    return Read(images, tuple(results[i][0] for i in kept), kept, skipped)


def _first(lines: Sequence[str], most: int = 10) -> str:
    more = f" ... and {len(lines) - most} more." if len(lines) > most else ""
    return " ".join(lines[:most]) + more
