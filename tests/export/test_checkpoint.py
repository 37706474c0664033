"""Checkpoints: whole or not at all, and only ours are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convcut_trt.errors import InputError
from export import checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
NOTE = {"schema": checkpoint.SCHEMA, "classes": ["x", "y"], "recipe": {"name": "tiny"}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    transposed = {"t": torch.arange(6.0).view(2, 3).T.requires_grad_()}
    checkpoint.write(path, TENSORS | transposed, NOTE)
    tensors, note = checkpoint.read(path)
    assert note == NOTE
    torch.testing.assert_close(tensors, TENSORS | {"t": transposed["t"].detach()})
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_an_interrupted_write_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, TENSORS, NOTE)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        checkpoint.write(path, {"a": torch.zeros(1)}, NOTE)
    monkeypatch.undo()
    assert checkpoint.read(path)[1] == NOTE
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.write(path, TENSORS, NOTE)
    content = path.read_bytes()
    for length in (0, 4, 20, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="no checkpoint of convcut-trt"):
            checkpoint.read(path)


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    deep = "[" * 400 + "]" * 400
    for metadata in (
        *(None, {"note": "no json"}, {"note": "[1]"}, {"note": '{"schema": 99}'}),
        *(
            {"note": f'{{"schema": 2, "classes": {value}}}'}
            for value in ("5", "[1]", deep, '["x"]')
        ),
        *({"note": note} for note in ('{"schema": 2}', "[" * 100_000)),
    ):
        save_file(TENSORS, path, metadata=metadata)
        with pytest.raises(InputError, match="no checkpoint of convcut-trt"):
            checkpoint.read(path)
    with pytest.raises(InputError, match="convcut-trt train"):
        checkpoint.read(tmp_path / "none.safetensors")
    with pytest.raises(InputError):
        checkpoint.read(tmp_path)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="another folder with -o"):
        checkpoint.make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="another folder with -o"):
        checkpoint.make_folder(tmp_path / "file" / "below")
    checkpoint.make_folder(tmp_path / "new" / "below")
    assert (tmp_path / "new" / "below").is_dir()


def test_prefixes_come_and_go() -> None:
    both = checkpoint.prefixed("model", TENSORS) | checkpoint.prefixed(
        "model.b", {"c": TENSORS["a"]}
    )
    assert both.keys() == {"model.a", "model.b", "model.b.c"}
    assert checkpoint.unprefixed("model.b", both).keys() == {"c"}
