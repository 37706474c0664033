"""Reads the operations of an engine from the report of TensorRT's inspector, as full TensorRT gives it.

The form of the report is not documented. Read here is what engines of 10.x print that were built with detailed
verbosity: https://github.com/NVIDIA/TensorRT/issues/4020 and public copies of such reports. No engine was at hand
to compare with; where something is missing, the type is ``?``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from convcut_trt.backends.trt_plan import Operation

_TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
}
_TYPE = re.compile(r"\b(" + "|".join(_TYPES) + r")\b", re.IGNORECASE)
_COVERED = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_NOT_ON_DEVICE = ("shape_call", "constant", "signal", "wait")


def operations(report: str) -> list[Operation] | None:
    """The device operations, None where the report has none with types.

    Args:
        report: JSON of ``EngineInspector.get_engine_information``.
    """
    try:
        layers = json.loads(report)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        return None  # names alone: built without detailed verbosity
    return [
        Operation(
            str(layer.get("Name", "")),
            str(layer.get("LayerType", "?")),
            _computed(layer),
            tuple(_COVERED.findall(str(layer.get("Metadata", "")))),
        )
        for layer in layers
        if str(layer.get("LayerType", "")).lower() not in _NOT_ON_DEVICE
    ]


def _computed(layer: Mapping[str, Any]) -> str:
    """The type of the first tensor that goes in: a product computes in that of its activations."""
    for tensor in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        found = _TYPE.search(str(tensor.get("Format/Datatype", "")))
        if found:
            return _TYPES[found[1].lower()]
    return "?"
