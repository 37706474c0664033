"""Gates on answers alone: is the precision acceptable, did the builder do its job, do neighbours matter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Runnable
from convcut_trt.gates import Gate, Step, at_least, at_most
from convcut_trt.gates.answers import F32, Faces, answers
from convcut_trt.spec import ModelSpec

INVARIANCE_FACES = 64
AGREEMENT_FACES = 256


def check_witnesses(
    session: Runnable,
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
    return at_most(
        "witnesses", worst, limit, f"{len(faces)} pictures, largest probability difference"
    )


def check_loss(
    typed: Mapping[str, F32], wanted: Mapping[str, F32], limits: Mapping[str, float]
) -> list[Gate]:
    """Typed ONNX against ``NAME.onnx``: relative error of the map, per image, median and 99th percentile."""
    return _check_maps("loss", typed["map"], wanted["map"], limits)


def check_fidelity(
    engine: Mapping[str, F32], typed: Mapping[str, F32], limits: Mapping[str, float]
) -> list[Gate]:
    """Engine against its own typed ONNX as written: the same two figures."""
    return _check_maps("fidelity", engine["map"], typed["map"], limits)


def check_flips(values: Mapping[str, F32], wanted: Mapping[str, F32], limit: float) -> Gate:
    """No label may change where FP32's top two probabilities differ by more than ``limit``."""
    before = wanted["probabilities"]
    top = np.sort(before, axis=1)
    margins = top[:, -1] - top[:, -2]
    flipped = _labels(values) != _labels(wanted)
    worst = float(margins[flipped].max()) if flipped.any() else 0.0
    return at_most(
        "flips",
        worst,
        limit,
        f"{int(flipped.sum())} of {len(before)} labels changed, largest margin",
    )


def check_agreement(values: Mapping[str, F32], wanted: Mapping[str, F32], limit: float) -> Gate:
    """Share of the faces that get the label FP32 gives them; not shown with under ``AGREEMENT_FACES``."""
    same = _labels(values) == _labels(wanted)
    share, described = float(same.mean()), f"{int(same.sum())} of {len(same)} labels"
    if len(same) < AGREEMENT_FACES:
        detail = f"{described}; {AGREEMENT_FACES} faces would show it"
        return Gate("agreement", share, limit, "not shown", detail)
    return at_least("agreement", share, limit, described)


def check_finite(
    values: Mapping[str, F32], largest: Mapping[str, float], limit: float
) -> list[Gate]:
    """All answers are finite, and FP32's intermediate tensors stay far from FP16's end at 65504."""
    bad = sum(int((~np.isfinite(array)).sum()) for array in values.values())
    tensor, worst = max(largest.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
    return [
        at_most("finite", float(bad), 0.0, "values that are not finite"),
        at_most("largest activation", worst, limit, f"of FP32, at {tensor}"),
    ]


def check_invariance(
    session: Runnable,
    faces: Faces,
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
    alone = answers(session, faces, (1, 1, 1), "invariance, alone", step)["probabilities"]
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
    return at_most("batch invariance", worst, limit, described)


def relative_errors(given: F32, wanted: F32) -> F32:
    """Of maps [N, C, P, P], one for each image: ||given - wanted|| / ||wanted||, float32 [N]."""
    size = len(wanted)
    difference = (given - wanted).reshape(size, -1)
    norm = np.linalg.norm(wanted.reshape(size, -1), axis=1)
    errors: F32 = np.linalg.norm(difference, axis=1) / np.maximum(norm, np.finfo(np.float32).tiny)
    return errors


def _check_maps(name: str, given: F32, wanted: F32, limits: Mapping[str, float]) -> list[Gate]:
    errors = relative_errors(given, wanted)
    detail = f"map, {len(wanted)} pictures"
    median, p99 = float(np.median(errors)), float(np.percentile(errors, 99))
    return [
        at_most(f"{name}, median", median, limits[f"{name}_median"], detail),
        at_most(f"{name}, 99 %", p99, limits[f"{name}_p99"], detail),
    ]


def _labels(values: Mapping[str, F32]) -> NDArray[np.intp]:
    labels: NDArray[np.intp] = values["probabilities"].argmax(axis=1)
    return labels


def _largest(values: NDArray[np.floating]) -> float:
    return float(np.nan_to_num(values, nan=np.inf).max(initial=0.0))
