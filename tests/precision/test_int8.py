"""INT8 graphs: what is quantised, what is not, what is computed, and which mistakes are refused."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from convcut_trt import backends, seam
from convcut_trt.backends.base import BuildOptions
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.precision.half import in_fp32, to_half
from convcut_trt.precision.int8 import (
    PLACEMENTS,
    Place,
    computed_share,
    places,
    stored_share,
    to_int8,
)
from convcut_trt.precision.linear import linear
from convcut_trt.ranges import Ranges
from tests import block, models

EVERY = pytest.mark.parametrize("placement", PLACEMENTS)
FORMS = pytest.mark.parametrize("form", ["conv", "linear"])
RESTS = pytest.mark.parametrize("rest", ["fp16", "fp32"])
FLOATS = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}


@cache
def original(form: str = "conv") -> onnx.ModelProto:
    return block.network() if form == "conv" else linear(block.network())


@cache
def ranges() -> Ranges:
    return block.ranges(original())


def quantised(form: str, placement: str, rest: str) -> onnx.ModelProto:
    return to_int8(original(form), ranges(), placement, rest)


def error(given: onnx.ModelProto) -> float:
    faces = models.pictures(original())
    wanted, values = models.run(original(), faces)["map"], models.run(given, faces)["map"]
    return float(np.linalg.norm(values - wanted) / np.linalg.norm(wanted))


@FORMS
@EVERY
def test_a_placement_names_its_nodes_and_their_work(form: str, placement: str) -> None:
    found = places(original(form), placement)
    assert {place.role: place.multiply_adds for place in found} == {
        role: block.MULTIPLY_ADDS[role] for role in PLACEMENTS[placement]
    }
    for place in found:
        assert place.node == place.role
        assert place.source == block.SOURCES[place.role]


def test_the_placements_of_the_bundled_model_are_its_blocks() -> None:
    model = models.network("zoo")
    convolutions = {node.name: node for node in models.convolutions(model)}
    kernels = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = places(model, "pw+dw")
    count = sum(node.op_type == "Gelu" for node in model.graph.node)
    for role in ("fc1", "fc2", "dw"):
        own = [place for place in found if place.role == role]
        assert len(own) == count > 1
        for place in own:
            assert f"/{'conv_dw' if role == 'dw' else role}/" in place.node
            shape = kernels[convolutions[place.node].input[1]]
            assert place.weights == math.prod(shape)
    assert {place.source for place in linear_places(model)} == {
        place.source for place in found if place.role != "dw"
    }


def linear_places(model: onnx.ModelProto) -> tuple[Place, ...]:
    return places(linear(model), "pw")


@RESTS
@FORMS
@EVERY
def test_only_weights_of_the_placement_are_stored_in_int8(
    form: str, placement: str, rest: str
) -> None:
    model = quantised(form, placement, rest)
    chosen = places(original(form), placement)
    assert stored_share(model, chosen) == 1
    weights = {place.weight: place.weights for place in chosen}
    stored = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.INT8}
    large = {name: math.prod(t.dims) for name, t in stored.items() if len(t.dims) > 1}
    assert sorted(large.values()) == sorted(weights.values())
    kept = {tensor.name for tensor in model.graph.initializer}
    assert not kept & set(weights)
    for name in weights:
        whole = np.abs(numpy_helper.to_array(stored[f"{name} int8"]).astype(int))
        others = (0,) if whole.ndim == 2 else (1, 2, 3)
        # Each channel has a scale of its own, and -128 is not used.
        assert set(whole.max(axis=others).tolist()) <= {126, 127}
    # Symmetric: zero is 0.
    for name in stored.keys() - large.keys():
        assert not numpy_helper.to_array(stored[name]).any()


@RESTS
@FORMS
@EVERY
def test_every_reader_takes_the_graph(form: str, placement: str, rest: str) -> None:
    model = quantised(form, placement, rest)
    onnx.checker.check_model(model, full_check=True)  # sorted, and types fit
    seam.check_outline(model, "block")
    assert model.ir_version <= 10
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    for names in (
        [node.name for node in model.graph.node],
        [name for node in model.graph.node for name in node.output],
        [tensor.name for tensor in model.graph.initializer],
    ):
        assert all(names)
        assert len(set(names)) == len(names)


@RESTS
@EVERY
def test_the_rest_has_one_type_and_the_tail_is_untouched(placement: str, rest: str) -> None:
    trunk, tail = seam.split(quantised("conv", placement, rest))
    assert {tensor.data_type for tensor in trunk.graph.initializer} == {
        FLOATS[rest],
        TensorProto.INT8,
    }
    assert not [node for node in tail.graph.node if "Quantize" in node.op_type]
    before = seam.split(original())[1].graph.initializer
    for given, wanted in zip(tail.graph.initializer, before, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(given), numpy_helper.to_array(wanted))


@RESTS
@FORMS
@EVERY
def test_the_answers_stay_near_fp32(form: str, placement: str, rest: str) -> None:
    model = quantised(form, placement, rest)
    assert 1e-4 < error(model if rest == "fp32" else in_fp32(model)) < 0.03


@EVERY
def test_the_stand_in_quantises_with_the_same_scales(placement: str) -> None:
    """Whatever this onnxruntime's FP16 kernels do: as near to FP32 as the graph that needs none of them."""
    stand_in = in_fp32(quantised("conv", placement, "fp16"))
    onnx.checker.check_model(stand_in, full_check=True)
    assert 1e-4 < error(stand_in) < 1.2 * error(quantised("conv", placement, "fp32")) + 1e-3
    values = models.run(stand_in, models.pictures(original()))["map"]
    assert not (values.view(np.uint32) & 0x1FFF).any()  # what FP16 has
    kinds = [node.op_type for node in stand_in.graph.node]
    before = [node.op_type for node in quantised("conv", placement, "fp16").graph.node]
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        assert kinds.count(kind) == before.count(kind)


