"""Exact and near duplicates: what counts as one, what does not, and what is left out for it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from convcut_trt.datasets import SPLITS, Dataset, dataset_from_arrays, duplicates, open_dataset
from convcut_trt.datasets.duplicates import pixel_hash
from convcut_trt.datasets.near_duplicates import NEAR, fingerprint, near_groups
from tests.layouts import blobs, make_fake, write_npz


def test_hash_knows_the_shape_and_ignores_the_layout() -> None:
    flat = np.zeros((2, 8), dtype=np.uint8)
    assert pixel_hash(flat) != pixel_hash(flat.reshape(4, 4))
    picture = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    assert pixel_hash(picture) == pixel_hash(np.asfortranarray(picture))
    assert pixel_hash(picture) != pixel_hash(picture[..., ::-1])


def test_clean_subsets_leave_out_what_was_seen(tmp_path: Path) -> None:
    data = open_dataset(write_npz(tmp_path / "faces.npz", make_fake()))
    validation = data.subset("validation", labelled=False, clean=True)
    test = data.subset("test", labelled=False, clean=True)
    np.testing.assert_array_equal(validation, [12, 14, 15, 16])
    np.testing.assert_array_equal(test, [17, 18, 19, 21])
    assert len(data.subset("train", labelled=False, clean=True)) == 12
    assert 20 in data.subset("test") and 20 not in data.subset("test", clean=True)


def test_duplicates_report() -> None:
    images = np.zeros((6, 4, 4), dtype=np.uint8)
    images[:, 0, 0] = [1, 1, 2, 3, 1, 3]
    data = dataset_from_arrays(
        "six", images, [0, 1, 0, 1, -1, 1], ["a", "b"], np.array([0, 0, 0, 1, 1, 2])
    )
    report = duplicates(data)
    assert report.groups == ((0, 1, 4), (3, 5))
    assert report.conflicts == ((0, 1, 4),)
    assert report.within == {"train": 1, "validation": 0, "test": 0}
    assert report.across == {
        ("validation", "train"): 1,
        ("test", "train"): 0,
        ("test", "validation"): 1,
    }
    assert "1 of test also in validation" in str(report)
    assert images.flags.writeable  # the caller's own array stays as it was


# --- near ---


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def noise(picture: Image.Image) -> Image.Image:
    added = np.random.default_rng(5).normal(0, 6, (picture.height, picture.width))
    return Image.fromarray(np.clip(np.asarray(picture) + added, 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG": lambda picture: jpeg(picture, 40),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.15),
    "darker": lambda picture: picture.point(lambda level: max(level - 25, 0)),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.2),
    "mirrored": ImageOps.mirror,
    "mirrored JPEG": lambda picture: jpeg(ImageOps.mirror(picture), 60),
    "smaller": lambda picture: picture.resize((40, 40)),
    "larger and squeezed": lambda picture: picture.resize((150, 130)),
    "trimmed": lambda picture: picture.crop((1, 1, 63, 63)),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
    "noise": noise,
    "tinted": lambda picture: ImageOps.colorize(picture, "#000010", "#fff0d0"),
}


def groups_of(*pictures: Image.Image) -> tuple[int, ...]:
    arrays = [np.asarray(picture) for picture in pictures]
    prints = np.stack([fingerprint(array) for array in arrays])
    return near_groups([pixel_hash(array) for array in arrays], prints)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_a_near_duplicate_of_its_original_only(change: str) -> None:
    generator = np.random.default_rng(11)
    originals = [Image.fromarray(blobs(generator)) for _ in range(12)]
    changed = [CHANGES[change](picture) for picture in originals]
    assert groups_of(*originals, *changed) == (*range(12), *range(12))


def test_other_pictures_are_no_near_duplicates() -> None:
    generator = np.random.default_rng(12)
    pictures = [blobs(generator) for _ in range(400)]
    prints = np.stack([fingerprint(picture) for picture in pictures])
    np.testing.assert_allclose(np.linalg.norm(prints, axis=1), 1, rtol=1e-5)
    assert near_groups([pixel_hash(picture) for picture in pictures], prints) == tuple(range(400))
    flipped = Image.fromarray(pictures[0]).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert groups_of(Image.fromarray(pictures[0]), flipped) == (0, 1)  # only left and right
    assert groups_of(Image.fromarray(pictures[0]), Image.fromarray(255 - pictures[0])) == (0, 1)


def test_flat_pictures_are_near_to_none_but_equal_ones_are_one() -> None:
    black, dark = Image.new("L", (48, 48), 0), Image.new("L", (48, 48), 9)
    grain = np.random.default_rng(3).integers(7, 9, (2, 48, 48), dtype=np.uint8)
    pictures = [black, dark, black.convert("RGB"), *(Image.fromarray(plane) for plane in grain)]
    assert groups_of(*pictures) == (0, 1, 0, 3, 4)
    assert not fingerprint(np.asarray(dark)).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (7, 5, 3)])
def test_any_shape_has_a_fingerprint(shape: tuple[int, ...]) -> None:
    found = fingerprint(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5) or not found.any()


def test_being_near_is_passed_on_through_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors turned a little further each: a chain from first to last, in an order that is none."""
    monkeypatch.setattr("convcut_trt.datasets.near_duplicates._BLOCK", 7)
    step = np.arccos(NEAR) * 0.9
    angles = np.arange(40) * step
    prints = np.zeros((40, 144), dtype=np.float32)
    # One plane would come round again: each link lies in the plane of two neighbouring axes.
    for i, angle in enumerate(angles % (np.pi / 2)):
        axis = 2 * int(angles[i] // (np.pi / 2))  # even horizontal frequencies only: no mirror
        prints[i, axis], prints[i, axis + 2] = np.cos(angle), np.sin(angle)
    order = np.random.default_rng(1).permutation(40)
    lone = np.zeros((1, 144), dtype=np.float32)
    lone[0, 100] = 1
    found = near_groups([str(i) for i in range(41)], np.concatenate([prints[order], lone]))
    assert found == (*[0] * 40, 40)
    every_other = near_groups([str(i) for i in range(20)], prints[::2])
    assert every_other == tuple(range(20))


@pytest.fixture(scope="module")
def near_faces() -> Dataset:
    """Train 0-5, validation 6-8, test 9-12; 6 is 0 as JPEG, 9 is 1 mirrored, 10 is 7 brighter, 11 is 2."""
    generator = np.random.default_rng(21)
    images = np.stack([blobs(generator) for _ in range(13)])
    images[6] = np.asarray(jpeg(Image.fromarray(images[0]), 50))
    images[9] = images[1, :, ::-1]
    images[10] = images[7] + 12
    images[11] = images[2]
    split = np.repeat([0, 1, 2], [6, 3, 4])
    return dataset_from_arrays("near", images, np.arange(13) % 2, ["a", "b"], split)


def test_strict_subsets_leave_out_near_duplicates_too(near_faces: Dataset) -> None:
    found = {split: near_faces.subset(split, strict=True).tolist() for split in SPLITS}
    assert found == {"train": [0, 1, 2, 3, 4, 5], "validation": [7, 8], "test": [12]}
    assert near_faces.subset("validation", clean=True).tolist() == [6, 7, 8]
    assert near_faces.subset("test", clean=True).tolist() == [9, 10, 12]


def test_near_report_holds_the_exact_ones_too(near_faces: Dataset) -> None:
    report = duplicates(near_faces, near=True)
    assert report.groups == ((0, 6), (1, 9), (2, 11), (7, 10))
    assert report.across == {
        ("validation", "train"): 1,
        ("test", "train"): 2,
        ("test", "validation"): 1,
    }
    assert report.conflicts == ((2, 11), (7, 10))
    assert duplicates(near_faces).groups == ((2, 11),)
