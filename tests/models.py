"""The bundled model, and ways to break a network that a gate has to notice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convcut_trt import build, fields, home, seam
from convcut_trt.home import Model
from convcut_trt.spec import INPUT, ModelSpec

Change = Callable[[onnx.ModelProto], None]


def quiet(phase: str, done: int, total: int) -> None:
    """A step that says nothing."""


def zoo() -> Model:
    """The bundled model."""
    return home.find_model(home.DEFAULT_MODEL)


def changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A copy of a model with one change, still valid ONNX."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    onnx.checker.check_model(copy)
    return copy


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


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions in the order of the graph; the first is the stem."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def edit(model: onnx.ModelProto, name: str, change: Callable[[NDArray[np.float32]], None]) -> None:
    """Changes the values of one weight tensor in place."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def reconnect(model: onnx.ModelProto, old: str, new: str) -> None:
    """Every node that read the tensor ``old`` reads ``new``."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def constant(model: onnx.ModelProto, name: str, values: object, dtype: str) -> str:
    """Adds a constant and gives its name back."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    return name


def _other_weights(model: onnx.ModelProto) -> None:
    random = np.random.default_rng(1)
    for node in convolutions(model)[1:]:
        edit(model, node.input[1], lambda values: random.shuffle(values.reshape(-1)))


def without_block(number: int) -> Change:
    """Bypasses a residual block: its readers get the shortcut alone."""

    def change(model: onnx.ModelProto) -> None:
        made_by = {node.output[0]: node for node in model.graph.node}
        add = [node for node in model.graph.node if node.op_type == "Add"][number]
        (shortcut,) = (
            name
            for name in add.input
            if made_by[name].op_type != "Conv" or made_by[made_by[name].input[0]].op_type != "Gelu"
        )
        reconnect(model, add.output[0], shortcut)
        model.graph.node.remove(add)

    return change


def _dead_channel(model: onnx.ModelProto) -> None:
    for name in convolutions(model)[0].input[1:]:
        edit(model, name, lambda values: values[0].fill(0))


def _epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "LayerNormalization" and attribute.name == "epsilon":
                attribute.f = 1e-3


def _shifted(model: onnx.ModelProto) -> None:
    # The picture moves right by one pixel, its first column is seen twice.
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    columns = [0, *range(side - 1)]
    place = constant(model, "columns", columns, "int64")
    model.graph.node.insert(0, helper.make_node("Gather", [INPUT, place], ["shifted"], axis=2))
    for node in list(model.graph.node)[1:]:
        node.input[:] = ["shifted" if name == INPUT else name for name in node.input]


def _swapped(model: onnx.ModelProto) -> None:
    edit(
        model,
        convolutions(model)[0].input[1],
        lambda values: np.copyto(values, values[:, ::-1].copy()),
    )


def _unnormalised(model: onnx.ModelProto) -> None:
    # Mean and scale are folded into the stem: without the mean its bias is another one.
    edit(model, convolutions(model)[0].input[2], lambda values: values.fill(0))


def _not_a_number(model: onnx.ModelProto) -> None:
    edit(
        model, convolutions(model)[-1].input[1], lambda values: values.reshape(-1)[:1].fill(np.nan)
    )


def _neighbours(model: onnx.ModelProto) -> None:
    # The map minus the half of the batch's mean.
    for node in model.graph.node:
        node.output[:] = ["inner map" if name == seam.SEAM else name for name in node.output]
    axes = constant(model, "batch axis", [0], "int64")
    share = constant(model, "share", -0.5, "float32")
    made = next(i for i, node in enumerate(model.graph.node) if "inner map" in node.output)
    nodes = [
        helper.make_node("ReduceMean", ["inner map", axes], ["crowd"], keepdims=1),
        helper.make_node("Mul", ["crowd", share], ["part"]),
        helper.make_node("Add", ["inner map", "part"], [seam.SEAM]),
    ]
    for offset, node in enumerate(nodes):
        model.graph.node.insert(made + 1 + offset, node)


def _attention_over_the_batch(model: onnx.ModelProto) -> None:
    # softmax(A A^T / sqrt(d)) A over the faces of a batch: what the paper's released code computes.
    head = next(node for node in model.graph.node if "logits" in node.output)
    faces, place = head.input[0], list(model.graph.node).index(head)
    width = numpy_helper.to_array(
        next(tensor for tensor in model.graph.initializer if tensor.name == head.input[1])
    ).shape[1]
    scale = constant(model, "crowd scale", width**-0.5, "float32")
    nodes = [
        helper.make_node("Transpose", [faces], ["faces^T"], perm=[1, 0]),
        helper.make_node("MatMul", [faces, "faces^T"], ["likeness"]),
        helper.make_node("Mul", ["likeness", scale], ["score"]),
        helper.make_node("Softmax", ["score"], ["weight"], axis=-1),
        helper.make_node("MatMul", ["weight", faces], ["attended"]),
    ]
    head.input[0] = "attended"
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)


BROKEN: Mapping[str, Change] = {
    "other weights": _other_weights,
    "first block removed": without_block(0),
    "last block removed": without_block(-1),
    "dead channel": _dead_channel,
    "epsilon 1e-3": _epsilon,
    "one pixel of shift": _shifted,
    "colours swapped": _swapped,
    "not normalised": _unnormalised,
    "NaN": _not_a_number,
    "neighbours": _neighbours,
    "attention over the batch": _attention_over_the_batch,
}


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in FP32, with an activation beyond the end of FP16 at 65504.

    What one convolution scales up, the next one scales down.
    """

    def change(copy: onnx.ModelProto) -> None:
        first, second = convolutions(copy)[-3:-1]
        factor = np.float32(2.0**16)
        for name in first.input[1:]:
            edit(copy, name, lambda values: np.copyto(values, values * factor))
        edit(copy, second.input[1], lambda values: np.copyto(values, values / factor))

    return changed(model, change)


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
        return build.read_onnx(zoo().onnx)
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