def test_both_forms_quantise_the_same_numbers() -> None:
    faces = models.pictures(original())
    results = [models.run(quantised(form, "pw", "fp32"), faces)["map"] for form in FORMS.args[1]]
    np.testing.assert_allclose(results[0], results[1], atol=0.02 * np.abs(results[0]).max())


def test_a_cpu_computes_the_matrix_products_in_integers(tmp_path: Path) -> None:
    backend = backends.get("onnxruntime")
    shares = {}
    for form in ("conv", "linear"):
        path = tmp_path / f"{form}.onnx"
        onnx.save(quantised(form, "pw", "fp32"), path)
        layers = backend.build(path, BuildOptions()).layers
        shares[form] = computed_share(layers, places(original(form), "pw"))
    assert shares == {"conv": 0, "linear": 1}


def test_a_graph_that_is_not_quantised_has_no_share(tmp_path: Path) -> None:
    chosen = places(original(), "pw")
    half = to_half(original(), "fp16")
    assert stored_share(half, chosen) == 0
    path = tmp_path / "half.onnx"
    onnx.save(half, path)
    layers = backends.get("onnxruntime").build(path, BuildOptions()).layers
    assert computed_share(layers, chosen) == 0


def test_the_linear_form_is_exact_and_keeps_the_names() -> None:
    assert error(linear(original())) < 1e-6
    made = {name for node in original("linear").graph.node for name in node.output}
    assert set(block.SOURCES.values()) <= made
    kinds = [node.op_type for node in original("linear").graph.node]
    assert kinds.count("Transpose") == 3  # input, in front of LayerNorm, behind the second product
    assert kinds.count("Conv") == 2
    with pytest.raises(InputError, match="leave out --mlp linear"):
        linear(original("linear"))


def test_a_channel_of_zeros_stays_zero() -> None:
    def empty(model: onnx.ModelProto) -> None:
        models.edit(model, "fc1.w", lambda values: values[3].fill(0))

    model = models.changed(original(), empty)
    for rest in FLOATS:
        typed = to_int8(model, ranges(), "fc1", rest)
        values = {t.name: numpy_helper.to_array(t) for t in typed.graph.initializer}
        assert not values["fc1.w int8"][3].any()
        assert (values["fc1.w scale"] > 0).all()
        assert np.isfinite(models.run(typed, models.pictures(model))["map"]).all()


