"""The bundled model and untrained ones, and the ways to break them of ``bench.breakages``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.breakages import CHANGES as BROKEN
from bench.breakages import Change, changed, constant, convolutions, edit, reconnect, scaled
from convcut_trt import fields, home
from convcut_trt.home import Model
from convcut_trt.network import read_onnx
from convcut_trt.spec import INPUT, ModelSpec

__all__ = [
    "BROKEN",
    "Change",
    "another_network",
    "changed",
    "constant",
    "convolutions",
    "edit",
    "network",
    "of_batch",
    "pictures",
    "quiet",
    "reconnect",
    "run",
    "scaled",
    "write",
    "zoo",
]


def quiet(phase: str, done: int, total: int) -> None:
    """A step that says nothing."""


def zoo() -> Model:
    """The bundled model."""
    return home.find_model(home.DEFAULT_MODEL)


def write(folder: Path, model: onnx.ModelProto, spec: ModelSpec, source: Path = home.ZOO) -> Model:
    """Writes a model as export does: its ONNX, its witnesses and a spec that is bound to the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.name}.onnx"
    path.write_bytes(model.SerializeToString())
    for witness in spec.witnesses:
        (folder / witness.file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / witness.file, folder / witness.file)
    bound = replace(spec, onnx_sha256=fields.sha256(path))
    bound.write(path.with_suffix(".spec.json"))
    return Model(path, bound)


def of_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy for one batch only."""

    def change(copy: onnx.ModelProto) -> None:
        for value in (*copy.graph.input, *copy.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch

    return changed(model, change)


def another_network(outputs: tuple[str, ...] = ("scores",)) -> onnx.ModelProto:
    """An image classifier as torchvision exports it: float [N, 3, S, S] -> scores."""
    weights = numpy_helper.from_array(np.ones((5, 3, 4, 4), np.float32), "w")
    shape: list[str | int | None] = ["batch", 5, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w"], [name], strides=[4, 4]) for name in outputs],
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "zoo": {},
    "channel": {"attention": "channel"},
    "spatial": {"attention": "spatial", "detail": ((2, 1), (2, 1))},
    "projection": {"attention": "channel", "projection": 8, "cut": "stage2.block1.norm"},
}
"""What ``network`` takes: the bundled model, and untrained ones of every kind of tail."""


@cache
def network(kind: str) -> onnx.ModelProto:
    """The FP32 ONNX of one of NETWORKS; untrained ones need torch. Not to be changed."""
    if kind == "zoo":
        return read_onnx(zoo().onnx)
    torch = pytest.importorskip("torch")
    for needed in ("timm", "onnxsim"):
        pytest.importorskip(needed)
    from export.deploy import deploy
    from export.model import ConvCut
    from export.recipe import Input
    from export.to_onnx import graph

    torch.manual_seed(0)
    options = {"depths": [1, 2, 1, 1], "dims": [8, 16, 16, 16], "patch_size": 2}
    arguments = {"cut": "stage2", "detail": ((3, 1), (2, 1)), "width": 16, **NETWORKS[kind]}
    model = ConvCut("convnext_tiny", **arguments, image_size=32, trunk_options=options).eval()
    for module in model.modules():  # so that folding the statistics is not the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean, module.running_var = torch.rand(8), torch.rand(8) + 0.5
    faces = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    deployed, _ = deploy(model, Input(size=32, mean=(0.5,) * 3, std=(0.25,) * 3), faces)
    return graph(deployed, 32)


def pictures(model: onnx.ModelProto, count: int = 8) -> NDArray[np.uint8]:
    """Random faces of the size that a network takes."""
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def run(model: onnx.ModelProto, faces: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The answers of a graph on onnxruntime's CPU, by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: faces}), strict=True))
