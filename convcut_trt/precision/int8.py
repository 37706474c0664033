"""FP32 ONNX -> typed ONNX with convolutions of its ConvNeXt blocks in INT8, by Q/DQ, with onnx and numpy alone.

Symmetric: weights per output channel, activations per tensor. Weights are stored in INT8 behind a
DequantizeLinear; biases, all other constants and the tail are not quantised: TensorRT-RTX refuses INT32 biases
and Q on constants. Scales have the type of the rest of the trunk, so no casts stand between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convcut_trt import seam
from convcut_trt.backends.base import Layer
from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.precision.blocks import drop_unused, replace_nodes, roles
from convcut_trt.precision.half import TYPES, cast_trunk, check_fp32, constant
from convcut_trt.ranges import Ranges, checked

if TYPE_CHECKING:
    import onnx

PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "pw": ("fc1", "fc2"),
    "fc1": ("fc1",),
    "fc2": ("fc2",),
    "pw+dw": ("fc1", "fc2", "dw"),
}
"""Placement -> the roles of ``blocks.roles`` that are quantised.

Stem, downsampling and detail extraction are in none: little work, and the last of them makes the map itself.
"""

_LEVELS = 127  # -128 stays unused, so that the range is symmetric
_ZERO = "int8 zero"
_SMALLEST = {"fp32": 1.2e-38, "fp16": 6e-8}  # scale of a channel of zeros: the least above zero


@dataclass(frozen=True)
class Place:
    """One convolution (or matrix product) of a placement.

    Attributes:
        node: Its name.
        role: ``fc1``, ``fc2`` or ``dw``.
        source: The tensor that it reads.
        weight: Its weight tensor.
        weights: Number of its weights.
        multiply_adds: For one image.
    """

    node: str
    role: str
    source: str
    weight: str
    weights: int
    multiply_adds: int


def places(model: onnx.ModelProto, placement: str) -> tuple[Place, ...]:
    """What a placement quantises in an FP32 model, in the order of the graph.

    Raises:
        InputError: The placement is not known, or the model lacks one of its roles.
    """
    if placement not in PLACEMENTS:
        raise InputError(
            f"no placement is named {placement!r}: choose from {', '.join(PLACEMENTS)}"
        )
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    trunk = onnx.shape_inference.infer_shapes(seam.split(model)[0])
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in trunk.graph.value_info
    }
    kernels = {tensor.name: list(tensor.dims) for tensor in trunk.graph.initializer}
    found = []
    for node, role in roles(trunk.graph):
        if role not in PLACEMENTS[placement]:
            continue
        kernel = kernels[node.input[1]]
        depth = kernel[0] if node.op_type == "MatMul" else math.prod(kernel[1:])
        found.append(
            Place(
                node=node.name,
                role=role,
                source=node.input[0],
                weight=node.input[1],
                weights=math.prod(kernel),
                multiply_adds=math.prod(shapes[node.output[0]][1:]) * depth,
            )
        )
    missing = set(PLACEMENTS[placement]) - {place.role for place in found}
    if missing:
        raise InputError(
            f"the placement {placement} needs {', '.join(sorted(missing))} of ConvNeXt blocks, and this model has "
            "none: build it in fp16"
        )
    return tuple(found)


def to_int8(model: onnx.ModelProto, ranges: Ranges, placement: str, rest: str) -> onnx.ModelProto:
    """Quantises what ``places`` names, and casts the rest of the trunk.

    Args:
        model: FP32, as exported or in the form of ``linear``. It is not changed.
        ranges: Of this model: hold them to its file with ``Ranges.check`` first.
        placement: One of ``PLACEMENTS``.
        rest: Type of the rest of the trunk: ``fp16`` for a GPU, ``fp32`` for a CPU.

    Returns:
        The typed model, same inputs and outputs, ``map`` in FP32.

    Raises:
        InputError: As ``places``; a range is missing or no range; the model is typed or quantised already; a
            weight is not finite.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    if rest not in _SMALLEST:
        raise InputError(f"the rest of an INT8 model is fp16 or fp32, not {rest!r}")
    check_fp32(model)
    chosen = {place.node: place for place in places(model, placement)}
    trunk, tail = seam.split(model)
    exact = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in trunk.graph.initializer}
    typed = cast_trunk(trunk, rest)
    writer = _Writer(typed.graph, rest)
    for node in list(typed.graph.node):
        if node.name in chosen:
            source, weight = node.input[:2]
            node.input[0] = writer.activation(source, _amax(ranges, source))
            axis = 1 if node.op_type == "MatMul" else 0
            node.input[1] = writer.weight(weight, exact[weight], axis)
        writer.nodes.append(node)
    replace_nodes(typed.graph, writer.nodes)
    drop_unused(typed.graph)
    return seam.join(typed, tail)


