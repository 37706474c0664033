"""Checkpoints as safetensors: tensors and a JSON note in one file, no pickle, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convcut_trt.errors import InputError
from convcut_trt.fields import check_tree, write_file

SCHEMA = 2


def make_folder(folder: Path) -> None:
    """Creates a folder to write into.

    Raises:
        InputError: It cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be created ({error.strerror}): choose another folder with -o"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to: choose another folder with -o")


def write(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able note; an interrupted write leaves the former file as it was.

    Raises:
        InputError: The disk is full, or the folder cannot be written to.
    """
    # Not save_file: its own temporary file would stay behind, nobody's, where the process is killed.
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"note": json.dumps(note)},
    )
    write_file(path, content)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``write`` wrote.

    Raises:
        InputError: No such file, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            note = json.loads((file.metadata() or {})["note"])
        check_tree(note)
        if not isinstance(note, dict) or note.get("schema") != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        classes = note.get("classes")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("it names no classes")
        if not isinstance(note.get("recipe"), dict):
            raise ValueError("it has no recipe")
    except FileNotFoundError:
        raise InputError(
            f"there is no checkpoint {path}: train one with `convcut-trt train`"
        ) from None
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no checkpoint of convcut-trt train ({error}): give its model.safetensors"
        ) from None
    return tensors, note


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each name led by ``prefix.``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names are led by ``prefix.``, without it."""
    start = f"{prefix}."
    return {
        name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)
    }
