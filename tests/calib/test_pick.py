"""The choice: every class alike, the same for every order of files, and never a picture of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from calib.pick import Choice, pick, shares
from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.datasets.duplicates import pixel_hash
from convcut_trt.errors import InputError
from tests.calib import tiny

SIZES = (40, 20, 4)
LABELS = np.repeat([0, 1, 2], SIZES)


def data(
    labels: Sequence[int] | NDArray[np.int64] = LABELS,
    split: Sequence[int] | NDArray[np.int64] | None = None,
    images: NDArray[np.uint8] | None = None,
    classes: Sequence[str] = tiny.CLASSES,
) -> Dataset:
    """Noise with these labels, all of it to train on."""
    pictures = tiny.drawn(len(labels)) if images is None else images
    codes = np.zeros(len(labels), np.int64) if split is None else split
    return dataset_from_arrays("noise", pictures, labels, classes, codes)


def take(dataset: Dataset, images: int = 30, seed: int = 0) -> Choice:
    return pick(dataset, tiny.CLASSES, images, seed)


def test_classes_are_alike_and_a_small_one_gives_all_it_has() -> None:
    choice = take(data())
    assert choice.balance == {"happiness": 13, "sadness": 13, "anger": 4}
    assert choice.available == {"happiness": 40, "sadness": 20, "anger": 4}
    assert choice.short == {"anger": 4}
    assert len(choice) == len(set(choice.hashes)) == 30


def test_the_hashes_are_those_of_the_pictures() -> None:
    dataset = data()
    choice = take(dataset)
    assert choice.hashes == tuple(pixel_hash(dataset.image(row)) for row in choice.rows)


def test_the_order_of_the_files_does_not_matter() -> None:
    order = np.random.default_rng(3).permutation(len(LABELS))
    mixed = data(LABELS[order], images=tiny.drawn(len(LABELS))[order])
    assert take(mixed).hashes == take(data()).hashes


def test_a_seed_is_a_choice_and_a_larger_set_holds_the_smaller() -> None:
    assert take(data(), seed=1).hashes != take(data()).hashes
    assert take(data(), seed=1).hashes == take(data(), seed=1).hashes
    assert set(take(data(), images=12).hashes) < set(take(data(), images=30).hashes)


def test_halves_share_nothing_and_have_the_classes_alike() -> None:
    one, other = take(data(), images=12).halves()
    assert set(one).isdisjoint(other)
    assert np.bincount(LABELS[one]).tolist() == np.bincount(LABELS[other]).tolist() == [2, 2, 2]


def test_fewer_pictures_than_asked_for_are_all_taken() -> None:
    choice = take(data(), images=1000)
    assert len(choice) == sum(SIZES)
    assert choice.short == {"sadness": 20, "anger": 4}


@pytest.mark.parametrize("split", [1, 2])
def test_pictures_of_the_evaluation_are_never_taken(split: int) -> None:
    pictures = tiny.drawn(len(LABELS))
    pictures[-1] = pictures[0]  # a picture of train, of another label, in the evaluation
    codes = np.zeros(len(LABELS), np.int64)
    codes[-1] = split
    choice = take(data(split=codes, images=pictures), images=100)
    assert pixel_hash(pictures[0]) not in choice.hashes
    assert len(LABELS) - 1 not in choice.rows
    assert len(choice) == len(LABELS) - 2
    assert sum(choice.left_out.values()) == 1


def nearly(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture a little brighter: other pixels, the same photograph."""
    return (picture // 2 + 40).astype(np.uint8)


def test_near_copies_of_the_evaluation_are_never_taken() -> None:
    pictures = tiny.drawn(len(LABELS))
    pictures[-1] = nearly(pictures[0])
    codes = np.zeros(len(LABELS), np.int64)
    codes[-1] = 2
    choice = take(data(split=codes, images=pictures), images=100)
    assert pixel_hash(pictures[0]) not in choice.hashes
    assert choice.left_out["also in evaluation"] == 0
    assert choice.left_out["nearly the same as one in evaluation"] == 1


def test_of_near_copies_one_is_taken_whatever_their_order() -> None:
    pictures = tiny.drawn(len(LABELS))
    pictures[1] = nearly(pictures[0])
    choice = take(data(images=pictures), images=100)
    assert choice.left_out["repeated"] == 1
    pictures[[0, 1]] = pictures[[1, 0]]
    assert take(data(images=pictures), images=100).hashes == choice.hashes


def test_repeated_pictures_count_once_and_contradicting_ones_not_at_all() -> None:
    pictures = tiny.drawn(len(LABELS))
    pictures[1] = pictures[0]
    pictures[40] = pictures[39]  # happiness and sadness
    choice = take(data(images=pictures), images=100)
    assert choice.available == {"happiness": 38, "sadness": 19, "anger": 4}
    assert choice.left_out["repeated"] == 1
    assert choice.left_out["of contradicting labels"] == 2


def test_classes_that_the_model_does_not_know_are_left_out() -> None:
    choice = take(data(classes=("happiness", "boredom", "anger")))
    assert choice.balance == {"happiness": 26, "sadness": 0, "anger": 4}
    assert choice.short == {"sadness": 0, "anger": 4}
    assert choice.left_out["of other classes"] == 20


@pytest.mark.parametrize(
    ("dataset", "images", "said"),
    [
        (data(), 1, "1 picture is no calibration set"),
        (data(), 0, "0 picture"),
        (data(), -5, "-5 picture"),
        (data([0, 0, 0]), 10, r"of 1 of the model's classes \(happiness;"),
        (data([0, 0, 1], [0, 0, 1]), 10, "of 1 of the model's classes"),
        (data([2], [0]), 10, "of 1 of the model's classes"),
        (data([0, 1], [1, 2]), 10, "no labelled train pictures"),
        (data([0, 1], classes=("cats", "dogs", "fish")), 10, r"of 0 of .* \(none; .* happiness"),
    ],
)
def test_what_is_no_calibration_set(dataset: Dataset, images: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        take(dataset, images)


@pytest.mark.parametrize(
    ("available", "total", "wanted"),
    [
        ([10, 10, 10], 9, [3, 3, 3]),
        ([10, 10, 10], 11, [3, 4, 4]),
        ([100, 1, 5], 30, [24, 1, 5]),
        ([2, 0, 2], 30, [2, 0, 2]),
        ([5, 5], 0, [0, 0]),
    ],
)
def test_shares(available: list[int], total: int, wanted: list[int]) -> None:
    assert shares(available, total) == wanted
