"""A network of three convolutions that is quick to run, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from convcut_trt.home import Model
from convcut_trt.spec import INPUT, ModelSpec
from tests import models

CLASSES = ("happiness", "sadness", "anger")
SIDE = 8
# What INT8 may quantise of ``network``: the inputs and outputs of the stem, fc1 and fc2.
TENSORS = ("pixels", "stem", "seen", "wide", "active", "narrow")


def network() -> onnx.ModelProto:
    """uint8 [N, 8, 8, 3] -> logits, probabilities, map; the weights of fc2 are a product of constants."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.5, shape).astype(np.float32)

    stem = weights(4, 3, 2, 2) / 255
    nodes = [
        helper.make_node("Cast", [INPUT], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "stem.w", "stem.b"], ["stem"], strides=[2, 2]),
        helper.make_node("Relu", ["stem"], ["seen"]),
        helper.make_node("Conv", ["seen", "fc1.w"], ["wide"]),
        helper.make_node("Gelu", ["wide"], ["active"]),
        helper.make_node("Mul", ["fc2.w", "scale"], ["fc2.scaled"]),
        helper.make_node("Conv", ["active", "fc2.scaled"], ["narrow"]),
        helper.make_node("Add", ["narrow", "seen"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head.w"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    values = {
        "stem.w": stem.astype(np.float32),
        "stem.b": np.full(4, 0.1, np.float32),
        "fc1.w": weights(8, 4, 1, 1),
        "fc2.w": weights(4, 8, 1, 1),
        "scale": np.float32(0.5),
        "head.w": weights(len(CLASSES), 4),
    }
    outputs: list[list[str | int | None]] = [["N", 3], ["N", 3], ["N", 4, 4, 4]]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(("logits", "probabilities", "map"), outputs, strict=True)
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def exported(folder: Path, model: onnx.ModelProto | None = None) -> Model:
    """``tiny.onnx`` and its spec, as export writes them."""
    spec = ModelSpec(
        name="tiny",
        onnx_sha256="",
        classes=CLASSES,
        size=SIDE,
        margin=0.0,
        map_shape=(4, 4, 4),
        temperature=1.0,
        network={},
        witnesses=(),
    )
    return models.write(folder, model or network(), spec)


def drawn(count: int, seed: int = 0, low: int = 0, high: int = 256) -> NDArray[np.uint8]:
    """Noise, uint8 [N, 10, 10, 3]."""
    return np.random.default_rng(seed).integers(low, high, (count, 10, 10, 3), dtype=np.uint8)


def save(folder: Path, pictures: NDArray[np.uint8]) -> None:
    """Writes pictures into a folder as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
