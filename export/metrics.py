"""What one set of labelled faces says of a model: every figure with its 95 % interval, ready for JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.stats import bootstrap, wilson

Floats = NDArray[np.float32]
F64 = NDArray[np.float64]
Labels = NDArray[np.int64]

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")
BINS = 15  # of the expected calibration error
_LEAST = float(np.finfo(np.float32).tiny)  # a probability of 0 has no logarithm


def figures(probabilities: Floats, labels: Labels) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, negative log-likelihood, Brier score, expected calibration error.

    Balanced accuracy and macro F1 are means over the classes that occur among the labels. The Brier score is
    summed over the classes, 0 ... 2 (Brier 1950). The calibration error takes 15 bins of equal width of the
    largest probability (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        probabilities: float32 [M, K], at least one row.
        labels: int64 [M], the majority's class.
    """
    values = _figures(np.ones((1, len(labels))), *_columns(probabilities, labels))
    return dict(zip(FIGURES, values[0].tolist(), strict=True))


def intervals(probabilities: Floats, labels: Labels) -> dict[str, tuple[float, float]]:
    """95 % intervals of the ``figures``: Wilson's of the accuracy, the others bootstrapped over the images.

    The calibration error's is the reflected one (basic: Davison and Hinkley 1997, section 5.2). Chance alone
    leaves gaps in the bins, and resampling adds as much again: over simulated sets of 2,870 faces with a true
    error of 2 points, percentiles held it in 77 % of the sets and the reflected ends in 85 %.
    """
    columns, classes = _columns(probabilities, labels)
    ends = bootstrap(lambda weights: _figures(weights, columns, classes), len(labels))
    result = dict(zip(FIGURES, [(low, high) for low, high in ends.T.tolist()], strict=True))
    result["accuracy"] = wilson(_right(probabilities, labels), len(labels))
    whole, (low, high) = figures(probabilities, labels)["ece"], result["ece"]
    result["ece"] = (max(0.0, 2 * whole - high), max(0.0, 2 * whole - low))
    return result


def measure(probabilities: Floats, labels: Labels, shares: Floats) -> dict[str, Any]:
    """All figures of one set of faces: ``figures`` with their intervals, agreement with the votes, each class.

    Args:
        probabilities: float32 [M, K], at least one row.
        labels: int64 [M], the majority's class.
        shares: float32 [M, K], the share of the votes each class got; rows of zeros are left aside.

    Returns:
        Per class: recall and its Wilson interval (None where it has no image), images, and the confusion matrix
        with labels in rows and answers in columns.
    """
    classes = probabilities.shape[1]
    answers = probabilities.argmax(axis=1)
    judged = shares.sum(axis=1) > 0
    confusion = np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, -1)
    counts = [(int(confusion[k, k]), int(confusion[k].sum())) for k in range(classes)]
    ends = intervals(probabilities, labels)
    return {
        "images": len(labels),
        **figures(probabilities, labels),
        **{f"{name}_interval": list(ends[name]) for name in FIGURES},
        "vote_agreement": _mean(shares[judged, answers[judged]]),
        "vote_agreement_of_majority": _mean(shares[judged].max(axis=1, initial=0)),
        "recall": [right / count if count else None for right, count in counts],
        "recall_interval": [list(wilson(*pair)) if pair[1] else None for pair in counts],
        "class_images": [count for _, count in counts],
        "confusion": confusion.tolist(),
    }


def _right(probabilities: Floats, labels: Labels) -> int:
    return int((probabilities.argmax(axis=1) == labels).sum())


def _mean(values: Floats) -> float | None:
    return float(values.mean(dtype=float)) if len(values) else None


def _columns(probabilities: Floats, labels: Labels) -> tuple[F64, int]:
    """What is summed over the images, [M, K * K + 2 + 15], and K: their confusion, NLL, Brier score, gap by bin."""
    count, classes = probabilities.shape
    exact = probabilities.astype(np.float64)
    rows, answers = np.arange(count), exact.argmax(axis=1)
    sure = exact[rows, answers]
    columns = np.zeros((count, classes**2 + 2 + BINS))
    columns[rows, labels * classes + answers] = 1
    columns[:, classes**2] = -np.log(np.maximum(exact[rows, labels], _LEAST))
    columns[:, classes**2 + 1] = ((exact - np.eye(classes)[labels]) ** 2).sum(axis=1)
    bins = np.minimum((sure * BINS).astype(np.intp), BINS - 1)
    columns[rows, classes**2 + 2 + bins] = sure - (answers == labels)
    return columns, classes


def _figures(weights: F64, columns: F64, classes: int) -> F64:
    """The figures [R, 6] of R weightings [R, M] of the images."""
    images = weights.sum(axis=1)
    sums = weights @ columns
    confusion = sums[:, : classes**2].reshape(-1, classes, classes)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    labelled, answered = confusion.sum(axis=2), confusion.sum(axis=1)
    present = labelled > 0
    recall = right / np.where(present, labelled, 1)
    f1 = np.where(present, 2 * right / np.where(present, labelled + answered, 1), 0)
    gaps = np.abs(sums[:, classes**2 + 2 :]).sum(axis=1)
    return np.stack(
        [
            right.sum(axis=1) / images,
            recall.sum(axis=1) / present.sum(axis=1),
            f1.sum(axis=1) / present.sum(axis=1),
            sums[:, classes**2] / images,
            sums[:, classes**2 + 1] / images,
            gaps / images,
        ],
        axis=1,
    )
