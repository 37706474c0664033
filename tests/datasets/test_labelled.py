"""What is made of a data set's labels and splits: class weights, and validation pictures held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from convcut_trt.datasets import Dataset, dataset_from_arrays, open_dataset
from convcut_trt.errors import InputError
from tests.layouts import blobs, make_fake, write_npz


def images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    return np.stack([blobs(generator, 32) for _ in range(count)])


def dataset(labels: npt.ArrayLike, *, test: int = 0, classes: str = "abc") -> Dataset:
    """Pictures all different, the last ``test`` of them the test split."""
    split = np.zeros(len(np.array(labels)), dtype=np.int64)
    split[len(split) - test :] = 2
    return dataset_from_arrays("faces", images(len(split)), labels, list(classes), split)


# --- class weights ---


def test_class_weights_balance_the_training_split() -> None:
    data = dataset([0, 0, 0, 1, -1, 3, 3, 2, 2, 2], test=3, classes="abcd")
    weights = data.class_weights()
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [6 / 9, 2, 0, 1])  # class 2 occurs in the test only
    assert weights[data.labels[data.subset("train")]].mean() == pytest.approx(1)


def test_class_weights_follow_the_formula_where_all_classes_are_there() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 7])
    expected = 20 / (3 * np.array([10, 3, 7]))
    np.testing.assert_allclose(dataset(labels).class_weights(), expected, rtol=1e-6)


def test_class_weights_need_training_images() -> None:
    with pytest.raises(InputError, match="no labelled training images to weigh"):
        dataset([0, 1, 1], test=3).class_weights()


# --- validation held out ---


def held_out(data: Dataset) -> set[str]:
    return {data.hashes()[i] for i in data.subset("validation", labelled=False)}


def test_a_share_of_each_class_is_held_out_of_train_only() -> None:
    labels = np.tile(np.repeat([0, 1, 2], [60, 30, 10]), 2)
    data = dataset(labels, test=100)
    validation = data.with_validation()
    assert np.bincount(labels[validation.subset("validation")]).tolist() == [6, 3, 1]
    assert np.bincount(labels[validation.subset("train")]).tolist() == [54, 27, 9]
    np.testing.assert_array_equal(validation.subset("test"), data.subset("test"))
    assert not len(data.subset("validation"))  # a new one: the old stays as it was
    assert held_out(data.with_validation()) == held_out(validation)
    assert held_out(data.with_validation(seed=1)) != held_out(validation)
    larger = data.with_validation(share=0.3)
    assert np.bincount(labels[larger.subset("validation")]).tolist() == [18, 9, 3]
    assert held_out(validation) < held_out(larger)


def test_neither_names_nor_order_matter_and_few_move_when_pictures_come(tmp_path: Path) -> None:
    pictures = images(90)
    for folder, order in (("one", range(80)), ("other", reversed(range(80))), ("more", range(90))):
        for place, i in enumerate(order):
            own = tmp_path / folder / "ab"[i % 2]
            own.mkdir(parents=True, exist_ok=True)
            name = f"{i}.png" if folder == "one" else f"x{place:03}.bmp"
            Image.fromarray(pictures[i]).save(own / name)
    one, other, more = (
        held_out(open_dataset(tmp_path / folder).with_validation(share=0.2))
        for folder in ("one", "other", "more")
    )
    assert len(one) == 16
    assert one == other
    known = set(open_dataset(tmp_path / "one").hashes())
    assert len((one ^ more) & known) <= 2  # of 80, with 10 that came


def test_duplicates_stay_on_one_side() -> None:
    pictures = images(60)
    pictures[20:40] = pictures[:20, :, ::-1]  # mirrored
    pictures[40:50] = pictures[:10]
    labels = np.arange(60) % 2
    split = np.zeros(60, dtype=np.int64)
    data = dataset_from_arrays("faces", pictures, labels, ["a", "b"], split)
    for seed in range(5):
        validation = data.with_validation(share=0.3, seed=seed)
        groups = np.array(validation.near_groups())
        sides = [set(groups[validation.subset(split)]) for split in ("train", "validation")]
        assert sides[0] and sides[1] and not sides[0] & sides[1]
        strict = validation.subset("validation", strict=True)
        np.testing.assert_array_equal(strict, validation.subset("validation"))
        assert 12 <= len(strict) <= 22


def test_a_small_class_gives_one_and_keeps_one() -> None:
    data = dataset([0] * 30 + [1] * 2 + [2]).with_validation(share=0.1)
    assert np.bincount(data.labels[data.subset("validation")], minlength=3).tolist() == [3, 1, 0]
    assert np.bincount(data.labels[data.subset("train")]).tolist() == [27, 1, 1]


def test_a_group_too_large_for_the_share_stays_in_train() -> None:
    pictures = images(40)
    pictures[:30] = pictures[0]
    labels = np.repeat([0, 1], [34, 6])
    data = dataset_from_arrays("faces", pictures, labels, ["a", "b"], np.zeros(40, dtype=int))
    for seed in range(5):
        assert data.with_validation(seed=seed).subset("validation").min() >= 30


def test_pictures_without_a_majority_are_held_out_too(tmp_path: Path) -> None:
    fake = make_fake()
    fake.usage[:] = 0
    data = open_dataset(write_npz(tmp_path / "faces.npz", fake)).with_validation(share=0.3)
    rows = data.subset("validation", labelled=False)
    assert (data.labels[rows] >= 0).any() and (data.labels[rows] < 0).any()
    np.testing.assert_array_equal(data.targets("votes").shape, (22, 8))


@pytest.mark.parametrize(
    ("labels", "share", "words"),
    [
        ([0, 0, 1, 1], 0.0, "share of 0.0 cannot be held out: give"),
        ([0, 0, 1, 1], 0.6, "share of 0.6"),
        ([0, 0, 1, 1], float("nan"), "share of nan"),
        ([0, 1, 2], 0.1, "too few different training pictures"),
    ],
)
def test_what_cannot_be_held_out(labels: list[int], share: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        dataset(labels).with_validation(share)


def test_what_has_a_validation_split_keeps_it() -> None:
    data = dataset([0, 0, 1, 1]).with_validation()
    with pytest.raises(InputError, match="validation split already"):
        data.with_validation()
    with pytest.raises(InputError, match="too few different"):
        dataset([0, 1, 1], test=3).with_validation()
