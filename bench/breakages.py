"""Ways to break a network, a typed graph or an export that the gates have to notice: for the tests and the table.

``CHANGES`` are of an FP32 network, ``GRAPHS`` of what is built from a sound one, ``EXPORTS`` of ``NAME.onnx`` or
the preprocessing themselves, where comparing with ``NAME.onnx`` shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image

from convcut_trt import seam
from convcut_trt.gates.answers import reference
from convcut_trt.gates.judge import Case
from convcut_trt.pictures import load_picture
from convcut_trt.precision.int8 import places
from convcut_trt.precision.typed import PRECISIONS, Form, Typed, to_typed
from convcut_trt.preprocess import crop_box
from convcut_trt.ranges import Ranges
from convcut_trt.spec import INPUT

Change = Callable[[onnx.ModelProto], None]
Graph = Callable[[onnx.ModelProto, Form, Ranges], Typed]
Export = Callable[[Case], Case]


def changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A copy of a model with one change, still valid ONNX."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    onnx.checker.check_model(copy)
    return copy


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions in the order of the graph; the first is the stem."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def edit(model: onnx.ModelProto, name: str, change: Callable[[NDArray[np.float32]], None]) -> None:
    """Changes the values of one weight tensor in place."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def reconnect(model: onnx.ModelProto, old: str, new: str) -> None:
    """Every node that read the tensor ``old`` reads ``new``."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def constant(model: onnx.ModelProto, name: str, values: object, dtype: str) -> str:
    """Adds a constant and gives its name back."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    return name


def insert(model: onnx.ModelProto, place: int, nodes: list[onnx.NodeProto]) -> None:
    """Puts nodes into a graph, the first at ``place``."""
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)


def without_block(number: int) -> Change:
    """Bypasses a residual block: its readers get the shortcut alone."""

    def change(model: onnx.ModelProto) -> None:
        made_by = {node.output[0]: node for node in model.graph.node}
        add = [node for node in model.graph.node if node.op_type == "Add"][number]
        (shortcut,) = (
            name
            for name in add.input
            if made_by[name].op_type != "Conv" or made_by[made_by[name].input[0]].op_type != "Gelu"
        )
        reconnect(model, add.output[0], shortcut)
        model.graph.node.remove(add)
        del model.graph.value_info[:]  # it names the tensor that is gone

    return change


def _other_weights(model: onnx.ModelProto) -> None:
    random = np.random.default_rng(1)
    for node in convolutions(model)[1:]:
        edit(model, node.input[1], lambda values: random.shuffle(values.reshape(-1)))


def _relu(model: onnx.ModelProto) -> None:
    gelu = [node for node in model.graph.node if node.op_type == "Gelu"][1]
    gelu.op_type = "Relu"
    del gelu.attribute[:]


def _dead_channel(model: onnx.ModelProto) -> None:
    for name in convolutions(model)[0].input[1:]:
        edit(model, name, lambda values: values[0].fill(0))


def _epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "LayerNormalization" and attribute.name == "epsilon":
                attribute.f = 1e-3


def _shifted(model: onnx.ModelProto) -> None:
    # The picture moves right by one pixel, its first column is seen twice.
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    columns = [0, *range(side - 1)]
    place = constant(model, "columns", columns, "int64")
    model.graph.node.insert(0, helper.make_node("Gather", [INPUT, place], ["shifted"], axis=2))
    for node in list(model.graph.node)[1:]:
        node.input[:] = ["shifted" if name == INPUT else name for name in node.input]


def _swapped(model: onnx.ModelProto) -> None:
    edit(
        model,
        convolutions(model)[0].input[1],
        lambda values: np.copyto(values, values[:, ::-1].copy()),
    )


def _unnormalised(model: onnx.ModelProto) -> None:
    # The scale is folded into the stem; a stem that pads has the mean taken off in front of it.
    (mean,) = (node.input[1] for node in model.graph.node if node.op_type == "Sub")
    edit(model, mean, lambda values: values.fill(0))


