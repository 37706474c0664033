"""What a typed ONNX makes a device do: multiply-adds and bytes of each layer, after fusion.

Counted from the shapes and types of the graph, nothing is run:

- multiply-adds of convolutions and matrix products, as ``backends.ort_profile`` counts them;
- bytes of weights and constants in their stored type, once, and of activations read and written.

A product of two dequantised tensors is INT8, and reads what lies before the DequantizeLinear. Reshapes are free.
LayerNormalization, GELU and softmax are one pass each: read once, written once.

Fusion: an operation whose kind is in ``Fusion.rides`` becomes part of the layer that makes one of its inputs, where
nothing else reads that and the layer can be its host. Then what lay between them is neither written nor read; what
the rider reads besides (a residual, a bias) is added, and its result replaces the layer's. On a GPU passes ride:
bias, ReLU, GELU, layer scale, residual, layouts, casts and Q/DQ. onnxruntime's CPU kernels take a ReLU or an Add
into a product of floats, and a bias into the GELU behind it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt.backends.base import existing_file
from convcut_trt.backends.ort_profile import multiply_adds
from convcut_trt.errors import InputError
from convcut_trt.optional import load

if TYPE_CHECKING:
    import onnx

KINDS = {
    "MatMul": "gemm",
    "Gemm": "gemm",
    "LayerNormalization": "norm",
    "Gelu": "gelu",
    "Softmax": "softmax",
    "Transpose": "layout",
    "Cast": "cast",
    "QuantizeLinear": "quantize",
    "DequantizeLinear": "dequantize",
    "Relu": "relu",
    "Add": "add",
    "ReduceMean": "reduce",
    "ReduceSum": "reduce",
}
"""Operation -> kind; all else is ``elementwise``. A convolution is ``gemm`` (1x1), ``depthwise``, ``stem`` (of a
picture: too few channels to fill a vector) or ``conv``."""
PRODUCTS = ("gemm", "conv", "stem", "depthwise")
_PICTURE = 4  # channels at most
_VIEWS = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Constant", "Shape")
_TYPES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}


@dataclass(frozen=True)
class Fusion:
    """Kind of an operation -> kinds of the layers that it rides on, ``*`` for any; INT8 products are ``int8``."""

    rides: Mapping[str, tuple[str, ...]]

    def takes(self, host: Work, rider: str) -> bool:
        """Whether ``host`` can take in an operation of the kind ``rider``."""
        hosts = self.rides.get(rider, ())
        return "*" in hosts or ("int8" if host.dtype == "int8" else host.kind) in hosts


ON_GPU = Fusion(
    dict.fromkeys(("relu", "add", "gelu", "elementwise", "layout", "cast", "quantize"), ("*",))
)
ON_CPU = Fusion({"relu": PRODUCTS, "add": PRODUCTS, "gelu": ("add",)})


@dataclass(frozen=True)
class Work:
    """One layer, for a whole batch.

    Attributes:
        name: Of the node.
        kind: See ``KINDS``.
        dtype: What it computes in: fp32, fp16, bf16, int8; another type's name elsewhere.
        multiply_adds: 0 for everything but convolutions and matrix products.
        weight_bytes: Of weights and other constants.
        read_bytes: Of activations.
        written_bytes: Of activations.
        riders: Names of the nodes that are part of it.
    """

    name: str
    kind: str
    dtype: str
    multiply_adds: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    riders: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """All that it moves."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


def layers(
    typed_onnx: Path | onnx.ModelProto, batch: int = 1, fusion: Fusion = ON_GPU
) -> list[Work]:
    """The layers of a typed ONNX in the order of its graph.

    Args:
        typed_onnx: Of ``typed.to_typed``, or its file.
        batch: Faces in a call.
        fusion: What becomes part of the layer in front of it.

    Raises:
        InputError: A batch below 1 or one that a fixed graph does not take, no ONNX file, or a shape that cannot be
            inferred.
    """
    graph = _Graph(typed_onnx, batch)
    fused: dict[str, Work] = {}  # by the tensor that a layer makes
    for node in graph.nodes:
        work = graph.work(node)
        hosts = [
            name
            for name in node.input
            if name in fused and graph.reads[name] == 1 and fusion.takes(fused[name], work.kind)
        ]
        if hosts:
            source = hosts[-1]
            host = fused.pop(source)
            others = work.read_bytes - graph.size(source)
            work = replace(
                host,
                # A GELU with its bias costs what a GELU does.
                kind="gelu" if (host.kind, work.kind) == ("add", "gelu") else host.kind,
                weight_bytes=host.weight_bytes + work.weight_bytes,
                read_bytes=host.read_bytes + others,
                written_bytes=work.written_bytes,
                riders=(*host.riders, work.name),
            )
        fused[node.output[0]] = work
    return sorted(fused.values(), key=lambda work: graph.places[work.name])


