"""Lists of labelled picture files: RAF-DB as it is handed out, and folders named by class.

Use ``convcut_trt.datasets.open_dataset`` to open them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from convcut_trt.errors import InputError
from convcut_trt.pictures import list_pictures

RAFDB_CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")

# The official name is spelt so; copies correct it.
_RAFDB_LISTS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
_RAFDB_LINE = re.compile(r"((train|test)_\d+)(?:_aligned)?\.jpg\s+([1-7])")
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


def rafdb_list(path: Path) -> Path | None:
    """Find RAF-DB's label list in ``path`` or its ``basic``, or None."""
    candidates = (root / name for root in (path, path / "basic") for name in _RAFDB_LISTS)
    return next((file for file in candidates if file.is_file()), None)


def list_rafdb(path: Path) -> list[Listed]:
    """List RAF-DB's aligned faces, classes as in ``RAFDB_CLASSES``.

    Official are lines ``train_00001.jpg 5`` for files ``train_00001_aligned.jpg``; both are taken with and
    without ``_aligned``. Files that are not there stay in the list: who reads them names them all.

    Raises:
        InputError: No label list or an empty one, a line that does not belong there or comes twice, or
            no aligned faces.
    """
    file = rafdb_list(path)
    if file is None:
        raise InputError(f"{path} has no {_RAFDB_LISTS[0]}: give RAF-DB's folder 'basic'.")
    aligned = file.parents[1] / "Image" / "aligned"
    if not aligned.is_dir():
        raise InputError(
            f"{aligned} is missing: unpack RAF-DB's aligned.zip there; its other pictures are not cut "
            "to the face."
        )
    there = {picture.name for picture in aligned.iterdir()}
    found: dict[str, Listed] = {}
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _RAFDB_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{file}, line {number}: need 'train_00001.jpg 5' with a label from 1 to 7, "
                "restore the file."
            )
        stem, split, label = match.groups()
        if stem in found:
            raise InputError(f"{file}, line {number}: {stem} comes twice, restore the file.")
        name = f"{stem}.jpg" if f"{stem}.jpg" in there else f"{stem}_aligned.jpg"
        found[stem] = Listed(aligned / name, RAFDB_CLASSES[int(label) - 1], _SPLITS[split])
    if not found:
        raise InputError(f"{file} is empty: restore the file.")
    return list(found.values())


def list_folders(path: Path) -> list[Listed]:
    """List ``ROOT/CLASS/*`` as train, or ``ROOT/{train,val,test}/CLASS/*``; hidden files are not.

    Raises:
        InputError: No pictures at all, in a split, or in a class folder of train; one class only; a
            class that train lacks; or folders of splits and of others side by side.
    """
    if not path.is_dir():
        raise InputError(f"{path} is a file: give the folder that holds the class folders.")
    parts = _split_folders(path)
    found = [item for split, part in parts for item in _list_part(split, part)]
    if not found:
        raise InputError(
            f"{path} has no pictures in class folders: lay them out as {path.name}/CLASS/*.png "
            f"or {path.name}/train/CLASS/*.png."
        )
    _check_parts(parts, found)
    return found


def _list_part(split: int, part: Path) -> list[Listed]:
    return [
        Listed(file, folder.name, split)
        for folder in _folders(part)
        for file in list_pictures(folder)
    ]


def _check_parts(parts: list[tuple[int, Path]], found: list[Listed]) -> None:
    labels = {split: {item.label for item in found if item.split == split} for split, _ in parts}
    for split, part in parts:
        if not labels[split]:
            raise InputError(f"{part} has no pictures in class folders: add some, or remove it.")
    first, folder = parts[0]  # what is learnt from, where there is a train
    if len(labels[first]) == 1:
        raise InputError(
            f"{folder} has pictures of one class only ({labels[first].pop()}): give the folder above, "
            "or add a second class."
        )
    if first != 0:
        return
    empty = [own.name for own in _folders(folder) if own.name not in labels[first]]
    if empty:
        raise InputError(
            f"{folder} has folders without pictures ({', '.join(empty)}): add some, or remove them."
        )
    for split, part in parts[1:]:
        strangers = sorted(labels[split] - labels[first])
        if strangers:
            raise InputError(
                f"{part} has classes that {folder.name} lacks ({', '.join(strangers)}): rename them, or "
                "move them away."
            )


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
