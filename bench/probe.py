"""A network of the parts of Conv-cut, of other sizes than any of its recipes: what speeds are measured on.

Four stages of two ConvNeXt blocks, from large to small, so that what a call costs and what its work costs
can be told apart for each kind of layer. The weights are random; times do not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convcut_trt.spec import INPUT

SIDE = 160  # of the picture, pixels
STAGES = ((160, 40), (224, 20), (192, 10), (112, 5))
"""Channels and side of the map of each stage."""
_CLASSES = 8
_STEM, _MAP = 40, 320  # channels


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, kind: str, inputs: Sequence[str], output: str, **fields: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], f"{output} node", **fields))
        return output

    def weight(self, name: str, *shape: int) -> str:
        values = self._random.normal(0, 0.05, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        self, source: str, name: str, sizes: tuple[int, ...], **fields: int | list[int]
    ) -> str:
        """``sizes``: outputs, inputs of a group, kernel."""
        kernel = [sizes[2]] * 2
        inputs = [
            source,
            self.weight(f"{name} weight", *sizes[:2], *kernel),
            self.weight(f"{name} bias", sizes[0]),
        ]
        return self.add("Conv", inputs, name, kernel_shape=kernel, **fields)

    def norm(self, source: str, name: str, channels: int) -> str:
        last = self.add("Transpose", [source], f"{name} in", perm=[0, 2, 3, 1])
        inputs = [
            last,
            self.weight(f"{name} weight", channels),
            self.weight(f"{name} bias", channels),
        ]
        last = self.add("LayerNormalization", inputs, f"{name} nhwc", axis=-1, epsilon=1e-6)
        return self.add("Transpose", [last], name, perm=[0, 3, 1, 2])

    def block(self, source: str, name: str, channels: int) -> str:
        sizes = (channels, 1, 7)
        last = self.conv(source, f"{name} dw", sizes, group=channels, pads=[3] * 4)
        last = self.norm(last, f"{name} norm", channels)
        last = self.conv(last, f"{name} fc1", (4 * channels, channels, 1))
        last = self.add("Gelu", [last], f"{name} gelu")
        last = self.conv(last, f"{name} fc2", (channels, 4 * channels, 1))
        return self.add("Add", [source, last], f"{name} sum")


def network() -> onnx.ModelProto:
    """The network: uint8 [N, 160, 160, 3] -> logits, probabilities, map, as every model of ours."""
    write = _Writer()
    last = write.add("Cast", [INPUT], "floats", to=TensorProto.FLOAT)
    last = write.add("Transpose", [last], "planes", perm=[0, 3, 1, 2])
    last = write.conv(last, "stem0", (_STEM, 3, 3), strides=[2, 2], pads=[1] * 4)
    last = write.add("Relu", [last], "stem0 relu")
    last = write.conv(last, "stem1", (STAGES[0][0], _STEM, 3), strides=[2, 2], pads=[1] * 4)
    last = write.norm(last, "stem norm", STAGES[0][0])
    for number, (channels, _) in enumerate(STAGES):
        if number:
            former = STAGES[number - 1][0]
            last = write.norm(last, f"down{number} norm", former)
            last = write.conv(last, f"down{number}", (channels, former, 2), strides=[2, 2])
        for block in range(2):
            last = write.block(last, f"stage{number} block{block}", channels)
        # INT8 leaves this product alone, as it does the few outside the blocks.
        last = write.conv(last, f"stage{number} pw", (channels, channels, 1))
    channels, side = STAGES[-1]
    last = write.conv(last, "detail dw", (channels, 1, 2), group=channels, strides=[2, 2])
    last = write.conv(last, "detail pw", (_MAP, channels, 1))
    write.add("Relu", [last], "map")
    write.weights.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    last = write.add("ReduceMean", ["map", "axes"], "mean", keepdims=0)
    last = write.add("Mul", [last, write.weight("scale", _MAP)], "scaled")
    inputs = [
        last,
        write.weight("head weight", _CLASSES, _MAP),
        write.weight("head bias", _CLASSES),
    ]
    write.add("Gemm", inputs, "logits", transB=1)
    write.add("Softmax", ["logits"], "probabilities", axis=-1)
    value = helper.make_tensor_value_info
    small = side // 2
    graph = helper.make_graph(
        write.nodes,
        "probe",
        [value(INPUT, TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            value("logits", TensorProto.FLOAT, ["batch", _CLASSES]),
            value("probabilities", TensorProto.FLOAT, ["batch", _CLASSES]),
            value("map", TensorProto.FLOAT, ["batch", _MAP, small, small]),
        ],
        write.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model
