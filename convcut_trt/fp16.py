"""FP32 ONNX -> typed ONNX with the trunk in FP16 and the tail in FP32, without torch.

The precision lives in the graph's types: a strongly typed TensorRT network, TensorRT-RTX and onnxruntime
all read it there, and no builder flag can undo it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcut_trt import seam
from convcut_trt.backends.optional import load

if TYPE_CHECKING:
    import onnx


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Casts the trunk to FP16.

    onnxruntime's converter breaks with block lists (duplicate cast names), so the trunk is cut off, converted
    whole, and joined to the untouched tail. It clips weights beyond FP16's range, which the loss gate sees.

    Args:
        model: FP32, images uint8 [N, S, S, 3] -> logits, probabilities, map. It is not changed.

    Returns:
        The typed model, same inputs and outputs, ``map`` in FP32.

    Raises:
        BackendMissing: onnxruntime is not installed.
    """
    load("onnxruntime", "ort")
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    trunk, tail = seam.split(model)
    typed = float16.convert_float_to_float16(trunk, keep_io_types=True, disable_shape_infer=True)
    OnnxModel(typed).topological_sort()
    del typed.graph.value_info[:]
    return seam.join(typed, tail)
