"""The likeliest cause of a failed gate: the first tensor at which the features of two graphs part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt import seam
from convcut_trt.optional import load
from convcut_trt.spec import INPUT, OUTPUTS

if TYPE_CHECKING:
    import onnx

MOST_FACES = 16
_AT_ONCE = 16  # tensors
_BATCH = 4  # more than one face, as they may leak into each other
_END = OUTPUTS[1]


@dataclass(frozen=True)
class Parting:
    """Where the features of two graphs part.

    Attributes:
        tensor: The first tensor, as ``NAME.onnx`` names it, whose relative error exceeds the limit.
        kind: Operator type of the node of ``NAME.onnx`` that computes it. Where that node only turns a tensor
            that the other graph lacks, the one in front of it.
        node: That node's name.
        error: Median over the images of ||a - b|| / ||a|| there; inf where a value is not finite.
        before: The same at the last tensor in front of it that both graphs have; 0 where there is none.
    """

    tensor: str
    kind: str
    node: str
    error: float
    before: float

    def __str__(self) -> str:
        place = self.node or self.tensor
        return (
            f"features part at {place} ({self.kind}): error {self.error:.2g}, "
            f"{self.before:.2g} in front of it"
        )


def first_parting(
    original: onnx.ModelProto, typed: onnx.ModelProto, faces: NDArray[np.uint8], limit: float
) -> Parting | None:
    """Finds the first tensor at which a graph departs from the one that it was made from.

    Bisection runs over the main points, the tensors that every path from the faces to the probabilities goes
    through: a branch of a residual block may err more than what it is added to, in a sound graph as well. Then
    every tensor of the stretch that it ends at is compared. Where map, logits and probabilities are all within
    the limit, every tensor is, as a shortcut dilutes what a branch does.

    Args:
        original: The FP32 ``NAME.onnx``.
        typed: A graph that onnxruntime's CPU runs, with the same names for the same tensors: of ``half``,
            ``int8`` or ``linear``, its tail's with ``seam.TAIL_PREFIX`` or without. Tensors of only one graph are
            left out. Where one is [N, H, W, C] and the other [N, C, H, W] they are compared in one layout; of
            other differing shapes the error is inf.
        faces: uint8 [N, S, S, 3], of which the first ``MOST_FACES`` count: best those that lost most.
        limit: Largest relative error that is no parting, for example the budget of the loss.

    Returns:
        The parting; None where no tensor of both graphs exceeds the limit: the failure lies elsewhere.

    Raises:
        BackendMissing: onnx or onnxruntime is not installed.
    """
    pair = _Pair(original, typed, faces[:MOST_FACES])
    way = _way(original.graph)
    common = [name for name in way if name in pair.twins]
    points = [name for name in _main_points(original.graph, way) if name in pair.twins]
    names = _stretch(pair, common, points, limit) or common
    before = 0.0
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        for name, error in zip(part, pair.errors(part), strict=True):
            if error > limit:
                node = _source(way, pair.twins, name)
                return Parting(name, node.op_type, node.name, error, before)
            before = error
    return None


class _Pair:
    """Two graphs, side by side.

    ``twins`` holds the name in the second graph of each tensor of the first that both compute.
    """

    def __init__(
        self, original: onnx.ModelProto, typed: onnx.ModelProto, faces: NDArray[np.uint8]
    ) -> None:
        load("onnx", "ort")  # names the extra where it is missing
        from onnx import shape_inference, utils

        # The extractor takes the types of its new outputs from what was inferred.
        self._sides = [
            utils.Extractor(shape_inference.infer_shapes(model)) for model in (original, typed)
        ]
        made = {name for node in typed.graph.node for name in node.output}
        names = {name for node in original.graph.node for name in node.output}
        self.twins = {
            name: twin for name in names for twin in (name, seam.TAIL_PREFIX + name) if twin in made
        }
        self._faces = faces
        self._fixed = original.graph.input[0].type.tensor_type.shape.dim[0].dim_value

    def errors(self, names: Sequence[str]) -> list[float]:
        """The error of each of these tensors of the first graph: a median over the faces."""
        wanted = self._open(0, names)
        given = self._open(1, [self.twins[name] for name in names])
        found = []
        size = self._fixed or _BATCH
        for start in range(0, len(self._faces), size):
            part = self._faces[start : start + size]
            missing = self._fixed - len(part)
            batch = np.concatenate([part, np.repeat(part[-1:], max(0, missing), 0)])
            pairs = zip(wanted(batch), given(batch), strict=True)
            found.append([_error(one, other)[: len(part)] for one, other in pairs])
        # A value that is not finite parts, however few images have one.
        every = np.concatenate(found, axis=1)
        medians = np.where(np.isinf(every).any(axis=1), np.inf, np.median(every, axis=1))
        return [float(value) for value in medians]

    def _open(self, side: int, names: Sequence[str]) -> Any:
        onnxruntime = load("onnxruntime", "ort")
        options = onnxruntime.SessionOptions()
        # As it is written: a fused node computes other tensors, and in another order.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.use_deterministic_compute = True
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        part = self._sides[side].extract_model([INPUT], list(names))
        session = onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda faces: session.run(list(names), {INPUT: faces})


def _stretch(
    pair: _Pair, common: Sequence[str], points: Sequence[str], limit: float
) -> Sequence[str]:
    """The tensors from a main point within the limit to the next one, which is not; empty where all ends are."""
    low, high = -1, None
    ends = [place for place, name in enumerate(points) if name in OUTPUTS]
    for end, error in zip(ends, pair.errors([points[end] for end in ends]), strict=True):
        if error > limit:
            high = end
            break
        low = end
    if high is None:
        return []
    while high - low > 1:
        middle = (low + high) // 2
        if pair.errors([points[middle]])[0] > limit:
            high = middle
        else:
            low = middle
    start = common.index(points[low]) if low >= 0 else 0
    return common[start : common.index(points[high]) + 1]


def _source(
    way: Mapping[str, onnx.NodeProto], twins: Mapping[str, str], name: str
) -> onnx.NodeProto:
    """The node that computes a tensor, or the one in front whose result the other graph lacks."""
    node = way[name]
    while True:
        lacking = [source for source in node.input if source in way and source not in twins]
        if not lacking:
            return node
        node = way[lacking[0]]


def _way(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor -> the node that computes it, for all on a path from the faces to the probabilities, in order."""
    reached, needed = {INPUT}, {_END}
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    on_it = reached & needed
    return {name: node for node in graph.node for name in node.output if name in on_it}


