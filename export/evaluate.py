"""Accuracy and its company on labelled faces, of a checkpoint in torch or of its exported ONNX.

``convcut-trt evaluate runs/conv-cut-mini/model.safetensors --data ferplus.npz`` reports every number twice:
on the official split, and on the clean one, without the images that also occur in an earlier split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest  # type: ignore[import-untyped]
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error
from tqdm import tqdm

from convcut_trt.datasets import SPLITS, Dataset
from convcut_trt.errors import InputError
from convcut_trt.fields import sha256
from convcut_trt.home import find_model
from convcut_trt.preprocess import resize
from convcut_trt.spec import INPUT
from export.data import DATA_HELP, normalise, open_faces
from export.to_onnx import trained

Floats = NDArray[np.float32]
BINS = 15  # of the expected calibration error
_BATCH = 64


@dataclass(frozen=True)
class Classifier:
    """A model under test.

    Attributes:
        file: Where it comes from.
        classes: The K expressions, in the order of its answers.
        answer: Pictures uint8 [H, W] or [H, W, 3], of any size, to probabilities float32 [N, K].
    """

    file: Path
    classes: tuple[str, ...]
    answer: Callable[[Sequence[NDArray[np.uint8]]], Floats]


def open_classifier(path: Path) -> Classifier:
    """Opens a ``model.safetensors`` in torch, or an exported ``NAME.onnx`` in onnxruntime.

    Raises:
        InputError: Neither of the two.
        SpecError: The ONNX file has no spec, or another model's.
    """
    return _exported(path) if path.suffix == ".onnx" else _checkpoint(path)


def _checkpoint(path: Path) -> Classifier:
    model, plan, note = trained(path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    grey = len(plan.input.mean) == 1

    @torch.inference_mode()
    def answer(pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        faces = np.stack([resize(picture, plan.input.size, grey=grey) for picture in pictures])
        images = torch.from_numpy(faces).permute(0, 3, 1, 2).to(device)
        probabilities: Floats = model(normalise(images, plan.input)).softmax(dim=1).cpu().numpy()
        return probabilities

    return Classifier(path, tuple(note["classes"]), answer)


def _exported(path: Path) -> Classifier:
    model = find_model(path)
    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])

    def answer(pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        faces = np.stack([resize(picture, model.spec.size) for picture in pictures])
        probabilities: Floats = session.run(["probabilities"], {INPUT: faces})[0]
        return probabilities

    return Classifier(model.onnx, model.spec.classes, answer)


def predict(model: Classifier, dataset: Dataset, rows: NDArray[np.intp]) -> Floats:
    """Probabilities float32 [M, K] of the images ``rows``, the columns in the order of the data's classes.

    Raises:
        InputError: Model and data have different classes.
    """
    if set(model.classes) != set(dataset.classes):
        raise InputError(
            f"{model.file} tells {', '.join(model.classes)} apart, {dataset.name} is labelled "
            f"{', '.join(dataset.classes)}: give data with the classes of the model"
        )
    columns = [model.classes.index(name) for name in dataset.classes]
    parts = []
    with tqdm(total=len(rows), unit="face", file=sys.stderr, desc=model.file.name) as bar:
        for start in range(0, len(rows), _BATCH):
            pictures = [dataset.image(int(row)) for row in rows[start : start + _BATCH]]
            parts.append(model.answer(pictures)[:, columns])
            bar.update(len(pictures))
    return np.concatenate(parts)


def measure(probabilities: Floats, labels: NDArray[np.int64], shares: Floats) -> dict[str, Any]:
    """All figures of one set of faces, ready for JSON.

    Args:
        probabilities: float32 [M, K].
        labels: int64 [M], the majority's class.
        shares: float32 [M, K], the share of the votes each class got; rows of zeros are left aside.
    """
    classes = range(probabilities.shape[1])
    answers = probabilities.argmax(axis=1)
    right = int((answers == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    present = np.unique(labels)
    recall = metrics.recall_score(labels, answers, labels=classes, average=None, zero_division=0)
    judged = shares.sum(axis=1) > 0
    # In float64 the rows sum to one as closely as log_loss asks.
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=float)
    return {
        "images": len(labels),
        "accuracy": right / len(labels),
        "accuracy_interval": [interval.low, interval.high],
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(
            metrics.f1_score(labels, answers, labels=present, average="macro", zero_division=0)
        ),
        "nll": float(metrics.log_loss(labels, exact, labels=classes)),
        "ece": float(
            multiclass_calibration_error(
                torch.from_numpy(probabilities), torch.from_numpy(labels), len(classes), n_bins=BINS
            )
        ),
        "vote_agreement": float(shares[judged, answers[judged]].mean()),
        "vote_agreement_of_majority": float(shares[judged].max(axis=1).mean()),
        "recall": [float(recall[k]) if k in present else None for k in classes],
        "class_images": np.bincount(labels, minlength=len(classes)).tolist(),
        "confusion": metrics.confusion_matrix(labels, answers, labels=classes).tolist(),
    }


def evaluate(path: Path, data: str, split: str = "test") -> dict[str, Any]:
    """Measures a model on a split of labelled faces, as it is and without duplicates of earlier splits.

    Raises:
        InputError: Model or data cannot be used, or do not fit each other.
    """
    model = open_classifier(path)
    dataset = open_faces(data)
    rows = dataset.subset(split)
    clean = np.isin(rows, dataset.subset(split, clean=True))
    if not clean.any():
        raise InputError(f"{dataset.name} has no labelled {split} faces: choose another --split")
    probabilities = predict(model, dataset, rows)
    sets = {
        name: measure(probabilities[kept], dataset.labels[rows[kept]], dataset.shares[rows[kept]])
        for name, kept in (("official", np.ones_like(clean)), ("clean", clean))
    }
    return {
        "schema": 1,
        "model": str(path),
        "sha256": sha256(path),
        "data": dataset.name,
        "split": split,
        "classes": list(dataset.classes),
        **sets,
    }


_ROWS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "vote_agreement": "agreement with votes",
    "vote_agreement_of_majority": "  the best possible",
    "nll": "negative log-likelihood",
    "ece": "calibration error",
}


def table(report: dict[str, Any]) -> str:
    """The report as text: both sets side by side, then classes and confusions of the clean one."""
    sets, classes = [report["official"], report["clean"]], report["classes"]
    lines = [f"{report['model']} on {report['data']}, {report['split']}"]
    lines.append(f"{'':24}{'official':>16}{'clean':>16}")
    lines.append(f"{'images':24}" + "".join(f"{entry['images']:16,}" for entry in sets))
    for key, text in _ROWS.items():
        values = (f"{e[key]:16.4f}" if key == "nll" else f"{e[key]:16.2%}" for e in sets)
        lines.append(f"{text:24}" + "".join(values))
        if key == "accuracy":
            low_high = ("{:.1%} - {:.1%}".format(*entry["accuracy_interval"]) for entry in sets)
            lines.append(f"{'  95 % interval':24}" + "".join(f"{text:>16}" for text in low_high))
    width = max(6, *(len(name) + 1 for name in classes))
    lines.append(
        f"\nclean set, rows: labels, columns: answers\n{'':{width}}{'images':>7}{'recall':>8}"
    )
    lines[-1] += "".join(f"{name[:8]:>9}" for name in classes)
    clean = sets[1]
    for row, name in enumerate(classes):
        # Under 30 images a recall is not worth a percentage.
        count, recall = clean["class_images"][row], clean["recall"][row]
        share = (
            f"{recall:8.1%}" if count >= 30 else f"{clean['confusion'][row][row]}/{count}".rjust(8)
        )
        cells = "".join(f"{cell:9}" for cell in clean["confusion"][row])
        lines.append(f"{name:{width}}{count:7}{share}{cells}")
    return "\n".join(lines)


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
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args(arguments)
    report = evaluate(options.model, options.data, options.split)
    print(json.dumps(report) if options.json else table(report))
    return 0
