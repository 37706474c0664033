"""Reads ``NAME.onnx`` and makes sure that it is the network its spec describes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt import seam
from convcut_trt.errors import InputError, SpecError
from convcut_trt.home import Model
from convcut_trt.optional import load

if TYPE_CHECKING:
    import onnx

_MOST_VALUES = 1 << 28  # of a tensor for one face: 1 GiB in FP32


def read_onnx(path: Path) -> onnx.ModelProto:
    """Reads and checks a model's ONNX file.

    Raises:
        InputError: Not ONNX, cut off, with weights in other files, or another network.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    decode_error = load("google.protobuf.message", "ort").DecodeError
    refusals = (decode_error, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        # Weights in other files could be those of any file: ours are in the model's.
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        _check_tensors(model)
        _check_work(model)
    except (*refusals, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it cannot be parsed"
        raise InputError(
            f"{path} is no ONNX file, or was cut off ({reason}): export or copy it again"
        ) from None
    seam.check_outline(model, str(path))
    return model


def _check_tensors(model: onnx.ModelProto) -> None:
    """Makes sure that every constant has as many values as its sizes say, which the checker does not.

    Raises:
        ValueError: One has not, or is of a type that numpy has not, or lies in another file.
    """
    import onnx

    constants = [
        item.t for node in model.graph.node for item in node.attribute if item.HasField("t")
    ]
    for tensor in (*model.graph.initializer, *constants):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{tensor.name} lies in another file")
        try:
            onnx.numpy_helper.to_array(tensor)
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"{tensor.name} cannot be read: {error}") from None


def _check_work(model: onnx.ModelProto) -> None:
    """Makes sure that what a graph computes ends, and fits into memory.

    Raises:
        ValueError: It has graphs within (loops, branches, functions), a tensor beyond all measure, or one that
            is described twice.
    """
    import onnx

    attributes = [item for node in model.graph.node for item in node.attribute]
    if model.functions or any(item.HasField("g") or item.graphs for item in attributes):
        raise ValueError("it has graphs within, such as loops")
    graph = model.graph
    described = [value.name for value in (*graph.input, *graph.value_info, *graph.output)]
    if len(set(described)) != len(described):
        raise ValueError("it describes a tensor twice")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*inferred.value_info, *inferred.output):
        sizes = [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        if not 0 < math.prod(sizes) <= _MOST_VALUES:
            raise ValueError(f"{value.name} would be {sizes}")


def read_model(model: Model) -> onnx.ModelProto:
    """Reads a model's ONNX file and compares its shapes with the spec.

    Raises:
        InputError: As ``read_onnx``.
        SpecError: The spec is of another network.
    """
    original, spec = read_onnx(model.onnx), model.spec
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
        for value in (*original.graph.input, *original.graph.output)
    }
    classes = len(spec.classes)
    wanted = {
        "images": [spec.size, spec.size, 3],
        "logits": [classes],
        "probabilities": [classes],
        "map": list(spec.map_shape),
    }
    if shapes != wanted:
        raise SpecError(
            f"{model.onnx.name} computes {shapes}, its spec says {wanted}: export the model again"
        )
    return original