def _main_points(graph: onnx.GraphProto, way: Mapping[str, onnx.NodeProto]) -> list[str]:
    """The tensors that every path goes through: nothing made in front of them is read behind their node."""
    last_read: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        if any(name in way for name in node.output):
            last_read.update(dict.fromkeys(node.input, place))
    furthest = last_read[INPUT]
    points = []
    for place, node in enumerate(graph.node):
        made = [name for name in node.output if name in way]
        if len(made) == 1 and furthest <= place:
            points += made
        furthest = max([furthest, *(last_read.get(name, place) for name in made)])
    return points


def _error(wanted: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float64]:
    """Relative error of each image, [N]: of the layout that fits better, where both layouts fit."""
    forms = [given, *([given.transpose(0, 3, 1, 2)] if given.ndim == 4 else [])]
    least: NDArray[np.float64] = np.full(len(wanted), np.inf)
    for form in forms:
        if form.shape == wanted.shape:
            one = wanted.reshape(len(wanted), -1).astype(np.float64)
            other = form.reshape(len(form), -1).astype(np.float64)
            norm = np.maximum(np.linalg.norm(one, axis=1), np.finfo(np.float32).tiny)
            with np.errstate(invalid="ignore"):  # what is not finite gives inf or NaN here
                errors = np.linalg.norm(one - other, axis=1) / norm
            least = np.fmin(least, errors)
    return least
