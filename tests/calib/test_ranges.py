"""The ranges: those of numpy on the same tensors, of what the trunk computes, and never of a damaged network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from calib import ranges
from calib.ranges import Calibrator, Range, quantisable
from convcut_trt import seam
from convcut_trt.errors import InputError
from tests import models
from tests.calib import tiny

FACES = np.random.default_rng(1).integers(0, 256, (50, tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8)
MANY = np.random.default_rng(2).integers(0, 256, (1000, tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8)


def of(method: str, model: onnx.ModelProto, faces: NDArray[np.uint8] = FACES) -> dict[str, Range]:
    calibrator = Calibrator(model, method)
    calibrator.collect(faces, "ranges", models.quiet)
    return calibrator.ranges()


def values(
    model: onnx.ModelProto, faces: NDArray[np.uint8] = FACES
) -> dict[str, NDArray[np.float32]]:
    """The tensors that INT8 may quantise, on these faces."""

    def change(copy: onnx.ModelProto) -> None:
        for name in tiny.TENSORS:
            shape: list[str | int | None] = [None] * 4
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    found = models.run(models.changed(model, change), faces)
    return {name: found[name] for name in tiny.TENSORS}


def test_what_int8_may_quantise_is_neither_constant_nor_behind_the_map() -> None:
    assert quantisable(seam.split(tiny.network())[0]) == tiny.TENSORS


def test_the_map_is_what_the_tail_reads_and_stays_exact() -> None:
    def change(copy: onnx.ModelProto) -> None:  # without the Add, fc2 computes the map itself
        add = next(node for node in copy.graph.node if node.op_type == "Add")
        copy.graph.node.remove(add)
        for node in copy.graph.node:
            node.output[:] = [seam.SEAM if name == "narrow" else name for name in node.output]

    trunk, _ = seam.split(models.changed(tiny.network(), change))
    assert quantisable(trunk) == tiny.TENSORS[:-1]


def test_both_factors_of_a_product_of_activations_count() -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["y"]),
        helper.make_node("MatMul", ["x", "y"], ["z"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "product", [], []))
    assert quantisable(model) == ("x", "y", "z")


def test_minmax_is_the_smallest_and_largest_value_widened_to_zero() -> None:
    found, wanted = of("minmax", tiny.network()), values(tiny.network())
    assert set(found) == set(tiny.TENSORS)
    for name, tensor in wanted.items():
        assert found[name] == pytest.approx((min(tensor.min(), 0), tensor.max()), rel=1e-6)
    assert found["active"][0] < 0


def test_percentile_is_of_magnitudes() -> None:
    found, wanted = of("percentile", tiny.network(), MANY), values(tiny.network(), MANY)
    for name, tensor in wanted.items():
        magnitude = np.abs(tensor)
        width = float(magnitude.max()) / 1000  # of a bin of the histogram, at most
        less, more = np.percentile(magnitude, [99.985, 99.995])
        assert less - width <= max(map(abs, found[name])) <= more + width
        assert found[name][0] >= min(tensor.min(), 0) - 1e-5
    assert found["seen"][1] < wanted["seen"].max()


def test_entropy_clips() -> None:
    found, wanted = of("entropy", tiny.network()), values(tiny.network())
    for name, tensor in wanted.items():
        assert 0 < max(map(abs, found[name])) <= np.abs(tensor).max() * 1.01
    assert found["active"][1] < wanted["active"].max()


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_batches_are_bounded_and_do_not_change_the_ranges(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = of(method, tiny.network())
    monkeypatch.setattr(ranges, "_BATCH_BYTES", 4 * 4 * (3 * 64 + 3 * 4 * 16 + 2 * 8 * 16))
    calibrator, seen = Calibrator(tiny.network(), method), []
    assert calibrator.batch == 4
    calibrator.collect(FACES, "ranges", lambda phase, done, total: seen.append((done, total)))
    assert seen == [*((done, 50) for done in range(0, 50, 4)), (50, 50)]
    for name, (low, high) in calibrator.ranges().items():
        assert (low, high) == pytest.approx(whole[name], rel=5e-3, abs=1e-3)
    assert capsys.readouterr().out == ""


def test_ranges_grow_with_what_is_collected() -> None:
    calibrator = Calibrator(tiny.network(), "minmax")
    calibrator.collect(FACES[:10] // 4, "dark", models.quiet)
    dark = calibrator.ranges()
    calibrator.collect(FACES, "bright", models.quiet)
    assert dark["pixels"][1] <= 63
    assert calibrator.ranges() == of("minmax", tiny.network())


def test_a_fixed_batch_is_no_obstacle() -> None:
    fixed = models.of_batch(tiny.network(), 1)
    wanted = of("minmax", tiny.network())
    for name, ends in of("minmax", fixed).items():
        assert ends == pytest.approx(wanted[name], rel=1e-5)


def _nan(model: onnx.ModelProto) -> None:
    models.edit(model, "stem.w", lambda array: array.reshape(-1)[:1].fill(np.nan))


def _overflow(model: onnx.ModelProto) -> None:
    models.edit(model, "fc1.w", lambda array: array.fill(3e38))


def _dead(model: onnx.ModelProto) -> None:
    for name in ("stem.w", "stem.b"):
        models.edit(model, name, lambda array: array.fill(0))


@pytest.mark.parametrize("method", ["minmax", "percentile"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_nan, "the tensor stem is not finite"),
        (_overflow, "the tensor wide is not finite"),
        (_dead, "the range of stem is zero"),
    ],
)
def test_a_damaged_network_is_named_by_its_tensor(
    damage: Callable[[onnx.ModelProto], None], said: str, method: str
) -> None:
    with pytest.raises(InputError, match=said):
        of(method, models.changed(tiny.network(), damage))