def stored_share(typed: onnx.ModelProto, chosen: Iterable[Place]) -> float:
    """Share of a placement's weights that a typed model stores in INT8."""
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    stored: dict[str, int] = {
        tensor.name: math.prod(tensor.dims)
        for tensor in typed.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    weights = {place.weight: place.weights for place in chosen}
    return sum(stored.get(_stored(name), 0) for name in weights) / sum(weights.values())


def computed_share(layers: Iterable[Layer], chosen: Iterable[Place]) -> float:
    """Share of a placement's multiply-adds that an engine computes in INT8.

    Nothing outside the placement is quantised, so what computes in INT8 belongs to it.
    """
    computed: int = sum(layer.multiply_adds for layer in layers if layer.dtype == "int8")
    return computed / sum(place.multiply_adds for place in chosen)


class _Writer:
    """Adds Q/DQ to a graph, for each tensor once."""

    def __init__(self, graph: onnx.GraphProto, rest: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._onnx = load("onnx", "ort")
        self._graph = graph
        self._kind = getattr(self._onnx.TensorProto, TYPES[rest])
        self._smallest = _SMALLEST[rest]
        self._done: set[str] = set()
        graph.initializer.append(self._onnx.numpy_helper.from_array(np.array(0, np.int8), _ZERO))

    def activation(self, name: str, amax: float) -> str:
        """Quantises a tensor; the name of what comes out."""
        result, scale, short = f"{name} dequantised", f"{name} scale", f"{name} int8"
        if name not in self._done:
            self._done.add(name)
            self._scales(scale, np.array(amax / _LEVELS))
            self._add("QuantizeLinear", [name, scale, _ZERO], short)
            self._add("DequantizeLinear", [short, scale, _ZERO], result)
        return result

    def weight(self, name: str, values: np.ndarray, axis: int) -> str:
        """Stores a weight in INT8, a scale for each of ``axis``; the name of what comes out."""
        result, scale, zero = f"{name} dequantised", f"{name} scale", f"{name} zero"
        if name not in self._done:
            self._done.add(name)
            if not np.isfinite(values).all():
                raise InputError(
                    f"the weight {name} is not finite: train or export the model again"
                )
            others = tuple(index for index in range(values.ndim) if index != axis)
            scales = self._scales(scale, np.abs(values).max(axis=others) / _LEVELS)
            steps = np.rint(values / np.expand_dims(scales, others))
            whole = np.clip(steps, -_LEVELS, _LEVELS).astype(np.int8)
            for key, array in (
                (_stored(name), whole),
                (zero, np.zeros(len(scales), np.int8)),
            ):
                self._graph.initializer.append(self._onnx.numpy_helper.from_array(array, key))
            self._add("DequantizeLinear", [_stored(name), scale, zero], result, axis=axis)
        return result

    def _scales(self, name: str, values: np.ndarray) -> np.ndarray:
        """Stores scales; what they are after rounding, which the steps have to be counted in."""
        tensor = constant(name, np.maximum(values, self._smallest), self._kind)
        self._graph.initializer.append(tensor)
        return np.asarray(self._onnx.numpy_helper.to_array(tensor), np.float64)

    def _add(self, kind: str, inputs: list[str], output: str, **fields: int) -> None:
        name = f"{kind} {inputs[0]}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name, **fields))


def _stored(weight: str) -> str:
    return f"{weight} int8"


def _amax(ranges: Ranges, name: str) -> float:
    amax = ranges.amax(name)  # names the tensor where it is missing
    checked(name, ranges.tensors[name], f"the ranges of {ranges.name}")
    return amax