class _Graph:
    """A typed graph with the shape and type of every tensor."""

    def __init__(self, source: Path | onnx.ModelProto, batch: int) -> None:
        onnx = load("onnx", "ort")  # names the extra where it is missing
        self._onnx = onnx
        graph = _sized(source, batch).graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self._weights[node.output[0]] = node.attribute[0].t
        self._values = {
            value.name: value.type.tensor_type
            for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self._same = {node.output[0]: node.input[0] for node in graph.node if _is_view(node)}
        # What a DequantizeLinear stands in front of reads the integers.
        self._integers = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "DequantizeLinear"
        }
        self.nodes = []
        for node in graph.node:
            if node.op_type in _VIEWS or node.op_type == "DequantizeLinear":
                continue
            node.input[:] = [self._origin(name) for name in node.input]
            self.nodes.append(node)
        self.places = {node.name: place for place, node in enumerate(self.nodes)}
        self.reads = Counter(name for node in self.nodes for name in node.input)
        self.reads.update(self._origin(value.name) for value in graph.output)

    def work(self, node: onnx.NodeProto) -> Work:
        """A node as a layer of its own."""
        inputs = [name for name in node.input if name]
        stored = [name for name in inputs if name in self._weights]
        read = [name for name in dict.fromkeys(inputs) if name not in self._weights]
        first = [self._tensor(name) for name in inputs[:2]]
        integer = len(first) == 2 and all(kind in ("INT8", "UINT8") for kind, _ in first)
        kind = self._kind(node)
        dtype = "int8" if integer and kind in PRODUCTS else self._float(node, first)
        return Work(
            name=node.name,
            kind=kind,
            dtype=dtype,
            multiply_adds=multiply_adds(
                node.op_type,
                [self._tensor(name) for name in inputs],
                [self._tensor(node.output[0])],
            ),
            weight_bytes=sum(map(self.size, stored)),
            read_bytes=sum(map(self.size, read)),
            written_bytes=self.size(node.output[0]),
        )

    def size(self, name: str) -> int:
        """Bytes of a tensor."""
        kind, shape = self._tensor(name)
        number = getattr(self._onnx.TensorProto, kind)
        width: int = self._onnx.helper.tensor_dtype_to_np_dtype(number).itemsize
        return math.prod(shape) * width

    def _origin(self, name: str) -> str:
        """The tensor behind views and dequantisation."""
        while name in self._same or name in self._integers:
            name = self._same.get(name) or self._integers[name]
        return name

    def _tensor(self, name: str) -> tuple[str, list[int]]:
        if name in self._weights:
            tensor = self._weights[name]
            return self._onnx.TensorProto.DataType.Name(tensor.data_type), list(tensor.dims)
        found = self._values.get(name)
        shape = [size.dim_value for size in found.shape.dim] if found is not None else [0]
        if found is None or 0 in shape:
            raise InputError(
                f"the shape of the tensor {name!r} cannot be inferred: export the model again"
            )
        return self._onnx.TensorProto.DataType.Name(found.elem_type), shape

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type != "Conv":
            return KINDS.get(node.op_type, "elementwise")
        group = next((item.i for item in node.attribute if item.name == "group"), 1)
        _, inputs, *kernel = self._tensor(node.input[1])[1]
        if group > 1:
            return "depthwise"
        if math.prod(kernel) == 1:
            return "gemm"
        return "stem" if inputs <= _PICTURE else "conv"

    def _float(self, node: onnx.NodeProto, inputs: list[tuple[str, list[int]]]) -> str:
        kinds = [kind for kind, _ in (*inputs, self._tensor(node.output[0]))]
        return next((_TYPES[kind] for kind in kinds if kind in _TYPES), kinds[0].lower())


def _sized(source: Path | onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy whose batch is fixed, with every shape inferred."""
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    if batch < 1:
        raise InputError(f"a batch of {batch}: give 1 or more")
    model = onnx.ModelProto()
    if isinstance(source, Path):
        try:
            model.ParseFromString(existing_file(source).read_bytes())
        except load("google.protobuf.message", "ort").DecodeError:
            raise InputError(f"{source} is no ONNX file, or was cut off: build it again") from None
    else:
        model.CopyFrom(source)
    if not model.graph.input:
        raise InputError("this ONNX file holds no network: build it again")
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    if first.dim_value not in (0, batch):
        raise InputError(f"this graph takes a batch of {first.dim_value}, not of {batch}")
    first.dim_value = batch
    for output in model.graph.output:
        for first in output.type.tensor_type.shape.dim[:1]:
            first.dim_value = batch
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _is_view(node: onnx.NodeProto) -> bool:
    return node.op_type in _VIEWS and bool(node.input)
