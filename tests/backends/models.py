"""Small typed networks with the seam of the real one: uint8 faces -> trunk -> map -> FP32 tail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, CLASSES = 16, 8, 5
FLOAT = TensorProto.FLOAT
TRUNK = {"fp32": FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# Multiply-adds for one image: stem 4x4 stride 4 on 3 channels, 1x1, classifier.
MULTIPLY_ADDS = 16 * CHANNELS * 48, 16 * CHANNELS * CHANNELS, CHANNELS * CLASSES


def write(
    path: Path,
    precision: str = "fp16",
    *,
    batch: int | str = "N",
    unknown_op: bool = False,
    int8: bool = False,
) -> Path:
    """A network of two convolutions and a tail, its trunk in ``precision``."""
    trunk = TRUNK[precision]
    random = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray, kind: int = FLOAT) -> str:
        tensor = numpy_helper.from_array(values.astype(np.float32), name)
        if kind != FLOAT:
            tensor = helper.make_tensor(name, kind, values.shape, values.ravel().tolist())
        weights.append(tensor)
        return name

    stem = constant("stem.w", random.normal(0, 0.01, (CHANNELS, 3, 4, 4)), trunk)
    point = constant("point.w", random.normal(0, 0.3, (CHANNELS, CHANNELS, 1, 1)), trunk)
    bias = constant("point.b", random.normal(0, 0.3, (CHANNELS,)), trunk)
    head = constant("head.w", random.normal(0, 1, (CHANNELS, CLASSES)))
    head_bias = constant("head.b", random.normal(0, 1, (CLASSES,)))
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["cast"], "cast", to=trunk),
        node("Transpose", ["cast"], ["nchw"], "nchw", perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", stem], ["stem"], "stem", strides=[4, 4], kernel_shape=[4, 4]),
    ]
    source = "stem"
    if int8:
        scale = constant("scale", np.array(0.05), trunk)
        zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
        quantised = random.integers(-127, 127, (CHANNELS, CHANNELS, 1, 1)).astype(np.int8)
        weights.extend([zero, numpy_helper.from_array(quantised, "point.q")])
        nodes += [
            node("QuantizeLinear", ["stem", scale, "zero"], ["stem.q"], "q"),
            node("DequantizeLinear", ["stem.q", scale, "zero"], ["stem.dq"], "dq"),
            node("DequantizeLinear", ["point.q", scale, "zero"], ["point.dq"], "dq.w"),
        ]
        source, point = "stem.dq", "point.dq"
    if unknown_op:
        nodes.append(node("Frobnicate", ["stem"], ["odd"], "odd", domain="example.org"))
        source = "odd"
    nodes += [
        node("Conv", [source, point, bias], ["point"], "point", kernel_shape=[1, 1]),
    ]
    source = "point"
    if int8:  # a CPU multiplies integers only where the result is quantised at once
        nodes += [
            node("QuantizeLinear", ["point", scale, "zero"], ["point.yq"], "q.point"),
            node("DequantizeLinear", ["point.yq", scale, "zero"], ["point.ydq"], "dq.point"),
        ]
        source = "point.ydq"
    nodes += [
        node("Relu", [source], ["relu"], "relu"),
        node("Cast", ["relu"], ["map"], "to_fp32", to=FLOAT),
        node("GlobalAveragePool", ["map"], ["pooled"], "pool"),
        node("Flatten", ["pooled"], ["flat"], "flat"),
        node("Gemm", ["flat", head, head_bias], ["logits"], "head"),
        node("Softmax", ["logits"], ["probabilities"], "softmax", axis=-1),
    ]
    side = SIZE // 4
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("logits", FLOAT, [batch, CLASSES]),
            helper.make_tensor_value_info("probabilities", FLOAT, [batch, CLASSES]),
            helper.make_tensor_value_info("map", FLOAT, [batch, CHANNELS, side, side]),
        ],
        weights,
    )
    opsets = [helper.make_opsetid("", 19)]
    if unknown_op:
        opsets.append(helper.make_opsetid("example.org", 1))
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def images(count: int, seed: int = 0) -> np.ndarray:
    """``count`` random pictures, uint8 [count, SIZE, SIZE, 3]."""
    shape = (count, SIZE, SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
