"""The gates between a built engine and its publication: each measures one thing and holds it to a budget.

Loss compares the typed ONNX with ``NAME.onnx``, both on onnxruntime's CPU: is this precision acceptable for
this network? Fidelity compares the engine with its own typed ONNX: did the builder do its job? The budgets
have two to five times the headroom of what honest engines measured, and fail what broken ones measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Session
from convcut_trt.errors import InputError
from convcut_trt.spec import OUTPUTS, ModelSpec

if TYPE_CHECKING:
    import onnx

F32 = NDArray[np.float32]
Step = Callable[[str, int, int], None]

INVARIANCE_FACES = 64
_RANGE = "largest "

BUDGETS: Mapping[str, Mapping[str, float]] = {
    "fp32": {
        "witnesses": 1e-4,
        "loss_median": 1e-5,
        "loss_p99": 1e-4,
        "flip_margin": 1e-4,
        "invariance": 1e-5,
        "largest_activation": 16384.0,
    },
    "fp16": {
        "witnesses": 1e-2,
        "loss_median": 3e-3,
        "loss_p99": 5e-3,
        "flip_margin": 0.02,
        "invariance": 1e-2,
        "largest_activation": 16384.0,
        "stored": 0.95,
        "computed": 0.95,
    },
}


@dataclass(frozen=True)
class Gate:
    """One check: what was measured, what was allowed, and the verdict (``pass``, ``fail`` or ``not run``)."""

    name: str
    value: float | None
    budget: float | None
    verdict: str
    detail: str = ""


@dataclass(frozen=True)
class Reference:
    """What ``NAME.onnx`` answers on the gate pictures.

    Attributes:
        answers: ``logits`` [N, K], ``probabilities`` [N, K] and ``map`` [N, C, P, P].
        largest: Largest magnitude of each intermediate tensor.
    """

    answers: Mapping[str, F32]
    largest: Mapping[str, float]


def budgets(precision: str, changes: Mapping[str, float] | None = None) -> dict[str, float]:
    """The budgets of a precision, with the user's changes.

    Raises:
        InputError: An unknown key, or a value that is no positive number.
    """
    known = dict(BUDGETS[precision])
    for key, value in (changes or {}).items():
        if key not in known:
            raise InputError(
                f"--budget {key} is not known for {precision}: choose from {', '.join(known)}"
            )
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"--budget {key}={value}: give a positive number")
        known[key] = value
    return known


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


def reference(model: onnx.ModelProto, faces: NDArray[np.uint8], step: Step) -> Reference:
    """Runs ``NAME.onnx`` on onnxruntime's CPU, watching every intermediate tensor.

    Args:
        model: The FP32 model.
        faces: uint8 [N, S, S, 3].
        step: Called as ``step(phase, done, total)``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(
        with_ranges(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    parts: dict[str, list[F32]] = {name: [] for name in OUTPUTS}
    largest: dict[str, float] = {}
    image = session.get_inputs()[0]
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None
    # Every tensor is kept until the run ends: the larger the picture, the smaller the batch.
    usual = min(16, max(1, 2**16 // faces.shape[1] ** 2))
    for part in _parts(faces, fixed or usual, "reference", step):
        padded = _padded(part, fixed or 1)
        values = dict(zip(names, session.run(names, {image.name: padded}), strict=True))
        for name in OUTPUTS:
            parts[name].append(values[name][: len(part)])
        for name, value in values.items():
            if name.startswith(_RANGE):
                tensor = name[len(_RANGE) :]
                # np.maximum passes a NaN on, where max() may lose it
                largest[tensor] = float(np.maximum(largest.get(tensor, 0.0), value))
    return Reference({name: np.concatenate(values) for name, values in parts.items()}, largest)


def answers(
    session: Session, faces: NDArray[np.uint8], batch: tuple[int, int, int], phase: str, step: Step
) -> dict[str, F32]:
    """What an engine answers on faces uint8 [N, S, S, 3], in batches that its profile allows."""
    low, usual, _ = batch
    results: dict[str, list[F32]] = {name: [] for name in OUTPUTS}
    for part in _parts(faces, usual, phase, step):
        for name, values in session.run(_padded(part, low)).items():
            results[name].append(values[: len(part)])
    return {name: np.concatenate(values) for name, values in results.items()}


def check_witnesses(
    session: Session,
    spec: ModelSpec,
    folder: Path,
    batch: tuple[int, int, int],
    limit: float,
    step: Step,
) -> Gate:
    """Replays the witnesses through the whole path: decode, crop, resize, engine."""
    faces, expected = spec.witness_faces(folder)
    given = answers(session, faces, batch, "witnesses", step)["probabilities"]
    worst = _largest(np.abs(given - expected))
    return _at_most(
        "witnesses", worst, limit, f"{len(faces)} pictures, largest probability difference"
    )


def check_loss(
    values: Mapping[str, F32], wanted: Reference, limits: Mapping[str, float]
) -> list[Gate]:
    """Relative error of the map, per image: median and 99th percentile."""
    size = len(wanted.answers["map"])
    difference = (values["map"] - wanted.answers["map"]).reshape(size, -1)
    norm = np.linalg.norm(wanted.answers["map"].reshape(size, -1), axis=1)
    errors = np.linalg.norm(difference, axis=1) / np.maximum(norm, np.finfo(np.float32).tiny)
    return [
        _at_most(
            "loss, median", float(np.median(errors)), limits["loss_median"], f"map, {size} pictures"
        ),
        _at_most(
            "loss, 99 %",
            float(np.percentile(errors, 99)),
            limits["loss_p99"],
            f"map, {size} pictures",
        ),
    ]


def check_flips(values: Mapping[str, F32], wanted: Reference, limit: float) -> Gate:
    """No label may change where FP32's top two probabilities differ by more than ``limit``."""
    before, after = wanted.answers["probabilities"], values["probabilities"]
    top = np.sort(before, axis=1)
    margins = top[:, -1] - top[:, -2]
    flipped = before.argmax(axis=1) != after.argmax(axis=1)
    worst = float(margins[flipped].max()) if flipped.any() else 0.0
    return _at_most(
        "flips",
        worst,
        limit,
        f"{int(flipped.sum())} of {len(before)} labels changed, largest margin",
    )


def check_finite(values: Mapping[str, F32], wanted: Reference, limit: float) -> list[Gate]:
    """All answers are finite, and FP32's intermediate tensors stay far from FP16's end at 65504."""
    bad = sum(int((~np.isfinite(array)).sum()) for array in values.values())
    tensor, largest = max(
        wanted.largest.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf)
    )
    return [
        _at_most("finite", float(bad), 0.0, "values that are not finite"),
        _at_most("largest activation", largest, limit, f"of FP32, at {tensor}"),
    ]


def check_invariance(
    session: Session,
    faces: NDArray[np.uint8],
    batch: tuple[int, int, int],
    limit: float,
    step: Step,
) -> Gate:
    """The same face gives the same probabilities alone and in a crowd, beside others and near-copies."""
    faces = faces[: min(INVARIANCE_FACES, max(1, len(faces) // 2))]
    random = np.random.default_rng(0)
    noise = random.integers(-1, 2, faces[: max(1, len(faces) // 4)].shape)
    copies = np.clip(faces[: len(noise)] + noise, 0, 255).astype(np.uint8)
    crowd = np.concatenate([faces, copies])
    low, _, high = batch
    sizes = sorted({min(max(size, low), high) for size in (1, 2, 3, high)} - {1})
    alone = answers(session, faces, (low, low, low), "invariance, alone", step)["probabilities"]
    worst = 0.0
    for size in sizes:
        visit = random.permutation(len(crowd))
        visit = np.concatenate([visit, visit[: -len(visit) % size]])  # full batches
        given = answers(
            session, crowd[visit], (size, size, size), f"invariance, batches of {size}", step
        )
        own = visit < len(faces)
        worst = max(worst, _largest(np.abs(given["probabilities"][own] - alone[visit[own]])))
    described = f"{len(faces)} faces in batches of {', '.join(map(str, sizes or [1]))}"
    return _at_most("batch invariance", worst, limit, described)


def check_precision(
    asked: str,
    stored: Mapping[str, float],
    computed: Mapping[str, float],
    on_cpu: bool,
    limits: Mapping[str, float],
) -> list[Gate]:
    """Share of weight bytes stored, and of multiply-adds computed, in the type that was asked for.

    ``stored`` is of the trunk: the tail is FP32 in every precision, and a small network's is no small part.
    onnxruntime's CPU stores FP16 and computes FP32: there only what is stored is held to the budget.
    """
    if "stored" not in limits:
        return []
    gates = [_at_least("stored", stored.get(asked, 0.0), limits["stored"], _shares(stored))]
    share = computed.get(asked, 0.0)
    if on_cpu and share < limits["computed"]:
        detail = f"{_shares(computed)}: a CPU computes {asked} in fp32"
        return [*gates, Gate("computed", share, None, "not run", detail)]
    return [*gates, _at_least("computed", share, limits["computed"], _shares(computed))]


def table(gates: Sequence[Gate]) -> str:
    """The gates as text, one a line."""
    rows = [("gate", "measured", "budget", "verdict", "")]
    for gate in gates:
        value = "-" if gate.value is None else f"{gate.value:.2g}"
        budget = "-" if gate.budget is None else f"{gate.budget:.2g}"
        rows.append((gate.name, value, budget, gate.verdict, gate.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
        ).rstrip()
        for row in rows
    )


def _parts(
    faces: NDArray[np.uint8], size: int, phase: str, step: Step
) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(faces), size):
        step(phase, start, len(faces))
        yield faces[start : start + size]
    step(phase, len(faces), len(faces))


def _padded(faces: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The faces, the last one repeated until there are ``size``."""
    return np.concatenate([faces, np.repeat(faces[-1:], max(0, size - len(faces)), 0)])


def _largest(values: NDArray[np.floating]) -> float:
    return float(np.nan_to_num(values, nan=np.inf).max(initial=0.0))


def _at_most(name: str, value: float, budget: float, detail: str) -> Gate:
    # A NaN compares false, and so fails.
    return Gate(name, value, budget, "pass" if value <= budget else "fail", detail)


def _at_least(name: str, value: float, budget: float, detail: str) -> Gate:
    return Gate(name, value, budget, "pass" if value >= budget else "fail", detail)


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
