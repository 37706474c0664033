"""What a network, and what an engine, answers on the faces that the gates look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Runnable
from convcut_trt.backends.onnxruntime import refusal
from convcut_trt.errors import InputError
from convcut_trt.gates import Step
from convcut_trt.optional import load
from convcut_trt.spec import OUTPUTS

if TYPE_CHECKING:
    import onnx

F32 = NDArray[np.float32]
Faces = NDArray[np.uint8]
_RANGE = "largest "


@dataclass(frozen=True)
class Reference:
    """What ``NAME.onnx`` answers on the gate pictures.

    Attributes:
        answers: ``logits`` [N, K], ``probabilities`` [N, K] and ``map`` [N, C, P, P].
        largest: Largest magnitude of each intermediate tensor.
    """

    answers: Mapping[str, F32]
    largest: Mapping[str, float]


def with_ranges(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an FP32 model that also puts out the largest magnitude of every float tensor."""
    import onnx
    from onnx import helper

    inferred = onnx.shape_inference.infer_shapes(model)
    floats = [
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    graph = inferred.graph
    for name in floats:
        graph.node.append(helper.make_node("Abs", [name], [f"abs {name}"]))
        graph.node.append(
            helper.make_node("ReduceMax", [f"abs {name}"], [_RANGE + name], keepdims=0)
        )
        graph.output.append(
            helper.make_tensor_value_info(_RANGE + name, onnx.TensorProto.FLOAT, [])
        )
    return inferred


def reference(model: onnx.ModelProto, faces: Faces, step: Step) -> Reference:
    """Runs ``NAME.onnx`` on onnxruntime's CPU, watching every intermediate tensor.

    Args:
        model: The FP32 model.
        faces: uint8 [N, S, S, 3].
        step: Called as ``step(phase, done, total)``.

    Raises:
        InputError: onnxruntime refuses the model.
    """
    onnxruntime = load("onnxruntime", "ort")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    watched = with_ranges(model).SerializeToString()
    with refusal(onnxruntime, "the model", InputError):
        session = onnxruntime.InferenceSession(watched, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    parts: dict[str, list[F32]] = {name: [] for name in OUTPUTS}
    largest: dict[str, float] = {}
    image = session.get_inputs()[0]
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None
    # Every tensor is kept until the run ends: the larger the picture, the smaller the batch.
    usual = min(16, max(1, 2**16 // faces.shape[1] ** 2))
    for part in _parts(faces, fixed or usual, "reference", step):
        padded = _padded(part, fixed or 1)
        with refusal(onnxruntime, "the model", InputError):
            found = session.run(names, {image.name: padded})
        values = dict(zip(names, found, strict=True))
        for name in OUTPUTS:
            parts[name].append(values[name][: len(part)])
        for name, value in values.items():
            if name.startswith(_RANGE):
                tensor = name[len(_RANGE) :]
                # np.maximum passes a NaN on, where max() may lose it
                largest[tensor] = float(np.maximum(largest.get(tensor, 0.0), value))
    return Reference({name: np.concatenate(values) for name, values in parts.items()}, largest)


def answers(
    session: Runnable, faces: Faces, batch: tuple[int, int, int], phase: str, step: Step
) -> dict[str, F32]:
    """What an engine answers on faces uint8 [N, S, S, 3], in batches of the usual size."""
    results: dict[str, list[F32]] = {name: [] for name in OUTPUTS}
    for part in _parts(faces, batch[1], phase, step):
        for name, values in session.run(part).items():
            results[name].append(values)
    return {name: np.concatenate(values) for name, values in results.items()}


def _parts(faces: Faces, size: int, phase: str, step: Step) -> Iterator[Faces]:
    """The faces, ``size`` at a time, with the progress told."""
    for start in range(0, len(faces), size):
        step(phase, start, len(faces))
        yield faces[start : start + size]
    step(phase, len(faces), len(faces))


def _padded(faces: Faces, size: int) -> Faces:
    """The faces, the last one repeated until there are ``size``."""
    return np.concatenate([faces, np.repeat(faces[-1:], max(0, size - len(faces)), 0)])
