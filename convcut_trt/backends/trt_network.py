"""The layers of a strongly typed TensorRT network: what the builder is held to compute in."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from convcut_trt.backends.base import Layer

_TYPES = {"FLOAT": "fp32", "HALF": "fp16"}


def network_layers(trt: ModuleType, network: Any) -> list[Layer]:
    """Every layer with the type it computes in.

    Args:
        trt: The module the network comes from.
        network: A strongly typed network whose batch is fixed at 1, so that multiply-adds are
            those of one image.
    """
    made_by: dict[str, Any] = {}
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            made_by[layer.get_output(output).name] = layer
        layers.append(_layer(trt, layer, made_by))
    return layers


def _layer(trt: ModuleType, layer: Any, made_by: dict[str, Any]) -> Layer:
    kind, output = layer.type, layer.get_output(0)
    if kind not in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY):
        return Layer(layer.name, kind.name, _type_name(output.dtype))
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    quantised = [_from_int8(trt, tensor, made_by) for tensor in inputs[:2]]
    # A product of two dequantised INT8 tensors is what the builder fuses into an INT8 kernel.
    dtype = "int8" if len(quantised) == 2 and all(quantised) else _type_name(inputs[0].dtype)
    return Layer(layer.name, kind.name, dtype, _multiply_adds(trt, layer, inputs[0], output))


def _multiply_adds(trt: ModuleType, layer: Any, source: Any, output: Any) -> int:
    # get_layer gives the base class; assigning the class is TensorRT's own way down.
    if layer.type == trt.LayerType.CONVOLUTION:
        layer.__class__ = trt.IConvolutionLayer
        depth = source.shape[1] // layer.num_groups * math.prod(layer.kernel_size_nd)
    else:
        layer.__class__ = trt.IMatrixMultiplyLayer
        transposed = layer.op0 == trt.MatrixOperation.TRANSPOSE
        depth = source.shape[-2 if transposed else -1]
    return int(math.prod(output.shape) * depth)


def _from_int8(trt: ModuleType, tensor: Any, made_by: dict[str, Any]) -> bool:
    layer = made_by.get(tensor.name)
    while layer is not None and layer.type == trt.LayerType.SHUFFLE:
        layer = made_by.get(layer.get_input(0).name)
    return (
        layer is not None
        and layer.type == trt.LayerType.DEQUANTIZE
        and layer.get_input(0).dtype == trt.DataType.INT8
    )


def _type_name(dtype: Any) -> str:
    name = str(dtype.name)
    return _TYPES.get(name, name.lower())
