"""The order of the test set: without consequence for attention within a face, not for attention across faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.datasets import Dataset, dataset_from_arrays
from export import checkpoint
from export.batch_order import batch_order
from export.classifier import Answers, Classifier, Picture, open_classifier, predict
from tests.export import tiny


def _network(folder: Path, attention: str) -> Classifier:
    """An untrained checkpoint with one kind of attention."""
    plan = tiny.recipe(**{"network.attention": attention})
    note = {
        "schema": checkpoint.SCHEMA,
        "recipe": plan.model_dump(mode="json"),
        "classes": [f"class {number}" for number in range(8)],
    }
    path = folder / f"{attention}.safetensors"
    checkpoint.write(path, tiny.network(plan).state_dict(), note)
    return open_classifier(path)


@pytest.fixture(scope="module")
def noise() -> Dataset:
    """80 pictures of noise in 8 classes."""
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32), np.uint8)
    classes = tuple(f"class {number}" for number in range(8))
    return dataset_from_arrays("noise", images, np.arange(80) % 8, classes, [2] * 80)


@pytest.mark.parametrize("attention", ["none", "channel", "spatial"])
def test_a_face_is_answered_by_itself(attention: str, noise: Dataset, tmp_path: Path) -> None:
    report = batch_order(_network(tmp_path, attention), noise, np.arange(80))
    assert report["independent"]
    assert set(report["orders"]) == {"single", "sorted", "shuffled"}
    for entry in report["orders"].values():
        assert entry["changed_labels"] == 0
        assert entry["largest_difference"] < 1e-5


def test_attention_across_the_batch_is_seen(noise: Dataset, tmp_path: Path) -> None:
    model = _network(tmp_path, "batch")
    report = batch_order(model, noise, np.arange(80))
    assert not report["independent"]
    assert report["orders"]["single"]["largest_difference"] == 0
    for name in ("sorted", "shuffled"):
        assert report["orders"][name]["largest_difference"] > 0.01
    # Everywhere else such a network is asked for one face at a time.
    rows = np.arange(80)
    usual = predict(model, noise, rows).probabilities
    alone = predict(model, noise, rows, batch=1).probabilities
    np.testing.assert_array_equal(usual, alone)


def _neighbourly(pictures: Sequence[Picture]) -> Answers:
    """Answers every face of a batch with the mean of its grey levels, as the released network tends to."""
    levels = [int(picture[0, 0]) for picture in pictures]
    logits = np.zeros((len(levels), 2), np.float32)
    logits[:, 1] = np.mean(levels) - 100
    probabilities = 1 / (1 + np.exp(logits[:, ::-1] - logits))
    return Answers(logits, probabilities)


def test_sorted_batches_flatter_who_looks_at_neighbours() -> None:
    # Every fourth face looks like one of the other class.
    labels = np.arange(256) % 2
    levels = np.where((np.arange(256) // 2 % 4 == 0) ^ (labels == 1), 150, 50)
    images = np.broadcast_to(levels[:, None, None], (256, 4, 4)).astype(np.uint8)
    data = dataset_from_arrays("levels", images, labels, ("dark", "bright"), [2] * 256)
    model = Classifier(Path("neighbourly"), ("dark", "bright"), 1.0, 1, _neighbourly)
    orders = batch_order(model, data, np.arange(256))["orders"]
    assert orders["single"]["accuracy"] == 0.75
    assert orders["sorted"]["accuracy"] == 1.0
    assert orders["sorted"]["changed_labels"] == 64
    assert orders["shuffled"]["accuracy"] < 0.75
