"""In which types a typed ONNX stores its weights: half of the precision proof."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from convcut_trt.backends.base import existing_file
from convcut_trt.errors import InputError
from convcut_trt.optional import load

# By onnx.TensorProto.DataType, with bytes per value. Integers of 32 and 64 bits are shapes and
# axes, not weights.
_TYPES = {1: ("fp32", 4), 10: ("fp16", 2), 16: ("bf16", 2), 11: ("fp64", 8), 2: ("int8", 1)}
_TYPES[3] = _TYPES[2]  # signed and unsigned alike


def stored_shares(typed_onnx: Path, leave_out: str | None = None) -> dict[str, float]:
    """Share of the weight bytes that is stored in each type, largest first; sums to 1.

    Args:
        typed_onnx: The file.
        leave_out: Weights whose names start with this do not count.

    Raises:
        BackendMissing: onnx is not installed.
        InputError: Not an ONNX file.
    """
    onnx = load("onnx", "ort")
    decode_error = load("google.protobuf.message", "ort").DecodeError
    existing_file(typed_onnx)
    try:
        graph = onnx.load(str(typed_onnx), load_external_data=False).graph
    except decode_error as error:
        raise InputError(f"{typed_onnx} is not an ONNX file: export or copy it again") from error
    sums: dict[str, int] = {}
    for tensor in graph.initializer:
        if leave_out is not None and tensor.name.startswith(leave_out):
            continue
        if tensor.data_type in _TYPES:
            name, size = _TYPES[tensor.data_type]
            sums[name] = sums.get(name, 0) + size * math.prod(tensor.dims)
    total = sum(sums.values()) or 1  # weights may all be empty
    return {name: sums[name] / total for name in sorted(sums, key=lambda name: -sums[name])}


def in_words(stored: Mapping[str, float], computed: Mapping[str, float]) -> str:
    """The largest share of each, for example ``fp16 stored, fp32 computed``."""
    return f"{next(iter(stored), '?')} stored, {next(iter(computed), '?')} computed"
