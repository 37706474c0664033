"""The ONNX whose tail is one node, ``ConvcutTail``, which ``libconvcut_plugin.so`` computes inside an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcut_trt.kernels.read_tail import read_tail
from convcut_trt.seam import SEAM, split
from convcut_trt.spec import OUTPUTS

if TYPE_CHECKING:
    import onnx

OPERATOR = "ConvcutTail"
DOMAIN = "convcut"
VERSION = "1"  # of the plugin; TensorRT's parser looks for operator, version and an empty namespace


def with_plugin_tail(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces the tail of a model by the plugin's node.

    Only a TensorRT that has loaded the plugin can read the result; every other reader takes the model as it was.

    Args:
        model: A typed ONNX, or ``NAME.onnx``: uint8 images -> logits, probabilities, map. It is not changed.

    Returns:
        A model with the same input and outputs. Its last node is ``ConvcutTail``: map [N, C, H, W] -> logits and
        probabilities [N, K], with the attributes ``attention`` (a string), ``channels``, ``units`` (of the
        projection, 0 for none), ``classes``, and ``parameters`` (those of ``Tail.pack``, float32).

    Raises:
        InputError: The tail is not one that the kernel can compute.
    """
    from onnx import helper

    result, tail_model = split(model)
    tail = read_tail(tail_model)
    result.graph.node.append(
        helper.make_node(
            OPERATOR,
            [SEAM],
            list(OUTPUTS[:-1]),
            name=OPERATOR,
            domain=DOMAIN,
            plugin_version=VERSION,
            attention=tail.attention,
            channels=tail.map_shape[0],
            units=tail.units,
            classes=tail.classes,
            parameters=tail.pack().tolist(),
        )
    )
    result.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    del result.graph.output[:]
    result.graph.output.extend(model.graph.output)
    return result