def _not_a_number(model: onnx.ModelProto) -> None:
    edit(
        model, convolutions(model)[-1].input[1], lambda values: values.reshape(-1)[:1].fill(np.nan)
    )


def _neighbours(model: onnx.ModelProto) -> None:
    # The map minus the half of the batch's mean.
    for node in model.graph.node:
        node.output[:] = ["inner map" if name == seam.SEAM else name for name in node.output]
    axes = constant(model, "batch axis", [0], "int64")
    share = constant(model, "share", -0.5, "float32")
    made = next(i for i, node in enumerate(model.graph.node) if "inner map" in node.output)
    nodes = [
        helper.make_node("ReduceMean", ["inner map", axes], ["crowd"], keepdims=1),
        helper.make_node("Mul", ["crowd", share], ["part"]),
        helper.make_node("Add", ["inner map", "part"], [seam.SEAM]),
    ]
    insert(model, made + 1, nodes)


def _attention_over_the_batch(model: onnx.ModelProto) -> None:
    # softmax(A A^T / sqrt(d)) A over the faces of a batch: what the paper's released code computes.
    head = next(node for node in model.graph.node if "logits" in node.output)
    faces, place = head.input[0], list(model.graph.node).index(head)
    width = numpy_helper.to_array(
        next(tensor for tensor in model.graph.initializer if tensor.name == head.input[1])
    ).shape[1]
    scale = constant(model, "crowd scale", width**-0.5, "float32")
    nodes = [
        helper.make_node("Transpose", [faces], ["faces^T"], perm=[1, 0]),
        helper.make_node("MatMul", [faces, "faces^T"], ["likeness"]),
        helper.make_node("Mul", ["likeness", scale], ["score"]),
        helper.make_node("Softmax", ["score"], ["weight"], axis=-1),
        helper.make_node("MatMul", ["weight", faces], ["attended"]),
    ]
    head.input[0] = "attended"
    insert(model, place, nodes)


