"""Work counted from a graph, and estimates made of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bench.estimates import typed_model
from bench.roofs import NAME, RESULTS, errors
from convcut_trt.devices import find
from convcut_trt.errors import InputError
from convcut_trt.measuring import roofline
from convcut_trt.measuring.roofline import Roofs, Speed, estimate, estimate_for, predict
from convcut_trt.measuring.work import ON_CPU, ON_GPU, Fusion, Work, layers
from convcut_trt.precision.int8 import places
from tests.models import network, zoo

NOTHING = Fusion({})


def block(dtype: type = np.float32) -> onnx.ModelProto:
    """x [N, 8, 6, 6] -> 1x1 convolution to 16 with bias, GELU, 1x1 back, residual."""
    random = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shapes = {"w1": (16, 8, 1, 1), "b1": (16,), "w2": (8, 16, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["wide"], "fc1"),
        helper.make_node("Gelu", ["wide"], ["bent"], "gelu"),
        helper.make_node("Conv", ["bent", "w2"], ["narrow"], "fc2"),
        helper.make_node("Add", ["x", "narrow"], ["sum"], "residual"),
    ]
    shape: list[str | int | None] = ["batch", 8, 6, 6]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("sum", kind, shape)],
        [
            numpy_helper.from_array(random.normal(size=size).astype(dtype), name)
            for name, size in shapes.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_multiply_adds_and_bytes_of_a_block_by_hand() -> None:
    fc1, gelu, fc2, residual = layers(block(), 3, NOTHING)
    area, word = 3 * 36, 4
    assert fc1 == Work(
        "fc1", "gemm", "fp32", area * 8 * 16, (128 + 16) * word, 8 * area * word, 16 * area * word
    )
    assert (gelu.kind, gelu.bytes) == ("gelu", 2 * 16 * area * word)
    assert (fc2.multiply_adds, fc2.weight_bytes) == (area * 8 * 16, 128 * word)
    assert (residual.read_bytes, residual.written_bytes) == (16 * area * word, 8 * area * word)


def test_half_the_bits_are_half_the_bytes() -> None:
    full, half = (layers(block(dtype), 1, ON_GPU) for dtype in (np.float32, np.float16))
    assert {work.dtype for work in half} == {"fp16"}
    assert sum(work.bytes for work in full) == 2 * sum(work.bytes for work in half)


def test_what_rides_is_neither_written_nor_read() -> None:
    fc1, fc2 = layers(block(), 1, ON_GPU)
    assert fc1.riders == ("gelu",) and fc2.riders == ("residual",)
    assert fc1.written_bytes == fc2.read_bytes - 8 * 36 * 4 == 16 * 36 * 4
    assert [work.name for work in layers(block(), 1, ON_CPU)] == ["fc1", "gelu", "fc2"]


def test_a_result_that_is_read_twice_is_written() -> None:
    model = block()
    model.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, None))
    kinds = [work.name for work in layers(model, 1, ON_GPU)]
    assert kinds == ["fc1", "gelu", "fc2"]


def test_the_multiply_adds_are_those_of_the_int8_placement() -> None:
    model = network("zoo")
    counted = {work.name: work.multiply_adds for work in layers(model, 1, ON_GPU)}
    for place in places(model, "pw+dw"):
        assert counted[place.node] == place.multiply_adds


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_multiplies_the_same_in_its_own_type(precision: str) -> None:
    model = network("zoo")
    typed = typed_model(model, precision)
    work = layers(typed, 2, ON_GPU)
    sums: Counter[str] = Counter()
    for layer in work:
        sums[layer.dtype] += layer.multiply_adds
    assert sum(sums.values()) == sum(one.multiply_adds for one in layers(model, 2, ON_GPU))
    assert sums.most_common(1)[0][0] == precision
    stored = sum(layer.weight_bytes for layer in layers(typed, 1, NOTHING))
    assert stored < 4.2 * sum(np.prod(tensor.dims) for tensor in model.graph.initializer)


def test_the_batch_scales_all_but_the_weights() -> None:
    one, four = (layers(zoo().onnx, batch, ON_GPU) for batch in (1, 4))
    assert [work.name for work in one] == [work.name for work in four]
    for single, many in zip(one, four, strict=True):
        assert many.multiply_adds == 4 * single.multiply_adds
        assert many.weight_bytes == single.weight_bytes
        assert many.read_bytes == 4 * single.read_bytes


def fixed(batch: int) -> onnx.ModelProto:
    model = block()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    return model


@pytest.mark.parametrize(
    ("model", "batch", "says"),
    [
        (block(), 0, "batch of 0"),
        (fixed(4), 1, "a batch of 4, not of 1"),
        (onnx.ModelProto(), 1, "no network"),
    ],
)
def test_graphs_that_cannot_be_counted(model: onnx.ModelProto, batch: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        layers(model, batch)


def test_files_that_cannot_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "typed.onnx"
    with pytest.raises(InputError, match="no such file"):
        layers(path)
    path.write_bytes(b"\xff\xff not a graph")
    with pytest.raises(InputError, match="no ONNX file"):
        layers(path)


def roofs(**changes: Any) -> Roofs:
    values = {
        "name": "a machine",
        "bandwidth_gb_s": 10.0,
        "peak_tflops": {"fp32": 0.1},
        "cache_mb": 0.0,
    }
    return Roofs(**{**values, **changes})


def work(kind: str = "gemm", multiply_adds: int = 0, moved: int = 0, weights: int = 0) -> Work:
    return Work("layer", kind, "fp32", multiply_adds, weights, moved // 2, moved - moved // 2)


@pytest.mark.parametrize(
    ("layer", "machine", "expected_us", "limited_by"),
    [
        (work(multiply_adds=10**6, moved=10**5), roofs(), 20.0, "compute"),
        (work(multiply_adds=10**5, moved=10**6), roofs(), 100.0, "memory"),
        (work(moved=10**6), roofs(cache_mb=2.0), 0.0, "compute"),
        (work(moved=10**6), roofs(cache_mb=2.0, cache_gb_s=40.0), 25.0, "memory"),
        (work(weights=10**6), roofs(cache_mb=0.5), 100.0, "memory"),
        (work(multiply_adds=10**6), roofs(speeds={"gemm": Speed(0.5, 3.0)}), 43.0, "compute"),
        (work(multiply_adds=10**4), roofs(speeds={"gemm": Speed(0.5, 3.0)}), 3.4, "overhead"),
        (work(multiply_adds=10**6), roofs(speeds={"gemm fp32": Speed(0.25)}), 80.0, "compute"),
        (work("odd", moved=10**5), roofs(speeds={"elementwise": Speed(1, 7)}), 17.0, "memory"),
    ],
)
def test_a_layer_takes_the_longer_of_its_two_roofs(
    layer: Work, machine: Roofs, expected_us: float, limited_by: str
) -> None:
    (found,) = predict([layer], machine)
    assert found.expected_us == pytest.approx(expected_us)
    assert found.limited_by == limited_by
    assert found.floor_us <= found.expected_us


def test_a_type_without_a_peak_is_refused() -> None:
    with pytest.raises(InputError, match="no fp32 peak"):
        predict([work(multiply_adds=1)], roofs(peak_tflops={"int8": 1.0}))


def test_an_estimate_calls_itself_one_and_has_a_range() -> None:
    found = estimate(
        [work(multiply_adds=10**9)], roofs(speeds={"gemm": Speed(1.0, 1000.0)}), 1, "fp32"
    )
    assert found.floor_ms == pytest.approx(20.0)
    assert found.expected_ms == pytest.approx(21.0)
    assert found.low_ms < found.expected_ms < found.high_ms
    assert found.high_ms / found.expected_ms == pytest.approx(roofline.ERRORS["fp32"])
    within, beyond = found.high_ms * 0.99, found.high_ms * 1.01
    assert found.against(20.0) == "100 % of the compute roof, limited by compute (estimate)"
    assert found.against(within).endswith("limited by compute (estimate)")
    assert found.against(beyond).endswith("limited by overhead (estimate)")
    assert found.against(100.0) == "20 % of the compute roof, limited by overhead (estimate)"
    with pytest.raises(InputError, match="above 0"):
        found.against(0.0)
    with pytest.raises(InputError, match="bf16"):
        estimate([], roofs(), 1, "bf16")


def test_far_below_the_roof_the_estimate_still_says_what_limits() -> None:
    """A validated estimate may expect a small share of the roof: that is no overhead."""
    slow = roofs(speeds={"gemm": Speed(0.2)})
    found = estimate([work(multiply_adds=10**9)], slow, 1, "fp32")
    assert found.expected_ms == pytest.approx(100.0)
    assert found.against(100.0) == "20 % of the compute roof, limited by compute (estimate)"


@pytest.mark.parametrize("key", ["rtx4060ti", "orin-nano", "h200"])
def test_a_device_is_estimated_from_its_datasheet(key: str) -> None:
    typed = typed_model(network("zoo"), "fp16")
    found = estimate_for(find(key), typed)
    assert found.low_ms < found.expected_ms < found.high_ms
    assert found.floor_ms < found.expected_ms
    assert found.low_ms >= len(found.layers) * roofline.GPU_FAST.overhead_us / 1e3
    assert "not validated" in found.basis
    more = estimate_for(find(key), typed, batch=64)
    assert more.floor_ms > 10 * found.floor_ms


def test_a_power_mode_with_less_of_all_takes_longer() -> None:
    typed = typed_model(network("zoo"), "int8")
    modes = [estimate_for(find("agx-orin"), typed, 16, mode) for mode in ("MAXN", "30 W", "15 W")]
    assert modes[0].expected_ms < modes[1].expected_ms < modes[2].expected_ms
    assert "30 W" in modes[1].name
    with pytest.raises(InputError, match="no datasheet figures"):
        estimate_for(find("sm89"), typed)


def test_turing_has_no_bf16() -> None:
    typed = typed_model(network("zoo"), "bf16")
    assert estimate_for(find("a2"), typed).expected_ms > 0
    with pytest.raises(InputError, match="no bf16 peak"):
        estimate_for(find("t4"), typed)


def test_the_stated_range_is_what_the_validation_found() -> None:
    report = json.loads((RESULTS / NAME).read_text())
    assert errors(report) == roofline.ERRORS
