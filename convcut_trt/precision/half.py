"""FP32 ONNX -> typed ONNX with the trunk in FP16 or BF16 and the tail in FP32, without torch.

The precision lives in the graph's types: a strongly typed TensorRT network, TensorRT-RTX and onnxruntime
all read it there, and no builder flag can undo it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convcut_trt import seam
from convcut_trt.errors import InputError
from convcut_trt.optional import load

if TYPE_CHECKING:
    import onnx

TYPES = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}
"""The trunk's type in each precision, as onnx.TensorProto names it."""


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Casts the trunk to a type of 16 bits.

    Args:
        model: FP32, images uint8 [N, S, S, 3] -> logits, probabilities, map. It is not changed.
        precision: ``fp16`` or ``bf16``. No CPU kernel of onnxruntime takes BF16: see ``in_fp32``.

    Returns:
        The typed model, same inputs and outputs, ``map`` in FP32. Finite weights beyond FP16's range become
        its largest, which the loss gate sees.

    Raises:
        InputError: The model is typed already.
        BackendMissing: onnx is not installed.
    """
    check_fp32(model)
    trunk, tail = seam.split(model)
    return seam.join(cast_trunk(trunk, precision), tail)


def check_fp32(model: onnx.ModelProto) -> None:
    """Makes sure that a model is ``NAME.onnx`` itself, not a typed form of it.

    Raises:
        InputError: It holds tensors of 16 bits, or Q/DQ.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    kinds = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8}
    typed = any(tensor.data_type in kinds for tensor in model.graph.initializer)
    if typed or any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise InputError(
            "the model is typed or quantised already: every precision is made from the FP32 NAME.onnx, so give "
            "that file"
        )


def cast_trunk(trunk: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The trunk of ``seam.split`` with every float in the type of ``precision``, and its map cast back to FP32.

    Names of tensors stay, but for what computes the map.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    typed = onnx.ModelProto()
    typed.CopyFrom(trunk)
    if precision == "fp32":
        return typed
    full = onnx.TensorProto.FLOAT
    kind = getattr(onnx.TensorProto, TYPES[precision])
    for tensor in typed.graph.initializer:
        if tensor.data_type == full:
            tensor.CopyFrom(constant(tensor.name, onnx.numpy_helper.to_array(tensor), kind))
    inner = f"{seam.SEAM} in {precision}"
    for node in typed.graph.node:
        node.input[:] = [inner if name == seam.SEAM else name for name in node.input]
        node.output[:] = [inner if name == seam.SEAM else name for name in node.output]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == full:
                attribute.i = kind
            elif attribute.HasField("t") and attribute.t.data_type == full:
                values = onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(constant(attribute.t.name, values, kind))
    typed.graph.node.append(
        onnx.helper.make_node("Cast", [inner], [seam.SEAM], f"{seam.SEAM} to fp32", to=full)
    )
    del typed.graph.value_info[:]
    return typed


def constant(name: str, values: np.ndarray, kind: int) -> onnx.TensorProto:
    """A tensor of the type ``kind`` of onnx.TensorProto; finite values beyond its range become its largest."""
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    if kind == onnx.TensorProto.FLOAT16:
        limit = np.finfo(dtype).max
        values = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    tensor = onnx.numpy_helper.from_array(values.astype(dtype), name)
    return tensor


def in_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed model computed in FP32, with every result of its trunk rounded to the type it has there.

    For the gates of engines that cannot run here. No CPU kernel of onnxruntime takes BF16, and its FP16
    QuantizeLinear of 1.23 does not round to nearest (measured: half of the values are one step off). Kernels
    that multiply 16 bits add up in FP32 as well, so the two differ in the order of sums only.

    Args:
        model: What ``to_half`` or ``to_int8`` made. It is not changed.

    Returns:
        A model that onnxruntime's CPU runs, same inputs and outputs; Q/DQ stay, with the same scales.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    full = onnx.TensorProto.FLOAT
    kinds = {
        tensor.name: tensor.data_type
        for tensor in model.graph.initializer
        if tensor.data_type in _halves()
    }
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for tensor in copy.graph.initializer:
        if tensor.name in kinds:
            tensor.CopyFrom(constant(tensor.name, onnx.numpy_helper.to_array(tensor), full))
    for node in model.graph.node:
        copy.graph.node.append(node)
        last = copy.graph.node[-1]
        kind = _half_of(node, kinds)
        if kind is None:
            continue
        for attribute in last.attribute:
            if node.op_type == "Cast":
                attribute.i = full
        (name,) = node.output
        kinds[name] = kind
        last.output[0] = exact = f"{name} exact"
        short = f"{name} rounded"
        copy.graph.node.extend(
            [
                onnx.helper.make_node("Cast", [exact], [short], f"round {name}", to=kind),
                onnx.helper.make_node("Cast", [short], [name], f"widen {name}", to=full),
            ]
        )
    return copy


def _half_of(node: onnx.NodeProto, kinds: dict[str, int]) -> int | None:
    """The type of 16 bits that a node computes in; None where it puts out another."""
    if node.op_type == "QuantizeLinear":
        return None
    if node.op_type == "Cast":
        return next((item.i for item in node.attribute if item.i in _halves()), None)
    return next((kinds[name] for name in node.input if name in kinds), None)


def _halves() -> tuple[int, int]:
    import onnx

    return onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
