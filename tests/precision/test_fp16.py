"""The FP16 graph: the whole trunk is cast, the tail is not touched, and every reader can read it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from convcut_trt import gates, seam
from convcut_trt.backends.stored import stored_shares
from convcut_trt.precision.half import to_half
from convcut_trt.spec import OUTPUTS
from tests import models

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
EVERY_NETWORK = pytest.mark.parametrize("kind", models.NETWORKS)


@cache
def half(kind: str) -> onnx.ModelProto:
    """The FP16 form of one of the networks. Not to be changed."""
    return to_half(models.network(kind), "fp16")


@EVERY_NETWORK
def test_the_fp32_tail_is_no_fault_of_a_small_network(kind: str, tmp_path: Path) -> None:
    """The stored share is the trunk's: in a small network the tail alone is more than 5 % of the bytes."""
    path = tmp_path / "typed.onnx"
    onnx.save(half(kind), path)
    assert stored_shares(path)["fp32"] > 0
    assert stored_shares(path, seam.TAIL_PREFIX) == {"fp16": 1.0}
    onnx.save(models.network(kind), path)
    assert stored_shares(path, seam.TAIL_PREFIX) == {"fp32": 1.0}


@EVERY_NETWORK
def test_the_trunk_is_fp16_and_the_tail_fp32(kind: str) -> None:
    trunk, tail = seam.split(half(kind))
    weights = {tensor.data_type for tensor in trunk.graph.initializer}
    assert weights - {onnx.TensorProto.INT64} == {FLOAT16}
    assert FLOAT16 not in {tensor.data_type for tensor in tail.graph.initializer}
    original = seam.split(models.network(kind))[1]
    assert len(tail.graph.initializer) == len(original.graph.initializer)
    for given, expected in zip(tail.graph.initializer, original.graph.initializer, strict=True):
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(given), onnx.numpy_helper.to_array(expected)
        )
    # One cast in, one cast out: nothing in between goes back to FP32.
    casts = [node.attribute[0].i for node in trunk.graph.node if node.op_type == "Cast"]
    assert casts.count(FLOAT) <= 2
    assert not [node for node in tail.graph.node if node.op_type == "Cast"]


@EVERY_NETWORK
def test_the_graph_is_one_that_every_reader_takes(kind: str) -> None:
    model = half(kind)
    onnx.checker.check_model(model, full_check=True)  # sorted, among other things
    seam.check_outline(model, kind)
    assert model.ir_version <= 10
    assert [(entry.domain, 18 <= entry.version <= 20) for entry in model.opset_import] == [
        ("", True)
    ]
    tensors = [name for node in model.graph.node for name in node.output]
    names = [node.name for node in model.graph.node]
    weights = [tensor.name for tensor in model.graph.initializer]
    for listed in (tensors, names, weights):
        assert all(listed)
        assert len(set(listed)) == len(listed)
    assert not set(tensors) & set(weights)
    for output in model.graph.output:
        assert output.type.tensor_type.elem_type == FLOAT


@EVERY_NETWORK
def test_the_answers_are_within_the_budget(kind: str) -> None:
    faces = models.pictures(models.network(kind))
    wanted, given = models.run(models.network(kind), faces), models.run(half(kind), faces)
    assert list(given) == list(OUTPUTS)
    difference = (given["map"] - wanted["map"]).reshape(len(faces), -1)
    norms = np.linalg.norm(wanted["map"].reshape(len(faces), -1), axis=1)
    errors = np.linalg.norm(difference, axis=1) / norms
    assert 0 < errors.max() < gates.BUDGETS["fp16"]["loss_median"]
    assert np.abs(given["probabilities"] - wanted["probabilities"]).max() < 1e-2
    np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, rtol=1e-6)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(models.network("zoo"))
    to_half(model, "fp16")
    assert model == models.network("zoo")


def test_twice_gives_the_same_bytes() -> None:
    assert (
        to_half(models.network("zoo"), "fp16").SerializeToString()
        == half("zoo").SerializeToString()
    )


def test_a_fixed_batch_stays_fixed() -> None:
    model = to_half(models.of_batch(models.network("zoo"), 2), "fp16")
    assert {value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.output} == {2}
    faces = models.pictures(model, 2)
    np.testing.assert_array_equal(
        models.run(model, faces)["logits"], models.run(half("zoo"), faces)["logits"]
    )
