"""The BF16 graph, and its stand-in for machines without a kernel that takes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convcut_trt import backends, seam
from convcut_trt.backends.base import BuildOptions, computed_shares
from convcut_trt.backends.stored import stored_shares
from convcut_trt.devices import find
from convcut_trt.precision.half import in_fp32, to_half
from tests import block, models


@cache
def typed(kind: str = "zoo") -> onnx.ModelProto:
    return to_half(models.network(kind), "bf16")


def test_the_trunk_is_bf16_and_the_tail_fp32(tmp_path: Path) -> None:
    trunk, tail = seam.split(typed())
    kinds = {tensor.data_type for tensor in trunk.graph.initializer}
    assert kinds - {TensorProto.INT64} == {TensorProto.BFLOAT16}
    assert TensorProto.BFLOAT16 not in {tensor.data_type for tensor in tail.graph.initializer}
    path = tmp_path / "typed.onnx"
    onnx.save(typed(), path)
    assert stored_shares(path, seam.TAIL_PREFIX) == {"bf16": 1.0}
    onnx.checker.check_model(typed())
    assert [item.version for item in typed().opset_import] == [20]


def test_the_stand_in_rounds_and_runs_on_a_cpu() -> None:
    model = models.network("zoo")
    faces = models.pictures(model, 16)
    wanted, given = models.run(model, faces), models.run(in_fp32(typed()), faces)
    assert list(given) == list(wanted)
    errors = np.linalg.norm((given["map"] - wanted["map"]).reshape(16, -1), axis=1)
    errors /= np.linalg.norm(wanted["map"].reshape(16, -1), axis=1)
    # Eight bits of mantissa, through a whole trunk: more than FP16 loses, less than the budget.
    assert errors.min() > 2e-3
    assert errors.max() < 4e-2
    # Every value of the map is one that BF16 has.
    assert not (given["map"].view(np.uint32) & 0xFFFF).any()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_beyond_fp16_are_clipped_and_what_is_not_finite_stays(precision: str) -> None:
    def enlarge(model: onnx.ModelProto) -> None:
        models.edit(model, "fc1.b", lambda values: np.copyto(values[:3], [1e6, np.inf, np.nan]))

    model = to_half(models.changed(block.network(), enlarge), precision)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "fc1.b")
    values = np.asarray(numpy_helper.to_array(tensor), np.float64)
    assert values[0] == (65504 if precision == "fp16" else pytest.approx(1e6, rel=4e-3))
    assert values[1] == np.inf
    assert np.isnan(values[2])


def test_float_constants_inside_nodes_are_cast_too() -> None:
    def add(model: onnx.ModelProto) -> None:
        tensor = numpy_helper.from_array(np.array(0.5, np.float32))
        place = next(i for i, node in enumerate(model.graph.node) if node.name == "relu")
        model.graph.node[place].input[0] = "shifted"
        extra = [
            helper.make_node("Constant", [], ["half"], "half", value=tensor),
            helper.make_node("Add", ["sum", "half"], ["shifted"], "shift"),
        ]
        for offset, node in enumerate(extra):
            model.graph.node.insert(place + offset, node)

    model = to_half(models.changed(block.network(), add), "fp16")
    onnx.checker.check_model(model, full_check=True)


def test_rtx_builds_and_computes_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "block.onnx"
    onnx.save(to_half(block.network(), "bf16"), path)
    built = backends.get("tensorrt-rtx").build(path, BuildOptions(targets=(find("sm89"),)))
    shares = computed_shares(built.layers)
    assert set(shares) == {"bf16", "fp32"}
    assert shares["fp32"] == pytest.approx(80 / (80 + trunk()))  # the tail alone


def trunk() -> int:
    """Multiply-adds of the drawn network's trunk."""
    stem = block.SIDE**2 * block.CHANNELS * 48
    return stem + sum(block.MULTIPLY_ADDS.values())
