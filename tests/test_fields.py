"""Our JSON files: what is wrong is named, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from convcut_trt import fields
from convcut_trt.errors import InputError, ManifestError, SpecError
from convcut_trt.fields import Fields, read_json, sha256, write_file, write_json

FIX = "export it again"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.spec.json"
    write_json(path, {"schema": 3, "name": "Zoé", "share": 1, "list": [1, 2]})
    found = read_json(path, 3, SpecError, FIX)
    assert found.get("name", str) == "Zoé"
    assert found.get("share", float) == 1.0
    assert isinstance(found.get("share", float), float)
    assert found.list_of("list", int) == (1, 2)
    assert found.optional("absent", int) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("3", int),
        (3.0, int),
        (True, int),
        (True, float),
        (None, str),
        (1, bool),
        ({}, list),
        ([], dict),
        (float("nan"), float),
        (float("inf"), float),
        (-float("inf"), float),
        (10**400, float),
    ],
)
def test_a_wrong_value_names_file_and_field(value: Any, kind: type) -> None:
    with pytest.raises(SpecError, match=r"a\.json: the field 'size' must be"):
        Fields({"size": value}, "a.json", SpecError).get("size", kind)


def test_a_wrong_entry_names_its_place() -> None:
    fields = Fields({"box": [1, "two"], "witnesses": [{}, 5]}, "a.json", ManifestError)
    with pytest.raises(ManifestError, match=r"a\.json: box: the field '1' must be float"):
        fields.list_of("box", float)
    with pytest.raises(ManifestError, match=r"a\.json: witnesses\[1\]: expected an object"):
        fields.objects("witnesses")
    with pytest.raises(ManifestError, match="the field 'name' is missing"):
        fields.get("name", str)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b'{"schema": 1', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b"[1]", "expected an object, found list"),
        (b"{}", "the field 'schema' is missing"),
        (b'{"schema": true}', "the field 'schema' must be int"),
        (b'{"schema": 0}', "schema 0, this version reads 1: export it again"),
        (b'{"schema": 2}', "schema 2, this version reads 1: export it again"),
    ],
)
def test_what_is_no_file_of_ours(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=said):
        read_json(path, 1, SpecError, FIX)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema": 1, "a": ' + b"[" * 60 + b"]" * 60 + b"}", "nested more than 50 deep"),
        (b'{"schema": 1, "a": ' + b'{"a": ' * 400 + b"1" + b"}" * 401, "nested more than 50 deep"),
        (b'{"schema": 1, "a": "\\ud800"}', "no Unicode"),
        (b'{"schema": 1, "\\udfff": 1}', "no Unicode"),
        (b'{"schema": 1}' + b" " * 200, "more than 0 MiB"),
    ],
)
def test_what_could_not_be_copied_or_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr(fields, "_MOST_BYTES", 200 if "MiB" in said else 10_000)
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=f"{said}.*: export it again"):
        read_json(path, 1, SpecError, FIX)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"does not exist: {FIX}"):
        read_json(tmp_path / "none.json", 1, SpecError, FIX)
    with pytest.raises(SpecError, match=f"cannot be read .*: {FIX}"):
        read_json(tmp_path, 1, SpecError, FIX)


def test_a_failed_write_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_file(path, b"former")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"former"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than one piece
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
