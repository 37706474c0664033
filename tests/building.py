"""Builds for the tests: with onnxruntime, a small batch and few pictures, unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from convcut_trt import build
from convcut_trt.gates import judged
from convcut_trt.home import Model
from convcut_trt.manifest import EngineManifest
from convcut_trt.request import Request
from convcut_trt.spec import OUTPUTS
from tests import models

ZOO = models.zoo()
FACES = judged.bundled(ZOO.spec.size, 4)


def make(folder: Path, model: Model = ZOO, **changes: Any) -> EngineManifest:
    """Builds an engine into a folder."""
    request = {"precision": "fp16", "backend": "onnxruntime", "batch": (1, 2, 2), "judged": FACES}
    return build.build(model, Request(output=folder, **{**request, **changes}), models.quiet)


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file in a folder but the reports of failed builds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if not path.name.endswith(".failed.json")}


def check_published(manifest: EngineManifest, folder: Path) -> None:
    """Everything that a robot needs lies in the folder, and nothing else."""
    assert EngineManifest.read(manifest.path) == manifest
    manifest.check_files()
    names = {manifest.path.name, *map(str, manifest.files.values())}
    assert {path.name for path in folder.iterdir()} == {*names, "witnesses"}
    faces, _ = manifest.spec.witness_faces(folder)
    assert len(faces) == len(ZOO.spec.witnesses)
    typed = onnx.load(manifest.typed_onnx)
    assert typed.ir_version <= 10
    assert len({entry.domain for entry in typed.opset_import}) == len(typed.opset_import)
    assert tuple(output.name for output in typed.graph.output) == OUTPUTS
