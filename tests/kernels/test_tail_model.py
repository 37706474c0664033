"""Tails read from ONNX: against onnxruntime, and what the kernel must leave to the native tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convcut_trt.errors import InputError
from convcut_trt.kernels.tail import Attention, Tail, check_pointers, twin
from convcut_trt.seam import split
from tests.kernels.host import HostTail, random_map, random_tail
from tests.models import changed, network

onnxruntime = pytest.importorskip("onnxruntime")
CLOSE = 1e-5


def as_onnx(tail: Tail) -> onnx.ModelProto:
    """A tail as export and onnxsim leave it, without torch."""
    channels, height, width = tail.map_shape
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}

    def node(kind: str, *inputs: Any, to: str = "", **attributes: Any) -> str:
        """Adds a node; numbers and arrays among the inputs become constants."""
        names = []
        for value in inputs:
            if not isinstance(value, str):
                dtype = np.int64 if isinstance(value, list) else np.float32
                constants[f"c{len(constants)}"] = np.asarray(value, dtype)
                value = f"c{len(constants) - 1}"
            names.append(value)
        output = to or f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    if tail.attention == "spatial":
        x = node("Transpose", "map", perm=[0, 2, 3, 1])
        x = node("Reshape", x, [-1, height * width, channels], allowzero=0)
        scores = node("MatMul", x, node("Transpose", x, perm=[0, 2, 1]))
        weights = node("Softmax", node("Mul", tail.score_scale, scores), axis=-1)
        x = node("ReduceMean", node("MatMul", weights, x), [1], keepdims=0)
    else:
        x = node("ReduceMean", "map", [2, 3], keepdims=0)
    gemm: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "transB": 1}
    if tail.projection is not None:
        x = node("Relu", node("Gemm", x, tail.projection.weight, tail.projection.bias, **gemm))
        x = node("Add", node("Mul", x, tail.projection.scale), tail.projection.shift)
    if tail.attention == "channel":
        row = node("Unsqueeze", x, [1])
        column = node("Unsqueeze", node("Mul", tail.score_scale, x), [2])
        weights = node("Softmax", node("Mul", column, row), axis=2)
        x = node("ReduceSum", node("Mul", weights, row), [2], keepdims=0)
    node("Gemm", x, tail.head_weight, tail.head_bias, to="logits", **gemm)
    scaled = "logits"
    if tail.temperature != 1:
        scaled = node("Div", "logits", tail.temperature)
    node("Softmax", scaled, to="probabilities", axis=1)
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", *tail.map_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", tail.classes])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def compare(host_tail: HostTail, model: onnx.ModelProto) -> Tail:
    """onnxruntime, the twin and the kernel on the same maps."""
    tail = Tail.from_onnx(model)
    map = random_map(np.random.default_rng(0), tail, 3, "float32")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    native = session.run(["logits", "probabilities"], {"map": map})
    for of_kernel, of_twin, of_native in zip(
        host_tail(tail, map), twin(tail, map), native, strict=True
    ):
        largest = np.abs(of_twin).max()
        assert np.abs(of_native - of_twin).max() <= CLOSE * largest
        assert np.abs(of_kernel - of_twin).max() <= CLOSE * largest
    return tail


def test_the_tail_of_the_zoo(host_tail: HostTail) -> None:
    tail = compare(host_tail, split(network("zoo"))[1])
    assert (tail.map_shape, tail.attention, tail.classes) == ((256, 3, 3), "spatial", 8)


@pytest.mark.parametrize("kind", ["channel", "spatial", "projection"])
def test_the_tails_that_export_writes(host_tail: HostTail, kind: str) -> None:
    tail = compare(host_tail, split(network(kind))[1])
    assert tail.attention == ("spatial" if kind == "spatial" else "channel")
    assert tail.units == (8 if kind == "projection" else 0)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("units", [0, 24])
@pytest.mark.parametrize("attention", ["none", "channel", "spatial"])
def test_small_tails(
    host_tail: HostTail, attention: Attention, units: int, temperature: float
) -> None:
    made = random_tail(np.random.default_rng(1), attention, (20, 3, 2), units)
    made = replace(made, temperature=temperature)
    read = compare(host_tail, as_onnx(made))
    assert (read.attention, read.units, read.temperature) == (attention, units, temperature)
    np.testing.assert_array_equal(read.pack()[1:], replace(made, score_scale=0.0).pack()[1:])


def another_axis(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Softmax").attribute[0].i = 1


def a_maximum(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "ReduceMean").op_type = "ReduceMax"


def one_more_layer(model: onnx.ModelProto) -> None:
    last = model.graph.node[-1]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Relu", [last.input[0]], ["more"])
    )
    last.input[0] = "more"


def other_logits(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["inner" if name == "logits" else name for name in names]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Neg", ["inner"], ["logits"])
    )


def a_map_of_any_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def a_second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def a_scale_for_every_channel(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.dims == []:
            tensor.CopyFrom(numpy_helper.from_array(np.ones((1, 1, 2), np.float32), tensor.name))
            return


@pytest.mark.parametrize(
    "change",
    [
        another_axis,
        a_maximum,
        one_more_layer,
        other_logits,
        a_map_of_any_size,
        a_second_input,
        a_scale_for_every_channel,
    ],
)
def test_another_tail_is_left_to_the_native_one(change: Callable[[onnx.ModelProto], None]) -> None:
    model = as_onnx(random_tail(np.random.default_rng(0), "spatial", (20, 3, 2)))
    Tail.from_onnx(model)
    with pytest.raises(InputError, match="--tail native"):
        Tail.from_onnx(changed(model, change))


@pytest.mark.parametrize(
    ("map_shape", "units", "classes"),
    [
        ((513, 2, 2), 0, 8),
        ((64, 9, 2), 0, 8),
        ((64, 2, 9), 0, 8),
        ((64, 2, 2), 513, 8),
        ((64, 2, 2), 0, 65),
    ],
)
def test_beyond_the_limits(map_shape: tuple[int, int, int], units: int, classes: int) -> None:
    with pytest.raises(InputError, match="--tail native"):
        random_tail(np.random.default_rng(0), "channel", map_shape, units, classes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"score_scale": float("nan")},
        {"attention": "global"},
        {"head_bias": np.zeros(7, np.float32)},
        {"head_weight": np.zeros((8, 63), np.float32)},
        {"map_shape": (0, 2, 2)},
    ],
)
def test_parameters_that_do_not_fit(wrong: dict[str, Any]) -> None:
    tail = random_tail(np.random.default_rng(0), "channel", (64, 2, 2))
    with pytest.raises(InputError):
        replace(tail, **wrong)


@pytest.mark.parametrize(
    ("faces", "dtype", "layout"),
    [
        (0, "float32", "nchw"),
        (-1, "float32", "nchw"),
        (1, "float64", "nchw"),
        (1, "float32", "chw"),
    ],
)
def test_a_launch_that_cannot_be(faces: int, dtype: str, layout: Any) -> None:
    tail = random_tail(np.random.default_rng(0), "channel", (64, 2, 2))
    with pytest.raises(InputError):
        tail.launch(faces, dtype, layout)


@pytest.mark.parametrize("name", ["map", "parameters", "logits", "probabilities"])
@pytest.mark.parametrize(
    ("dtype", "address"), [("float32", 0), ("float32", 4098), ("float16", 4097)]
)
def test_pointers_that_cannot_be_used(name: str, dtype: str, address: int) -> None:
    good = {"map": 4096, "parameters": 4096, "logits": 8192, "probabilities": 16384}
    check_pointers(dtype, **good)
    with pytest.raises(InputError, match=name):
        check_pointers(dtype, **{**good, name: address})


def test_a_map_of_another_shape() -> None:
    tail = random_tail(np.random.default_rng(0), "channel", (64, 2, 2))
    with pytest.raises(InputError):
        twin(tail, np.zeros((1, 64, 3, 3), np.float32))
