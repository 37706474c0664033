"""What onnxruntime really computes, from a profiled run.

The graph says what was asked for; the profile names the kernels that ran and the types they ran
on. A CPU has no FP16 convolutions, for example: onnxruntime puts casts around them, and only the
optimised graph and the run show it. Field names: onnxruntime 1.23 to 1.31, measured.
"""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from convcut_trt.backends.base import Layer
from convcut_trt.scratch import scratch_folder

_TYPES = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
}
# Kernels that multiply integers whatever their first input is.
_INTEGER_KERNELS = ("QLinear", "QGemm", "Integer", "DynamicQuantize")


def profiled_layers(onnxruntime: ModuleType, model: Path, providers: list[str]) -> list[Layer]:
    """Runs ``model`` once on black pictures; its operations in the order in which they ran.

    Args:
        onnxruntime: The module.
        model: An ONNX file with one input, whose first dimension may be free.
        providers: Execution providers.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # One level below the default: the last one pads channels to the vector width, which changes
    # no type but would inflate the multiply-adds. Prepacked weights would be missing from the
    # profile.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    with scratch_folder() as folder:
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
        image = session.get_inputs()[0]
        shape = [size if isinstance(size, int) else 1 for size in image.shape]
        session.run(None, {image.name: np.zeros(shape, np.uint8)})
        profile = Path(session.end_profiling()).read_text("utf-8")
        try:
            events = json.loads(profile)
        except ValueError:  # onnxruntime does not say that it could not write it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    return [
        _layer(event["name"].removesuffix("_kernel_time"), event["args"], shape[0])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]


def _layer(name: str, args: dict[str, Any], batch: int) -> Layer:
    kind = str(args["op_name"])
    inputs = [_tensor(entry) for entry in args["input_type_shape"]]
    outputs = [_tensor(entry) for entry in args["output_type_shape"]]
    if any(part in kind for part in _INTEGER_KERNELS) and kind != "DynamicQuantizeLinear":
        dtype = "int8"
    else:
        dtype = (inputs or outputs or [("?", [])])[0][0]
    return Layer(name, kind, dtype, multiply_adds(kind, inputs, outputs) // batch)


def _tensor(entry: dict[str, list[int]]) -> tuple[str, list[int]]:
    ((dtype, shape),) = entry.items()
    return _TYPES.get(dtype, dtype), shape


def multiply_adds(
    kind: str, inputs: list[tuple[str, list[int]]], outputs: list[tuple[str, list[int]]]
) -> int:
    """Of one operation, by its name and the names and shapes of its inputs and outputs."""
    if "Conv" in kind:
        # Scales and zero points may stand between; the weights are the first with as many
        # dimensions as the picture, their output channels first.
        rank = len(inputs[0][1])
        weights = next(shape for _, shape in inputs[1:] if len(shape) == rank)
        return math.prod(outputs[0][1]) * math.prod(weights[1:])
    if "MatMul" in kind or "Gemm" in kind:
        return math.prod(outputs[0][1]) * inputs[0][1][-1]
    return 0