def test_a_channel_next_to_zero_does_not_wrap_around() -> None:
    """FP16 holds its scale of 8.5e-8 as 6e-8, the least that there is: the largest weights are 181 of those."""

    def shrink(model: onnx.ModelProto) -> None:
        def change(values: np.ndarray) -> None:
            values[3] *= 127 * 8.5e-8 / np.abs(values[3]).max()
            values[3, :2] = np.array([1, -1]).reshape(2, 1, 1) * 127 * 8.5e-8

        models.edit(model, "fc1.w", change)

    model = models.changed(original(), shrink)
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}["fc1.w"][3]
    typed = to_int8(model, ranges(), "fc1", "fp16")
    whole = {t.name: numpy_helper.to_array(t) for t in typed.graph.initializer}["fc1.w int8"][3]
    assert (whole * before >= 0).all()
    assert (whole.max(), whole.min()) == (127, -127)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    model = block.network()
    linear(model)
    assert to_int8(model, ranges(), "pw", "fp16") == quantised("conv", "pw", "fp16")
    assert model == block.network()


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model, chosen = original(), places(original(), "pw")
    monkeypatch.setitem(sys.modules, "onnx", None)
    for use in (
        lambda: places(model, "pw"),
        lambda: to_int8(model, ranges(), "pw", "fp16"),
        lambda: stored_share(model, chosen),
    ):
        with pytest.raises(BackendMissing, match=r"convcut-trt\[ort\]"):
            use()


def test_unknown_placements_and_types_are_refused() -> None:
    with pytest.raises(InputError, match=r"'fc3': choose from pw, fc1, fc2, pw\+dw"):
        to_int8(original(), ranges(), "fc3", "fp16")
    with pytest.raises(InputError, match="'bf16'"):
        to_int8(original(), ranges(), "pw", "bf16")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gelu": ...}, "lack the tensor gelu"),
        ({"gelu": (0.0, 0.0)}, "the ranges of block: the range of gelu is zero"),
        ({"gelu": (0.0, math.nan)}, "not finite"),
        ({"gelu": (-math.inf, 1.0)}, "not finite"),
        ({"gelu": (1.0, -1.0)}, "swapped"),
        ({"gelu": (-2.0, -1.0)}, "leaves out zero"),
        ({name: ... for name in block.SOURCES.values()}, "lack the tensor"),  # another model's
    ],
)
def test_bad_ranges_are_refused(change: dict[str, Any], said: str) -> None:
    tensors = {**ranges().tensors, "other": (0.0, 1.0), **change}
    left = {name: values for name, values in tensors.items() if values is not ...}
    with pytest.raises(InputError, match=said):
        to_int8(original(), replace(ranges(), tensors=left), "pw", "fp16")


def test_a_model_without_blocks_is_refused() -> None:
    def no_gelu(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Gelu":
                node.op_type = "Relu"

    model = models.changed(original(), no_gelu)
    for placement, parts in PLACEMENTS.items():
        lacking = ", ".join(role for role in ("fc1", "fc2") if role in parts)
        if not lacking:
            continue
        with pytest.raises(InputError, match=f"needs {lacking} of .* has none: build it in fp16"):
            to_int8(model, ranges(), placement, "fp16")


def test_a_typed_model_is_refused() -> None:
    typed = [quantised("conv", "fc2", "fp32"), *(to_half(original(), p) for p in ("fp16", "bf16"))]
    for model in typed:
        with pytest.raises(InputError, match="typed or quantised already"):
            to_int8(model, ranges(), "pw", "fp16")
        with pytest.raises(InputError, match="typed or quantised already"):
            to_half(model, "fp16")


def test_a_weight_that_is_not_finite_is_refused() -> None:
    def damage(model: onnx.ModelProto) -> None:
        models.edit(model, "fc2.w", lambda values: values[0].fill(np.nan))

    with pytest.raises(InputError, match=r"weight fc2\.w is not finite"):
        to_int8(models.changed(original(), damage), ranges(), "pw", "fp16")