CHANGES: Mapping[str, Change] = {
    "other weights": _other_weights,
    "first block removed": without_block(0),
    "last block removed": without_block(-1),
    "ReLU for GELU": _relu,
    "dead channel": _dead_channel,
    "epsilon 1e-3": _epsilon,
    "one pixel of shift": _shifted,
    "colours swapped": _swapped,
    "not normalised": _unnormalised,
    "NaN": _not_a_number,
    "neighbours": _neighbours,
    "attention over the batch": _attention_over_the_batch,
}
"""Of an FP32 network; all keep its names."""


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in FP32, with an activation beyond the end of FP16 at 65504.

    What one convolution scales up, the next one scales down.
    """

    def change(copy: onnx.ModelProto) -> None:
        first, second = convolutions(copy)[-3:-1]
        factor = np.float32(2.0**16)
        for name in first.input[1:]:
            edit(copy, name, lambda values: np.copyto(values, values * factor))
        edit(copy, second.input[1], lambda values: np.copyto(values, values / factor))

    return changed(model, change)


def _quantised_tail(model: onnx.ModelProto) -> None:
    # Q/DQ on the map behind the seam, and the head's weights in INT8 per class.
    head = next(node for node in model.graph.node if "logits" in node.output)
    tensor = next(item for item in model.graph.initializer if item.name == head.input[1])
    values = numpy_helper.to_array(tensor)
    scales = np.abs(values).max(axis=1) / 127
    steps = constant(model, "head int8", np.rint(values / scales[:, None]), "int8")
    scale = constant(model, "head scale", scales, "float32")
    none = constant(model, "head zero", np.zeros(len(scales)), "int8")
    step = constant(model, "map step", 9 / 127, "float32")  # the bundled model's map ends there
    zero = constant(model, "map zero", 0, "int8")
    made = next(i for i, node in enumerate(model.graph.node) if seam.SEAM in node.output)
    reconnect(model, seam.SEAM, "map again")
    head.input[1] = "head again"
    nodes = [
        helper.make_node("QuantizeLinear", [seam.SEAM, step, zero], ["map int8"], "q map"),
        helper.make_node("DequantizeLinear", ["map int8", step, zero], ["map again"], "dq map"),
        helper.make_node("DequantizeLinear", [steps, scale, none], ["head again"], "dq", axis=0),
    ]
    insert(model, made + 1, nodes)


def _left_in_fp32(model: onnx.ModelProto, form: Form, ranges: Ranges) -> Typed:
    chosen = places(model, form.placement) if form.placement else ()
    return Typed(form, model, chosen)


def _of_network(change: Change) -> Graph:
    return lambda model, form, ranges: to_typed(changed(model, change), form, ranges)


def _of_graph(change: Change) -> Graph:
    def typed(model: onnx.ModelProto, form: Form, ranges: Ranges) -> Typed:
        sound = to_typed(model, form, ranges)
        return replace(sound, model=changed(sound.model, change))

    return typed


def _of_ranges(change: Callable[[Ranges], Ranges]) -> Graph:
    return lambda model, form, ranges: to_typed(model, form, change(ranges))


def _mixed_up(ranges: Ranges) -> Ranges:
    # Each tensor gets another one's range, as where two networks number their blocks differently.
    names = list(ranges.tensors)
    return replace(
        ranges,
        tensors={
            name: ranges.tensors[other] for name, other in zip(names, names[::-1], strict=True)
        },
    )


def _times(factor: float) -> Callable[[Ranges], Ranges]:
    def change(ranges: Ranges) -> Ranges:
        tensors = {
            name: (low * factor, high * factor) for name, (low, high) in ranges.tensors.items()
        }
        return replace(ranges, tensors=tensors)

    return change


@dataclass(frozen=True)
class Breakage:
    """A typed graph that is not what was asked for: how it is made of a sound network, and in which precisions."""

    typed: Graph
    precisions: tuple[str, ...] = PRECISIONS


GRAPHS: Mapping[str, Breakage] = {
    **{
        # A ReLU comes in behind the typing: in front of it the block were none to quantise.
        name: Breakage(_of_graph(change) if name == "ReLU for GELU" else _of_network(change))
        for name, change in CHANGES.items()
    },
    "ranges of other tensors": Breakage(_of_ranges(_mixed_up), ("int8",)),
    "ranges four times as wide": Breakage(_of_ranges(_times(4)), ("int8",)),
    "ranges a quarter as wide": Breakage(_of_ranges(_times(0.25)), ("int8",)),
    "Q/DQ on the tail": Breakage(_of_graph(_quantised_tail)),
    "left in FP32": Breakage(_left_in_fp32, ("fp16", "bf16", "int8")),
}
"""Of what is built."""


def _exported(change: Change) -> Export:
    return lambda case: replace(case, original=changed(case.original, change))


def resized_by(rule: Image.Resampling) -> Export:
    """The model was trained on faces resized by another rule than its spec says: so its witnesses answered."""

    def export(case: Case) -> Case:
        spec, faces = case.model.spec, []
        for witness in spec.witnesses:
            picture = load_picture(case.model.folder / witness.file)
            height, width = picture.shape[:2]
            box = crop_box(witness.box, width, height, spec.margin)
            face = Image.fromarray(picture).resize((spec.size, spec.size), rule, box=box)
            faces.append(np.asarray(face))
        given = reference(case.original, np.stack(faces), case.step).answers["probabilities"]
        witnesses = tuple(
            replace(witness, probabilities=tuple(map(float, row)))
            for witness, row in zip(spec.witnesses, given, strict=True)
        )
        model = replace(case.model, spec=replace(spec, witnesses=witnesses))
        return replace(case, model=model)

    return export


EXPORTS: Mapping[str, Export] = {
    **{name: _exported(change) for name, change in CHANGES.items()},
    "resized without averaging": resized_by(Image.Resampling.NEAREST),
    "resized by cubic splines": resized_by(Image.Resampling.BICUBIC),
    "FP16 overflow": lambda case: replace(case, original=scaled(case.original)),
}
"""Of ``NAME.onnx``, its witnesses or the preprocessing."""
