"""Cutting a model at the map and joining it again changes nothing; other networks are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from convcut_trt import seam
from convcut_trt.errors import InputError
from convcut_trt.spec import INPUT, OUTPUTS
from tests import models


@pytest.mark.parametrize("kind", models.NETWORKS)
def test_split_and_join_give_the_same_answers_bit_for_bit(kind: str) -> None:
    model = models.network(kind)
    trunk, tail = seam.split(model)
    assert [value.name for value in trunk.graph.output] == [seam.SEAM]
    assert [value.name for value in tail.graph.input] == [seam.SEAM]
    assert [value.name for value in tail.graph.output] == list(OUTPUTS[:-1])
    assert len(trunk.graph.node) + len(tail.graph.node) == len(model.graph.node)
    joined = seam.join(trunk, tail)
    onnx.checker.check_model(joined, full_check=True)
    seam.check_outline(joined, "joined")
    faces = models.pictures(model)
    expected, given = models.run(model, faces), models.run(joined, faces)
    assert list(given) == list(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_array_equal(given[name], expected[name])


def test_halves_that_share_names_are_joined() -> None:
    model = models.network("zoo")
    trunk, tail = seam.split(model)
    for half in (trunk, tail):
        tensor = half.graph.initializer[0]
        models.reconnect(half, tensor.name, "same")
        tensor.name = "same"
    faces = models.pictures(model)
    given, expected = models.run(seam.join(trunk, tail), faces), models.run(model, faces)
    np.testing.assert_array_equal(given["logits"], expected["logits"])


def _float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _planes_first(model: onnx.ModelProto) -> None:
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[1].dim_value, sizes[3].dim_value = sizes[3].dim_value, sizes[1].dim_value


def _free_size(model: onnx.ModelProto) -> None:
    for size in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
        size.dim_param = "side"


def _other_order(model: onnx.ModelProto) -> None:
    model.graph.output.extend([model.graph.output[0]])
    del model.graph.output[0]


def _no_map(model: onnx.ModelProto) -> None:
    del model.graph.output[-1]


def _other_input(model: onnx.ModelProto) -> None:
    models.reconnect(model, INPUT, "pixels")
    model.graph.input[0].name = "pixels"


def _two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "second"


@pytest.mark.parametrize(
    "change",
    [_float_input, _planes_first, _free_size, _other_order, _no_map, _other_input, _two_inputs],
)
def test_another_outline_is_refused(change: models.Change) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(models.network("zoo"))
    change(model)
    with pytest.raises(
        InputError, match=r"^mine\.onnx is not a Conv-cut model .*convcut-trt export"
    ):
        seam.check_outline(model, "mine.onnx")


@pytest.mark.parametrize("outputs", [("scores",), OUTPUTS])
def test_another_network_is_refused(outputs: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError, match=r"not a Conv-cut model \(input -> .*it needs uint8 images"
    ):
        seam.check_outline(models.another_network(outputs), "resnet.onnx")
