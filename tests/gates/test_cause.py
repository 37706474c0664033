"""The likeliest cause: where features part is named by its tensor, and a sound graph has no such place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convcut_trt import gates, seam
from convcut_trt.gates import cause, judged
from convcut_trt.gates.cause import Parting, first_parting
from convcut_trt.precision.half import in_fp32, to_half
from convcut_trt.precision.int8 import to_int8
from convcut_trt.precision.linear import linear
from convcut_trt.ranges import Ranges
from convcut_trt.spec import INPUT
from tests import models

SIDE = 3


def ranges() -> Ranges:
    return Ranges.read(models.zoo().onnx.with_suffix(".ranges.json"))


FORMS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp32": lambda model: model,
    "fp32 linear": linear,
    "fp16": lambda model: in_fp32(to_half(model, "fp16")),
    "int8 pw": lambda model: in_fp32(to_int8(model, ranges(), "pw", "fp16")),
    "int8 pw+dw linear": lambda model: to_int8(linear(model), ranges(), "pw+dw", "fp32"),
}


@cache
def faces() -> NDArray[np.uint8]:
    return judged.bundled(models.zoo().spec.size, 4).faces


def budget(form: str) -> float:
    return gates.BUDGETS[form.split()[0]]["loss_median"]


def part(form: str, change: models.Change, limit: float | None = None) -> Parting | None:
    """Where the typed form of a changed network departs from the bundled one."""
    network = models.network("zoo")
    typed = FORMS[form](models.changed(network, change))
    return first_parting(network, typed, faces(), limit or budget(form))


def _other_head(model: onnx.ModelProto) -> None:
    head = next(node for node in model.graph.node if "logits" in node.output)
    models.edit(model, head.input[1], lambda values: np.copyto(values, values[::-1].copy()))


def _block(number: int) -> str:
    adds = [str(node.name) for node in models.network("zoo").graph.node if node.op_type == "Add"]
    return adds[number].rpartition("/")[0] + "/"


def _convolution(number: int) -> str:
    return str(models.convolutions(models.network("zoo"))[number].name)


PLACES: dict[str, Callable[[], str]] = {
    "other weights": lambda: _convolution(1),
    "first block removed": lambda: _block(0),
    "last block removed": lambda: _block(-1),
    "dead channel": lambda: _convolution(0),
    "one pixel of shift": lambda: "/Cast",
    "colours swapped": lambda: _convolution(0),
    "not normalised": lambda: "/Sub",
    "NaN": lambda: _convolution(-1),
}


@pytest.mark.parametrize(
    ("form", "change"),
    [
        *(("fp16", change) for change in PLACES),
        ("fp32", "other weights"),
        ("fp32", "NaN"),
        ("int8 pw", "first block removed"),
        ("int8 pw", "last block removed"),
        ("int8 pw", "one pixel of shift"),
        ("int8 pw+dw linear", "not normalised"),
    ],
)
def test_the_place_of_a_break_is_named(form: str, change: str) -> None:
    found = part(form, models.BROKEN[change])
    assert found is not None
    assert found.node.startswith(PLACES[change]())
    assert found.before < budget(form) < found.error
    assert np.isinf(found.error) == (change == "NaN")


@pytest.mark.parametrize(
    ("form", "change", "tensor"),
    [
        ("fp32", _other_head, "logits"),
        ("fp16", models.BROKEN["attention over the batch"], "logits"),
        ("int8 pw", models.BROKEN["neighbours"], seam.SEAM),
    ],
)
def test_a_break_of_the_tail_is_named(form: str, change: models.Change, tensor: str) -> None:
    found = part(form, change)
    assert found is not None
    assert found.tensor == tensor
    assert found.before < budget(form) < found.error


@pytest.mark.parametrize("form", ["fp32", "fp32 linear", "fp16"])
def test_another_epsilon_is_a_layer_norms(form: str) -> None:
    found = part(form, models.BROKEN["epsilon 1e-3"])
    assert found is not None
    assert found.kind == "LayerNormalization"
    assert found.node.startswith(_block(0))


def test_a_shortcut_does_not_hide_a_branch() -> None:
    """All main points of the network are within this limit: only inside the block is an error above it."""
    network = models.network("zoo")
    changed = models.changed(network, models.BROKEN["epsilon 1e-3"])
    limit = 4e-3
    wanted, given = models.run(network, faces())["map"], models.run(changed, faces())["map"]
    assert np.linalg.norm(wanted - given) < limit * np.linalg.norm(wanted)
    found = first_parting(network, changed, faces(), limit)
    assert found is not None
    assert found.kind == "LayerNormalization"
    assert first_parting(network, changed, faces(), 0.5) is None


@pytest.mark.parametrize("form", FORMS)
def test_an_honest_graph_does_not_part(form: str) -> None:
    assert part(form, lambda model: None) is None


def test_rounding_parts_where_it_begins() -> None:
    """Whole numbers up to 255 are exact in FP16; what is left of them after the mean is not."""
    found = part("fp16", lambda model: None, 1e-5)
    assert found is not None
    assert found.kind == "Sub"
    assert found.before == 0


def test_a_fixed_batch_and_the_models_given() -> None:
    network = models.network("zoo")
    fixed = models.of_batch(network, 3)
    broken = models.changed(fixed, models.BROKEN["colours swapped"])
    copies = [model.SerializeToString() for model in (fixed, broken)]
    found = first_parting(fixed, broken, faces(), 1e-5)
    assert found is not None
    free = part("fp32", models.BROKEN["colours swapped"])
    assert free is not None
    assert found.node == free.node
    assert found.error == pytest.approx(free.error)
    assert [model.SerializeToString() for model in (fixed, broken)] == copies


def chain(*factors: float, turned: int = 0) -> onnx.ModelProto:
    """Faces -> [N, 3, 3, 3], times each factor in turn -> map -> probabilities; results ``t0``, ``t1``, ...

    All in front of the result ``turned`` is computed as [N, H, W, C].
    """
    graph = onnx.GraphProto(name="chain")
    full, last = TensorProto.FLOAT, "cast"
    graph.node.append(helper.make_node("Cast", [INPUT], [last], "cast", to=full))
    for place, factor in enumerate(factors):
        if place == turned:
            name = f"nchw from {place}"
            graph.node.append(
                helper.make_node("Transpose", [last], [name], name, perm=[0, 3, 1, 2])
            )
            last = name
        graph.initializer.append(helper.make_tensor(f"f{place}", full, [], [factor]))
        graph.node.append(helper.make_node("Mul", [last, f"f{place}"], [f"t{place}"], f"n{place}"))
        last = f"t{place}"
    graph.node.extend(
        [
            helper.make_node("Relu", [last], [seam.SEAM], "relu"),
            helper.make_node("Flatten", [seam.SEAM], ["logits"], "flatten"),
            helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
        ]
    )
    size = SIDE * SIDE * 3
    graph.input.append(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    )
    for name, shape in {
        "logits": [size],
        "probabilities": [size],
        seam.SEAM: [3, SIDE, SIDE],
    }.items():
        graph.output.append(helper.make_tensor_value_info(name, full, ["N", *shape]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _dots(bright: int, count: int = 5) -> NDArray[np.uint8]:
    """Black pictures, but for one."""
    pictures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    pictures[bright] = np.arange(pictures[0].size).reshape(SIDE, SIDE, 3)
    return pictures


def _ones(count: int, **others: float) -> list[float]:
    return [others.get(f"t{place}", 1.0) for place in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_place_is_found(count: int) -> None:
    """Also one that a later one makes up for, so that all ends agree."""
    original = chain(*_ones(count))
    pictures = models.pictures(original)
    for place in range(count):
        found = first_parting(original, chain(*_ones(count, **{f"t{place}": 1.1})), pictures, 0.01)
        assert found is not None
        assert (found.tensor, found.kind, found.node) == (f"t{place}", "Mul", f"n{place}")
        assert found.error == pytest.approx(0.1)
        assert found.before == 0
    there_and_back = chain(*_ones(count), 2.0, 0.5)
    found = first_parting(chain(*_ones(count + 2)), there_and_back, pictures, 0.01)
    assert found is not None
    assert found.tensor == f"t{count}"


def test_sessions_grow_like_the_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = onnxruntime.InferenceSession

    def counted(*args: object, **options: object) -> object:
        opened.append(args)
        return real(*args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    counts = {}
    for count in (8, 32, 128):
        original = chain(*_ones(count))
        opened.clear()
        found = first_parting(
            original, chain(*_ones(count, t3=2.0)), models.pictures(original), 0.1
        )
        assert found is not None
        assert found.tensor == "t3"
        counts[count] = len(opened)
    # Two graphs: each doubling is one more step.
    assert counts[32] - counts[8] <= 2 * 3
    assert counts[128] - counts[32] <= 2 * 3
    assert counts[128] <= 2 * (7 + 3)


def test_one_image_that_is_not_finite_parts() -> None:
    original, broken = chain(1.0, 1.0, 1.0), chain(1.0, 3e38, 1.0)
    found = first_parting(original, broken, _dots(4), 0.1)
    assert found is not None
    assert (found.tensor, found.error, found.before) == ("t1", np.inf, 0.0)
    # Finite, the same one image does not: the median of the five is that of the four.
    assert first_parting(original, chain(1.0, 3.0, 1.0), _dots(4), 0.1) is None


def test_the_first_faces_count() -> None:
    original, broken = chain(1.0), chain(3e38)
    for bright, seen in ((cause.MOST_FACES - 1, True), (cause.MOST_FACES, False)):
        pictures = _dots(bright, cause.MOST_FACES + 1)
        assert (first_parting(original, broken, pictures, 0.1) is not None) == seen


@pytest.mark.parametrize("turned", [1, 2])
def test_another_layout_is_no_parting(turned: int) -> None:
    """All sizes are equal, so that no shape tells the layouts apart."""
    original = chain(1.0, 2.0, 3.0)
    pictures = models.pictures(original)
    assert first_parting(original, chain(1.0, 2.0, 3.0, turned=turned), pictures, 1e-6) is None
    found = first_parting(original, chain(1.1, 2.0, 3.0, turned=turned), pictures, 1e-6)
    assert found is not None
    assert found.tensor == "t0"


def test_another_shape_is_a_parting() -> None:
    def halved(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Transpose")
        node.op_type = "Flatten"
        del node.attribute[:]
        del model.graph.output[:]
        model.graph.output.append(
            helper.make_tensor_value_info(seam.SEAM, TensorProto.FLOAT, ["N", 27])
        )

    original = chain(1.0)
    found = first_parting(
        original, models.changed(original, halved), models.pictures(original), 0.1
    )
    assert found is not None
    assert (found.tensor, found.error) == ("nchw from 0", np.inf)


def test_it_is_one_line_for_people() -> None:
    parting = Parting("/a/Conv_output_0", "Conv", "/a/Conv", 0.3142, 0.0004)
    assert str(parting) == "features part at /a/Conv (Conv): error 0.31, 0.0004 in front of it"
    unnamed = Parting("t", "Add", "", float("inf"), 0.0)
    assert str(unnamed) == "features part at t (Add): error inf, 0 in front of it"
