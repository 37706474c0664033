"""What TensorRT-RTX refuses, and that our INT8 graphs have none of it: real builds, which need no GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("tensorrt_rtx")

from convcut_trt import backends
from convcut_trt.backends.base import BuildOptions, BuiltEngine, computed_shares
from convcut_trt.devices import find
from convcut_trt.errors import BuildError
from convcut_trt.precision.int8 import PLACEMENTS, computed_share, places, to_int8
from tests import block, models

EVERY = pytest.mark.parametrize("placement", PLACEMENTS)


@cache
def quantised(placement: str) -> onnx.ModelProto:
    model = block.network()
    return to_int8(model, block.ranges(model), placement, "fp16")


def build(model: onnx.ModelProto, folder: Path) -> BuiltEngine:
    path = folder / "block.onnx"
    onnx.save(model, path)
    return backends.get("tensorrt-rtx").build(path, BuildOptions(targets=(find("sm89"),)))


@EVERY
def test_every_placement_builds_and_computes_int8(placement: str, tmp_path: Path) -> None:
    built = build(quantised(placement), tmp_path)
    chosen = places(block.network(), placement)
    assert computed_share(built.layers, chosen) == 1
    shares = computed_shares(built.layers)
    assert set(shares) == {"int8", "fp16", "fp32"}
    assert built.operations


@EVERY
def test_there_is_no_int32_bias(placement: str) -> None:
    kinds = {t.name: t.data_type for t in quantised(placement).graph.initializer}
    for node in quantised(placement).graph.node:
        if node.op_type == "DequantizeLinear":
            assert kinds.get(node.input[0], TensorProto.INT8) == TensorProto.INT8
        if node.op_type == "Conv" and len(node.input) > 2:
            assert kinds[node.input[2]] == TensorProto.FLOAT16
    assert TensorProto.INT32 not in kinds.values()


@EVERY
def test_no_constant_is_quantised_and_scales_need_no_cast(placement: str) -> None:
    model = quantised(placement)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert node.input[0] not in kinds
            assert made_by[node.input[0]].op_type not in ("Constant", "Cast")
        if "Quantize" in node.op_type:
            assert kinds[node.input[1]] == TensorProto.FLOAT16
            assert kinds[node.input[2]] == TensorProto.INT8
    # A Q without a DQ behind it, or a DQ without INT8 in front, would be fused with nothing.
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # one in, one out


@EVERY
def test_pictures_are_cast_before_they_are_transposed(placement: str) -> None:
    (first,) = (node for node in quantised(placement).graph.node if "images" in node.input)
    assert first.op_type == "Cast"


def _int32_bias(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.name == "fc1")
    bias = np.zeros(block.HIDDEN, np.int32)
    scale = np.full(block.HIDDEN, 1e-3, np.float16)
    for name, values in (("bias int32", bias), ("bias scale", scale), ("bias zero", bias)):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    inputs = ["bias int32", "bias scale", "bias zero"]
    place = list(model.graph.node).index(node)
    node.input[2] = "bias"
    made = helper.make_node("DequantizeLinear", inputs, ["bias"], "bias", axis=0)
    model.graph.node.insert(place, made)


def _transposed_first(model: onnx.ModelProto) -> None:
    nodes = {node.name: node for node in model.graph.node}
    cast, turn = nodes["cast"], nodes["nchw"]
    turn.input[0], turn.output[0] = "images", "turned images"
    cast.input[0], cast.output[0] = "turned images", "nchw"
    copy = onnx.NodeProto()
    copy.CopyFrom(turn)
    model.graph.node.remove(turn)
    model.graph.node.insert(0, copy)


@pytest.mark.parametrize("change", [_int32_bias, _transposed_first])
def test_what_our_graphs_avoid_is_refused_indeed(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    with pytest.raises(BuildError):
        build(models.changed(quantised("fc1"), change), tmp_path)
