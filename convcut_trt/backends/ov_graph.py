"""What OpenVINO really computes, from the graph that it executes.

Compiling fuses operations and chooses kernels and their types; the executed graph names both, and the operations
of the ONNX that each stands for. Names of its facts: OpenVINO 2026.4, measured.
"""

from __future__ import annotations

import math
from typing import Any

from convcut_trt.backends.base import Layer

_TYPES = {"f32": "fp32", "f16": "fp16", "f64": "fp64", "i8": "int8", "u8": "uint8"}
_FACTS = ("layerType", "originalLayersNames", "runtimePrecision")
_NOT_RUN = ("Input", "Const", "Output")


def executed_layers(compiled: Any) -> tuple[Layer, ...]:
    """The operations of a compiled model in the order in which they run.

    Products that are fused into a ``Subgraph``, those of the tail's attention, have no multiply-adds here: how
    many is not told, and they are few.

    Args:
        compiled: ``openvino.CompiledModel``.
    """
    graph = compiled.get_runtime_model()
    layers = []
    for node in graph.get_ordered_ops():
        facts = {
            key: value.astype(str) for key, value in node.get_rt_info().items() if key in _FACTS
        }
        kind = facts["layerType"]
        if kind in _NOT_RUN:
            continue
        name = facts["originalLayersNames"].split(",")[0] or node.get_friendly_name()
        dtype = _TYPES.get(facts["runtimePrecision"], facts["runtimePrecision"])
        multiply_adds = _multiply_adds(kind, node)
        if multiply_adds and dtype == "uint8":
            dtype = "int8"
        layers.append(Layer(name.removesuffix("/WithoutBiases"), kind, dtype, multiply_adds))
    return tuple(layers)


def _multiply_adds(kind: str, node: Any) -> int:
    """For one image."""
    if kind == "Convolution":
        image, weights = _shape(node.input(0)), _shape(node.input(1))
        # [O, I, h, w], or with groups [G, O / G, I / G, h, w].
        per_output = weights[1:] if len(weights) == len(image) else weights[2:]
        return math.prod(_shape(node.output(0))[1:]) * math.prod(per_output)
    if kind in ("FullyConnected", "MatMul"):
        return math.prod(_shape(node.output(0))[1:]) * _shape(node.input(0))[-1]
    return 0


def _shape(port: Any) -> list[int]:
    """Sizes; a free batch is 0."""
    return [size.get_length() if size.is_static else 0 for size in port.get_partial_shape()]
