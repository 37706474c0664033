"""Gates on labelled faces: what a precision does to accuracy, to single classes, and to probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convcut_trt.gates import Gate, at_most
from convcut_trt.gates.answers import F32
from convcut_trt.stats import PairedChange, calibration_error, non_inferiority

Labels = NDArray[np.int64]
CLASS_IMAGES = 100  # under which the change of a class is told as counts only


def check_labelled(
    values: F32,
    wanted: F32,
    labels: Labels | None,
    classes: Sequence[str],
    limits: Mapping[str, float],
) -> list[Gate]:
    """Accuracy, classes and calibration, engine against ``NAME.onnx``.

    Args:
        values: Probabilities of the engine, float32 [N, K].
        wanted: Probabilities of ``NAME.onnx``, float32 [N, K].
        labels: int64 [N] in 0 ... K - 1; None where the faces have none.
        classes: The K names.
        limits: Budgets; FP32 has none of these.

    Returns:
        ``accuracy``, ``classes`` and ``calibration``; nothing where there are no limits.
    """
    if "accuracy_loss" not in limits:
        return []
    if labels is None:
        reason = "the faces have no labels: --data FACES with labels measures it"
        return [
            Gate(name, None, None, "not run", reason)
            for name in ("accuracy", "classes", "calibration")
        ]
    before, after = wanted.argmax(axis=1) == labels, values.argmax(axis=1) == labels
    drift = abs(calibration_error(values, labels) - calibration_error(wanted, labels))
    limit = limits["calibration_drift"]
    return [
        _accuracy(before, after, limits["accuracy_loss"]),
        _classes(before, after, labels, classes, limits["class_loss"]),
        at_most(
            "calibration", drift, limit, f"change of the calibration error, {len(labels)} faces"
        ),
    ]


def _accuracy(before: NDArray[np.bool_], after: NDArray[np.bool_], allowed: float) -> Gate:
    change = _paired(before, after, allowed)
    detail = (
        f"{before.mean():.2%} to {after.mean():.2%} of {change.images}, {change.lost} lost, "
        f"{change.gained} gained; lower bound of the change"
    )
    if change.verdict == "not shown" and change.images_needed is not None:
        detail += f"; {change.images_needed} faces would show it"
    return Gate("accuracy", change.lower, -allowed, change.verdict, detail)


def _classes(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    labels: Labels,
    classes: Sequence[str],
    allowed: float,
) -> Gate:
    """Fails where a class is shown to lose more than is allowed: the upper bound of its change lies below.

    With eight classes of a hundred faces one of them loses a point by chance: the estimate does not decide.
    """
    measured: dict[str, PairedChange] = {}
    counted = []
    for code, name in enumerate(classes):
        own = labels == code
        if not own.any():
            continue
        change = _paired(before[own], after[own], allowed)
        if change.images >= CLASS_IMAGES:
            measured[name] = change
        elif change.lost or change.gained:
            counted.append(f"{name} {change.gained - change.lost:+d} of {change.images}")
    small = f"; under {CLASS_IMAGES} faces: {', '.join(counted)}" if counted else ""
    if not measured:
        return Gate("classes", None, -allowed, "not shown", f"none has {CLASS_IMAGES} faces{small}")
    upper = {
        name: -_paired(after[labels == code], before[labels == code], allowed).lower
        for code, name in enumerate(classes)
        if name in measured
    }
    worst = min(measured, key=lambda name: measured[name].change)
    shown = measured[worst]
    if min(upper.values()) < -allowed:
        verdict = "fail"
        worst = min(upper, key=lambda name: upper[name])
        shown = measured[worst]
    else:
        every = all(change.lower >= -allowed for change in measured.values())
        verdict = "pass" if every else "not shown"
    detail = f"worst: {worst}, {shown.lost} lost and {shown.gained} gained of {shown.images}{small}"
    return Gate("classes", shown.change, -allowed, verdict, detail)


def _paired(before: NDArray[np.bool_], after: NDArray[np.bool_], allowed: float) -> PairedChange:
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    return non_inferiority(lost, gained, len(before), -allowed)
