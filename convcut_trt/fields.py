"""JSON files of ours: read with every field checked, written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from convcut_trt.errors import ConvcutError, InputError, of_system

T = TypeVar("T")
_ABANDONED_S = 3600.0
_MOST_BYTES = (
    64 << 20
)  # ours have 11 kB to 5 MB; as Python's objects JSON takes up to 30 times its bytes
_MOST_DEEP = 50  # ours reach 8; copying and writing take several of Python's 1000 frames for each
_SURROGATE = re.compile(r"[\ud800-\udfff]")


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
        values = json.loads(read_text(path))
        check_tree(values)
    except FileNotFoundError:
        raise error(f"{path} does not exist: {fix}") from None
    except (OSError, ValueError, RecursionError) as problem:  # ValueError: not UTF-8, not JSON
        raise error(f"{path} cannot be read ({problem}): {fix}") from None
    fields = Fields(values, path.name, error)
    found = fields.get("schema", int)
    if found != schema:
        raise error(f"{path.name} has schema {found}, this version reads {schema}: {fix}")
    return fields


def read_text(path: Path) -> str:
    """A text file of ours.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not UTF-8, or larger than any of ours.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
    return content.decode("utf-8")


@contextlib.contextmanager
def reading(kind: type[ConvcutError]) -> Iterator[None]:
    """Around what looks paths up, also as a decorator: what the system refuses, as names that are too long.

    Raises:
        ConvcutError: Of this kind; the text names file and fix.
    """
    try:
        yield
    except OSError as problem:
        raise kind(of_system(problem)) from problem


def check_tree(values: Any) -> None:
    """Makes sure that what was read can be walked through, hashed, copied and printed.

    Raises:
        ValueError: It is nested too deep, or a text in it is half a character.
    """
    level, depth = [values], 0
    while level:
        if depth > _MOST_DEEP:
            raise ValueError(f"it is nested more than {_MOST_DEEP} deep")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and _SURROGATE.search(value):
                raise ValueError(f"the text {value[:80]!r} is no Unicode")
        level, depth = inner, depth + 1


def canonical(values: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed to recognise a JSON object."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; what is written there is flushed to the disk, then takes its place.

    Where anything fails a former file is as it was; a link at ``path`` is replaced, not followed. What killed
    processes have left of earlier tries is removed once it is an hour old.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    # Not by the process: two containers that share a folder may have the same number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):
        _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    # Compared with the file just written: the folder may lie on a machine with another clock.
    now = path.stat().st_mtime
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if now - left.stat().st_mtime > _ABANDONED_S:
            left.unlink()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, see ``replacing``.

    Raises:
        InputError: The disk is full, or the folder cannot be written to; a former file is as it was.
    """
    try:
        with replacing(path) as temporary, temporary.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}): free some space or choose another folder"
        ) from None


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
