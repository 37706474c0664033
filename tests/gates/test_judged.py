"""Which faces engines are judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convcut_trt.datasets.labelled import SPLITS, Dataset, dataset_from_arrays
from convcut_trt.errors import InputError
from convcut_trt.gates import judged
from tests import models

SPEC = models.zoo().spec


def faces_of(splits: list[str], classes: tuple[str, ...] = SPEC.classes) -> Dataset:
    """One picture for each split named, all different, labelled 0, 1, 2 ..."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (len(splits), 20, 20, 3), np.uint8)
    labels = np.arange(len(splits)) % len(classes)
    return dataset_from_arrays(
        "a set", pictures, labels, classes, [SPLITS.index(s) for s in splits]
    )


def test_the_bundled_pictures_have_no_labels() -> None:
    found = judged.bundled(SPEC.size)
    assert found.faces.shape == (256, SPEC.size, SPEC.size, 3)
    assert found.labels is None
    assert found.source == "256 bundled pictures"
    assert len(judged.bundled(SPEC.size, 5).faces) == 5


def test_faces_of_training_do_not_judge() -> None:
    found = judged.from_dataset(faces_of(["train", "test", "validation", "train", "test"]), SPEC)
    assert found.labels is not None
    assert sorted(found.labels) == [1, 2, 4]
    assert found.source == "3 faces of a set (clean test and validation)"


def test_a_picture_that_is_in_training_too_does_not_judge() -> None:
    data = faces_of(["train", "test", "test"])
    pictures = np.array(data.stack([0, 1, 2]))
    pictures[1] = pictures[0]
    again = dataset_from_arrays("a set", pictures, data.labels, data.classes, data.split)
    found = judged.from_dataset(again, SPEC)
    assert found.labels is not None
    assert list(found.labels) == [2]


def test_data_without_splits_judges_whole() -> None:
    assert len(judged.from_dataset(faces_of(["train"] * 4), SPEC).faces) == 4


def test_fewer_are_spread_over_all() -> None:
    found = judged.from_dataset(faces_of(["test"] * 8), SPEC, 3)
    assert found.labels is not None
    assert list(found.labels) == [0, 4, 7]


def test_labels_follow_the_names_of_the_classes() -> None:
    data = faces_of(["test"] * 3, ("surprise", "a stranger", "anger"))
    found = judged.from_dataset(data, SPEC)
    assert found.labels is not None
    assert [SPEC.classes[label] for label in found.labels] == ["surprise", "anger"]


def test_data_of_other_classes_judges_nothing() -> None:
    data = faces_of(["test"] * 2, ("cat", "dog"))
    with pytest.raises(InputError, match="has no labelled face of the classes of conv-cut-mini"):
        judged.from_dataset(data, SPEC)
    assert len(judged.from_dataset(data, replace(SPEC, classes=("dog", "cat"))).faces) == 2
