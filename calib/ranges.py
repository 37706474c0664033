"""Ranges of a model's activations by onnxruntime's calibrators, over the graph that every precision starts from.

Watched are the inputs and outputs of the trunk's convolutions and matrix products, all that INT8 may quantise:
weights and other constants have ranges of their own, and the tail stays FP32.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convcut_trt import seam
from convcut_trt.backends.onnxruntime import refusal
from convcut_trt.errors import InputError
from convcut_trt.gates import Step
from convcut_trt.optional import load
from convcut_trt.ranges import checked
from convcut_trt.scratch import scratch_folder
from convcut_trt.spec import INPUT

onnxruntime = load("onnxruntime", "ort")
calibrate = load("onnxruntime.quantization.calibrate", "ort")

Range = tuple[float, float]

# The percentile is of magnitudes: the largest 1e-4 of them are clipped. Entropy looks for the threshold of
# the least Kullback-Leibler divergence between the histogram and 128 levels; with onnxruntime's own 128 bins
# there is only one threshold to look at, the maximum.
_CALIBRATORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "minmax": ("MinMaxCalibrater", {}),
    "percentile": ("PercentileCalibrater", {"symmetric": True, "percentile": 99.99}),
    "entropy": ("EntropyCalibrater", {"symmetric": True, "num_bins": 1024}),
}
_OPERATIONS = ("Conv", "Gemm", "MatMul")
_SUM = "sum of "
_BATCH_BYTES = 128 << 20  # of watched tensors; histograms need a few times their size
_LARGEST_BATCH = 32


def quantisable(trunk: onnx.ModelProto) -> tuple[str, ...]:
    """The tensors that INT8 may quantise, in the order of the graph: what depends on the pictures."""
    moving = {INPUT}
    found: dict[str, None] = {}
    for node in trunk.graph.node:
        if moving.isdisjoint(node.input):
            continue
        moving.update(node.output)
        if node.op_type in _OPERATIONS:
            ends = (*node.input[:2], node.output[0])
            found.update(dict.fromkeys(name for name in ends if name in moving))
    found.pop(seam.SEAM, None)  # what the tail reads
    return tuple(found)


class Calibrator:
    """Collects the ranges of a model's activations, a batch at a time.

    Args:
        model: FP32, images uint8 [N, S, S, 3] -> logits, probabilities, map. It is not changed.
        method: One of ``convcut_trt.ranges.METHODS``.
    """

    def __init__(self, model: onnx.ModelProto, method: str) -> None:
        trunk, _ = seam.split(model)
        self.tensors = quantisable(trunk)
        trunk.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"  # it may be fixed
        trunk = onnx.shape_inference.infer_shapes(trunk)
        known = {value.name: value for value in trunk.graph.value_info}
        sizes = [_size(known[name]) for name in self.tensors]
        self.batch = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // (4 * sum(sizes))))
        _put_out_sums(trunk, self.tensors)
        kind, options = _CALIBRATORS[method]
        with scratch_folder() as scratch:
            path = scratch / "trunk.onnx"
            onnx.save(trunk, path)
            self._inner = getattr(calibrate, kind)(
                path, augmented_model_path=str(path.with_stem("watched")), **options
            )
            # By itself it would take every tensor of the graph.
            self._inner.select_tensors_to_calibrate = lambda _: (set(self.tensors), known)
            # It writes the graph once more, and does not say where that failed.
            copy = "its copy of the model (is the disk full? free some space, or name another folder in TMPDIR)"
            with refusal(onnxruntime, copy, InputError):
                self._inner.augment_graph()
                self._inner.create_inference_session()
        self._inner.infer_session = _Watched(self._inner.infer_session)

    def collect(self, faces: NDArray[np.uint8], phase: str, step: Step) -> None:
        """Adds pictures, uint8 [N, S, S, 3], to what was seen.

        Raises:
            InputError: A tensor is not finite on one of them.
        """
        for start in range(0, len(faces), self.batch):
            step(phase, start, len(faces))
            with redirect_stdout(io.StringIO()):  # it prints what it does
                self._inner.collect_data(_Once({INPUT: faces[start : start + self.batch]}))
        step(phase, len(faces), len(faces))

    def ranges(self) -> dict[str, Range]:
        """Tensor -> (low, high) over all that was collected, widened to hold zero.

        Raises:
            InputError: The range of a tensor is zero.
        """
        with redirect_stdout(io.StringIO()):
            data = self._inner.compute_data()
        found = {}
        for name in self.tensors:
            low, high = (float(np.squeeze(value)) for value in data[name].range_value)
            found[name] = checked(name, (min(low, 0.0), max(high, 0.0)), "calibration")
        return found


class _Once:
    """A CalibrationDataReader of one batch: a calibrator keeps all tensors of what it reads in one go."""

    def __init__(self, inputs: dict[str, NDArray[np.uint8]]) -> None:
        self._inputs: dict[str, NDArray[np.uint8]] | None = inputs

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        inputs, self._inputs = self._inputs, None
        return inputs


class _Watched:
    """An onnxruntime session that refuses NaN and infinity; the calibrators pass over NaN."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def run(self, names: None, inputs: Mapping[str, NDArray[np.uint8]]) -> list[Any]:
        values: list[Any] = self._session.run(names, inputs)
        for output, value in zip(self.get_outputs(), values, strict=True):
            if output.name.startswith(_SUM) and not np.isfinite(value):
                raise InputError(
                    f"the tensor {output.name[len(_SUM) :]} is not finite on the calibration pictures: the "
                    "network overflows or has a NaN weight, train or export it again"
                )
        return values


def _put_out_sums(trunk: onnx.ModelProto, tensors: tuple[str, ...]) -> None:
    """Replaces the outputs of a trunk by the sum of each watched tensor: not finite where a value is not."""
    graph = trunk.graph
    del graph.output[:]
    for name in tensors:
        graph.node.append(helper.make_node("ReduceSum", [name], [_SUM + name], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(_SUM + name, TensorProto.FLOAT, []))


def _size(value: onnx.ValueInfoProto) -> int:
    """Elements a picture."""
    return math.prod(max(1, size.dim_value) for size in value.type.tensor_type.shape.dim[1:])
