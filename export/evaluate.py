"""Accuracy and its company on labelled faces, of a checkpoint in torch or of its exported ONNX.

``convcut-trt evaluate runs/conv-cut-mini/model.safetensors --data ferplus.npz`` reports every number twice:
on the official split, and on the clean one, without the images that also occur in an earlier split; and the
accuracy on the strict one, which leaves out near duplicates of earlier images, too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from convcut_trt.datasets import SPLITS, Dataset
from convcut_trt.errors import InputError
from convcut_trt.fields import sha256
from convcut_trt.stats import wilson
from export.batch_order import batch_order
from export.calibration import MINIMUM_ANSWERS, check_wanted, choose_threshold, curve, selective
from export.classifier import Classifier, Floats, open_classifier, predict
from export.data import DATA_HELP, hold_out, open_faces
from export.evaluation_text import text
from export.metrics import figures, measure
from export.robustness import robustness


def evaluate(
    path: Path,
    data: str,
    split: str = "test",
    *,
    wanted: float | None = None,
    distorted: bool = False,
    orders: bool = False,
    skip_corrupt: bool = False,
) -> dict[str, Any]:
    """Measures a model on a split of labelled faces, as it is and without duplicates of earlier splits.

    Args:
        path: ``model.safetensors`` or ``NAME.onnx``.
        data: What ``open_faces`` opens.
        split: 'train', 'validation' or 'test'; where validation is needed and the data has none, the
            training pictures that ``train`` holds out are it.
        wanted: Accuracy to reach by withholding unsure answers; the threshold is chosen on clean validation.
        distorted: Adds ``robustness``, on the clean set.
        orders: Adds ``batch_order``, on the clean set.
        skip_corrupt: Leaves out pictures that cannot be read, and lists them.

    Raises:
        InputError: Model or data cannot be used, or do not fit each other.
    """
    if wanted is not None:
        check_wanted(wanted)
        if split == "validation":
            raise InputError(
                "--selective chooses its threshold on validation: evaluate another split"
            )
    model = open_classifier(path)
    dataset = open_faces(data, skip_corrupt=skip_corrupt)
    if (split == "validation" or wanted is not None) and len(dataset.subset("train")):
        dataset = hold_out(dataset)
    rows, clean = _rows(dataset, split)
    answers = predict(model, dataset, rows)
    untempered = softmax(answers.logits, axis=1)
    report: dict[str, Any] = {
        "schema": 1,
        "model": str(path),
        "sha256": sha256(path),
        "data": dataset.name,
        "skipped": list(dataset.skipped),
        "split": split,
        "classes": list(dataset.classes),
        "temperature": model.temperature,
    }
    sets = {}
    for name, kept in (("official", np.ones_like(clean)), ("clean", clean)):
        probabilities, labels = answers.probabilities[kept], dataset.labels[rows[kept]]
        before, trade = figures(untempered[kept], labels), curve(probabilities, labels)
        sets[name] = probabilities, labels
        report[name] = {
            **measure(probabilities, labels, dataset.shares[rows[kept]]),
            "before_temperature": {key: before[key] for key in ("nll", "brier", "ece")},
            "risk_coverage": {"area": trade.area, "curve": trade.points()},
        }
    strict = np.isin(rows, dataset.subset(split, strict=True))
    report["strict"] = _strict(answers.probabilities[strict], dataset.labels[rows[strict]])
    if wanted is not None:
        report["selective"] = _selective(model, dataset, wanted, sets)
    if distorted:
        report["robustness"] = robustness(model, dataset, rows[clean], report["clean"]["accuracy"])
    if orders:
        report["batch_order"] = batch_order(model, dataset, rows[clean])
    return report


def _rows(dataset: Dataset, split: str) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Positions of a split's labelled images, and which of them are clean."""
    rows = dataset.subset(split)
    if not len(rows):
        counts = ", ".join(f"{name} {len(dataset.subset(name)):,}" for name in SPLITS)
        raise InputError(
            f"{dataset.name} has no labelled {split} faces ({counts}): choose another split"
        )
    clean = np.isin(rows, dataset.subset(split, clean=True))
    if not clean.any():
        raise InputError(
            f"every {split} face of {dataset.name} also occurs in an earlier split: give data with faces of its own"
        )
    return rows, clean


def _strict(probabilities: Floats, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy with Wilson's interval; None where no face is left."""
    images = len(labels)
    right = int((probabilities.argmax(axis=1) == labels).sum())
    return {
        "images": images,
        "accuracy": right / images if images else None,
        "accuracy_interval": list(wilson(right, images)) if images else None,
    }


def _selective(
    model: Classifier,
    dataset: Dataset,
    wanted: float,
    sets: Mapping[str, tuple[Floats, NDArray[np.int64]]],
) -> dict[str, Any]:
    """The threshold that reaches an accuracy on clean validation, and what it does there and on the sets."""
    rows, clean = _rows(dataset, "validation")
    rows = rows[clean]
    probabilities, labels = predict(model, dataset, rows).probabilities, dataset.labels[rows]
    trade = curve(probabilities, labels)
    threshold = choose_threshold(trade, wanted)
    result: dict[str, Any] = {"wanted": wanted, "threshold": threshold}
    if threshold is None:
        enough = trade.answered >= MINIMUM_ANSWERS
        best = trade.accuracy[enough].max() if enough.any() else None
        return result | {
            "validation_images": len(rows),
            "best": None if best is None else float(best),
        }
    sets = {"validation": (probabilities, labels), **sets}
    return result | {name: selective(*values, threshold) for name, values in sets.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``evaluate``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt evaluate",
        description="Measure a model on labelled faces.",
        epilog="example: convcut-trt evaluate runs/conv-cut-mini/model.safetensors --data ferplus.npz",
    )
    parser.add_argument("model", type=Path, help="model.safetensors of a run, or NAME.onnx")
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
    parser.add_argument(
        "--selective",
        type=float,
        metavar="ACCURACY",
        help="withhold unsure answers: choose the threshold that reaches this accuracy (as 0.9) on validation",
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="measure under occlusion, blur, noise, low light, rotation, low resolution: 30 times the faces",
    )
    parser.add_argument(
        "--batch-order",
        action="store_true",
        help="measure on single faces, and on batches sorted by class and shuffled",
    )
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="leave out pictures that cannot be read"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    report = evaluate(
        options.model,
        options.data,
        options.split,
        wanted=options.selective,
        distorted=options.robustness,
        orders=options.batch_order,
        skip_corrupt=options.skip_corrupt,
    )
    print(json.dumps(report) if options.json else text(report))
    return 0
