"""Does the order of the test set change the answers? The same weights on single, sorted and shuffled faces.

The paper's released code attends across the batch and is evaluated on batches of 32 that hold one class each: a
face is then answered by its neighbours, who have the same label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.datasets import Dataset
from convcut_trt.stats import wilson
from export.classifier import Classifier, predict

BATCH = 32
# Batches of another size are summed in another order: single precision's rounding, times a steep softmax.
ROUNDING = 1e-3


def visits(labels: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.intp]]:
    """The orders to ask for faces with these labels in batches: ``sorted`` by class, and ``shuffled``."""
    return {
        "sorted": np.argsort(labels, kind="stable"),
        "shuffled": np.random.default_rng(seed).permutation(len(labels)),
    }


def batch_order(model: Classifier, dataset: Dataset, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Accuracy of the labelled images ``rows`` one at a time, and in batches of 32 sorted by class and shuffled.

    Returns:
        For each order the accuracy with Wilson's interval; how many labels differ from the single faces', and the
        largest difference of a probability. ``independent``: no probability differs by more than rounding does.

    Raises:
        InputError: As ``predict``.
    """
    labels = dataset.labels[rows]
    given = {"single": predict(model, dataset, rows, batch=1).probabilities}
    for name, visit in visits(labels, 0).items():
        answers = predict(model, dataset, rows[visit], batch=BATCH).probabilities
        given[name] = np.empty_like(answers)
        given[name][visit] = answers
    orders: dict[str, dict[str, Any]] = {}
    for name, answers in given.items():
        right = int((answers.argmax(axis=1) == labels).sum())
        orders[name] = {
            "accuracy": right / len(rows),
            "accuracy_interval": list(wilson(right, len(rows))),
            "changed_labels": int((answers.argmax(axis=1) != given["single"].argmax(axis=1)).sum()),
            "largest_difference": float(np.abs(answers - given["single"]).max()),
        }
    return {
        "images": len(rows),
        "batch": BATCH,
        "orders": orders,
        "independent": all(entry["largest_difference"] <= ROUNDING for entry in orders.values()),
    }
