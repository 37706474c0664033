"""The figures: worked out by hand, equal to those of scikit-learn and torchmetrics, and their intervals."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_calibration_error

from convcut_trt.stats import wilson
from export.metrics import BINS, FIGURES, figures, intervals, measure

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# Four faces of classes 0, 0, 1, 2 of four; the third is taken for a 0.
PROBABILITIES = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2], [0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.8, 0.0]],
    np.float32,
)
LABELS = np.array([0, 0, 1, 2])
SHARES = np.array(
    [[0.6, 0.4, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.3, 0.7, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
    np.float32,
)


def random_answers(count: int = 500, classes: int = 6, seed: int = 0) -> tuple[Floats, Labels]:
    """Answers that are right more often than not, to unevenly frequent classes, of which the last has no face."""
    random = np.random.default_rng(seed)
    share = np.arange(classes, 0, -1) - 1.0
    labels = random.choice(classes, count, p=share / share.sum())
    logits = random.normal(size=(count, classes)) * 2 + 2 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), labels


def test_the_figures_are_those_worked_out_by_hand() -> None:
    report = measure(PROBABILITIES, LABELS, SHARES)
    assert report["images"] == 4
    assert report["accuracy"] == 0.75
    assert report["accuracy_interval"] == list(wilson(3, 4))
    assert report["recall"] == [1.0, 0.0, 1.0, None]
    assert report["recall_interval"][:2] == [list(wilson(2, 2)), list(wilson(0, 1))]
    assert report["class_images"] == [2, 1, 1, 0]
    assert report["balanced_accuracy"] == pytest.approx(2 / 3)
    assert report["macro_f1"] == pytest.approx((0.8 + 0.0 + 1.0) / 3)
    assert report["confusion"] == [[2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    nll = -np.log(np.array([0.7, 0.4, 0.3, 0.8])).mean()
    assert report["nll"] == pytest.approx(nll, rel=1e-5)
    assert report["brier"] == pytest.approx((0.12 + 0.48 + 0.76 + 0.06) / 4, rel=1e-5)
    assert report["ece"] == pytest.approx((0.3 + 0.6 + 0.5 + 0.2) / 4, abs=1e-5)
    # The last face has no vote that counts.
    assert report["vote_agreement"] == pytest.approx((0.6 + 1.0 + 0.3) / 3)
    assert report["vote_agreement_of_majority"] == pytest.approx((0.6 + 1.0 + 0.7) / 3)


def test_the_figures_are_those_of_the_libraries() -> None:
    probabilities, labels = random_answers()
    answers, present = probabilities.argmax(axis=1), np.unique(labels)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is answered and never occurs
        expected = {
            "accuracy": reference.accuracy_score(labels, answers),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, answers),
            "macro_f1": reference.f1_score(labels, answers, labels=present, average="macro"),
            "nll": reference.log_loss(labels, exact, labels=range(6)),
            "brier": reference.brier_score_loss(
                labels, exact, labels=range(6), scale_by_half=False
            ),
            "ece": float(
                multiclass_calibration_error(
                    torch.from_numpy(probabilities), torch.from_numpy(labels), 6, n_bins=BINS
                )
            ),
        }
    assert figures(probabilities, labels) == pytest.approx(expected, rel=1e-4)
    report = measure(probabilities, labels, np.eye(6, dtype=np.float32)[labels])
    confusion = reference.confusion_matrix(labels, answers, labels=range(6))
    assert report["confusion"] == confusion.tolist()
    assert report["vote_agreement"] == pytest.approx(report["accuracy"])


def test_an_interval_holds_its_figure_and_narrows_with_the_faces() -> None:
    widths = []
    for count in (200, 3200):
        probabilities, labels = random_answers(count)
        values, ends = figures(probabilities, labels), intervals(probabilities, labels)
        for name in FIGURES:
            assert ends[name][0] < values[name] < ends[name][1]
        widths.append([ends[name][1] - ends[name][0] for name in FIGURES])
    ratio = np.array(widths[0]) / widths[1]
    assert ((ratio > 2) & (ratio < 8)).all()  # 4, the root of the number of faces


def test_the_interval_of_the_calibration_error_holds_the_true_one() -> None:
    """Answers that claim 6 points more than they hold: in each bin the gap is 0.06."""
    random = np.random.default_rng(3)
    held = 0
    for _ in range(25):
        sure = random.uniform(0.6, 0.99, 800)
        labels = (random.random(800) >= sure - 0.06).astype(np.int64)
        low, high = intervals(np.stack([sure, 1 - sure], axis=1).astype(np.float32), labels)["ece"]
        held += low <= 0.06 <= high
    assert held >= 21


def test_certain_answers_one_class_and_no_votes() -> None:
    certain = np.eye(3, dtype=np.float32)
    report = measure(certain, np.array([1, 1, 1]), np.zeros((3, 3), np.float32))
    assert report["nll"] == pytest.approx(2 / 3 * -np.log(np.finfo(np.float32).tiny))
    assert report["balanced_accuracy"] == pytest.approx(1 / 3)
    assert report["recall"] == [None, pytest.approx(1 / 3), None]
    assert report["vote_agreement"] is report["vote_agreement_of_majority"] is None
    assert "NaN" not in json.dumps(report) and "Infinity" not in json.dumps(report)
