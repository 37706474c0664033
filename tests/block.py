"""A drawn network with one ConvNeXt block: uint8 faces -> stem, block, map -> FP32 tail. Untrained, in no time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convcut_trt import seam
from convcut_trt.ranges import SCHEMA, Ranges
from convcut_trt.spec import INPUT
from tests import models

SIZE, CHANNELS, HIDDEN, CLASSES = 16, 16, 64, 5
SIDE = SIZE // 4
MULTIPLY_ADDS = {
    "fc1": SIDE * SIDE * CHANNELS * HIDDEN,
    "fc2": SIDE * SIDE * CHANNELS * HIDDEN,
    "dw": SIDE * SIDE * CHANNELS * 9,
}
SOURCES = {"dw": "stem", "fc1": "turned back", "fc2": "gelu"}


def network() -> onnx.ModelProto:
    """The FP32 model, as export writes a block: MLP as 1x1 convolutions, LayerNorm between transposes."""
    random = np.random.default_rng(0)
    constants: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int, scale: float = 1.0) -> str:
        values = random.normal(0, scale, shape).astype(np.float32)
        constants.append(numpy_helper.from_array(values, name))
        return name

    constants.append(numpy_helper.from_array(np.ones(CHANNELS, np.float32), "ones"))
    constants.append(numpy_helper.from_array(np.zeros(CHANNELS, np.float32), "zeros"))
    node = helper.make_node
    one: dict[str, Any] = {"kernel_shape": [1, 1]}
    depthwise: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4, "group": CHANNELS}
    nodes = [
        node("Cast", [INPUT], ["cast"], "cast", to=TensorProto.FLOAT),
        node("Transpose", ["cast"], ["nchw"], "nchw", perm=[0, 3, 1, 2]),
        node(
            "Conv",
            ["nchw", weight("stem.w", CHANNELS, 3, 4, 4, scale=1e-3)],
            ["stem"],
            "stem",
            strides=[4, 4],
            kernel_shape=[4, 4],
        ),
        node(
            "Conv",
            ["stem", weight("dw.w", CHANNELS, 1, 3, 3), weight("dw.b", CHANNELS)],
            ["dw"],
            "dw",
            **depthwise,
        ),
        node("Transpose", ["dw"], ["turned"], "turned", perm=[0, 2, 3, 1]),
        node("LayerNormalization", ["turned", "ones", "zeros"], ["normed"], "norm", axis=-1),
        node("Transpose", ["normed"], ["turned back"], "turned back", perm=[0, 3, 1, 2]),
        node(
            "Conv",
            [
                "turned back",
                weight("fc1.w", HIDDEN, CHANNELS, 1, 1, scale=CHANNELS**-0.5),
                weight("fc1.b", HIDDEN, scale=0.1),
            ],
            ["fc1"],
            "fc1",
            **one,
        ),
        node("Gelu", ["fc1"], ["gelu"], "gelu"),
        node(
            "Conv",
            [
                "gelu",
                weight("fc2.w", CHANNELS, HIDDEN, 1, 1, scale=HIDDEN**-0.5),
                weight("fc2.b", CHANNELS, scale=0.1),
            ],
            ["fc2"],
            "fc2",
            **one,
        ),
        node("Add", ["stem", "fc2"], ["sum"], "sum"),
        node("Relu", ["sum"], [seam.SEAM], "relu"),
        node("GlobalAveragePool", [seam.SEAM], ["pooled"], "pool"),
        node("Flatten", ["pooled"], ["flat"], "flat"),
        node(
            "Gemm",
            ["flat", weight("head.w", CHANNELS, CLASSES), weight("head.b", CLASSES)],
            ["logits"],
            "head",
        ),
        node("Softmax", ["logits"], ["probabilities"], "softmax", axis=-1),
    ]
    full = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("logits", full, ["N", CLASSES]),
            helper.make_tensor_value_info("probabilities", full, ["N", CLASSES]),
            helper.make_tensor_value_info(seam.SEAM, full, ["N", CHANNELS, SIDE, SIDE]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def ranges(model: onnx.ModelProto) -> Ranges:
    """Minima and maxima of what a placement may read, over random pictures."""
    watched = models.changed(model, _watch)
    values = models.run(watched, models.pictures(model))
    found = {name: values[name] for name in SOURCES.values()}
    return Ranges(
        schema=SCHEMA,
        name="block",
        onnx_sha256="0" * 64,
        method="minmax",
        tensors={
            name: (min(0.0, float(array.min())), max(0.0, float(array.max())))
            for name, array in found.items()
        },
        images=("a" * 64, "b" * 64),
        balance={"neutral": 2},
    )


def _watch(model: onnx.ModelProto) -> None:
    for name in SOURCES.values():
        model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)
        )
