"""Reads ``NAME.onnx`` and makes sure that it is the network its spec describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt import seam
from convcut_trt.errors import InputError, SpecError
from convcut_trt.home import Model
from convcut_trt.optional import load

if TYPE_CHECKING:
    import onnx


def read_onnx(path: Path) -> onnx.ModelProto:
    """Reads and checks a model's ONNX file.

    Raises:
        InputError: Not ONNX, cut off, or another network.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    decode_error = load("google.protobuf.message", "ort").DecodeError
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (decode_error, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it cannot be parsed"
        raise InputError(
            f"{path} is no ONNX file, or was cut off ({reason}): export or copy it again"
        ) from None
    seam.check_outline(model, str(path))
    return model


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
