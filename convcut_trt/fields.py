"""JSON files of ours: read with every field checked, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from convcut_trt.errors import ConvcutError, InputError

T = TypeVar("T")


class Fields:
    """Typed access to one JSON object. A missing or wrong field is an error that names file and field.

    Args:
        values: The object.
        source: What to call the file in messages.
        error: The error class to raise.
    """

    def __init__(self, values: Any, source: str, error: type[ConvcutError]) -> None:
        self.source, self.error = source, error
        if not isinstance(values, dict):
            raise error(f"{source}: expected an object, found {type(values).__name__}")
        self.values: dict[str, Any] = values

    def get(self, name: str, kind: type[T]) -> T:
        """The field ``name``, of type ``kind`` (an int serves as a float, which is always finite)."""
        if name not in self.values:
            raise self.error(f"{self.source}: the field {name!r} is missing")
        value = self.values[name]
        if kind is float and type(value) in (int, float):
            # json reads NaN, Infinity, 1e999 and integers of any length.
            if not abs(value) <= sys.float_info.max:
                raise self.error(f"{self.source}: the field {name!r} must be a finite number")
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(
                f"{self.source}: the field {name!r} must be {kind.__name__}, it is {type(value).__name__}"
            )
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The field ``name``, or None where it is null or absent."""
        return None if self.values.get(name) is None else self.get(name, kind)

    def inside(self, name: str) -> Fields:
        """The object ``name``."""
        return Fields(self.get(name, dict), f"{self.source}: {name}", self.error)

    def objects(self, name: str) -> list[Fields]:
        """The list of objects ``name``."""
        return [
            Fields(value, f"{self.source}: {name}[{number}]", self.error)
            for number, value in enumerate(self.get(name, list))
        ]

    def list_of(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """The list ``name``, every entry of type ``kind``."""
        values = self.get(name, list)
        entries = Fields(
            {str(i): value for i, value in enumerate(values)}, f"{self.source}: {name}", self.error
        )
        return tuple(entries.get(str(i), kind) for i in range(len(values)))


def read_json(path: Path, schema: int, error: type[ConvcutError], fix: str) -> Fields:
    """Reads one of our JSON files and checks its schema number.

    Args:
        path: The file.
        schema: The schema number this version reads.
        error: The error class to raise.
        fix: What to do when the file cannot be used; ends each message.
    """
    try:
        fields = Fields(json.loads(path.read_text(encoding="utf-8")), path.name, error)
    except FileNotFoundError:
        raise error(f"{path} does not exist: {fix}") from None
    except (OSError, ValueError, RecursionError) as problem:  # ValueError: not UTF-8, not JSON
        raise error(f"{path} cannot be read ({problem}): {fix}") from None
    found = fields.get("schema", int)
    if found != schema:
        raise error(f"{path.name} has schema {found}, this version reads {schema}: {fix}")
    return fields


def canonical(values: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed to recognise a JSON object."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk, and renames it.

    Raises:
        InputError: The disk is full, or the folder cannot be written to; a former file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}): free some space or choose another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object, indented, whole or not at all."""
    write_file(path, json.dumps(values, indent=2).encode() + b"\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
