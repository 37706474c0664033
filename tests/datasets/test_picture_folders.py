"""RAF-DB and class folders: what is found, in which split, and what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convcut_trt.datasets import SPLITS, open_dataset
from convcut_trt.datasets.duplicates import pixel_hash
from convcut_trt.datasets.picture_folders import RAFDB_CLASSES
from convcut_trt.errors import InputError
from tests.layouts import write_folders, write_rafdb

LIST = "basic/EmoLabel/list_patition_label.txt"


def test_rafdb(tmp_path: Path) -> None:
    data = open_dataset(write_rafdb(tmp_path))
    assert data.classes == RAFDB_CLASSES
    assert [len(data.subset(split)) for split in SPLITS] == [14, 0, 7]
    for i in range(len(data)):
        red = int(data.image(i)[50, 50, 0])
        assert abs(red - 30 * (data.labels[i] + 1)) <= 2
    assert data.image(0).shape == (100, 100, 3)
    np.testing.assert_array_equal(data.targets("votes"), data.targets("majority"))
    some = open_dataset(tmp_path / "basic", classes=["neutral", "fear"])
    np.testing.assert_array_equal(np.unique(some.labels), [-1, 0, 1])
    assert len(some.subset("test")) == 2


def test_class_folders_without_splits(tmp_path: Path) -> None:
    write_folders(tmp_path, "")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "sad/notes.txt").write_text("not a picture")
    data = open_dataset(tmp_path)
    assert data.classes == ("angry", "sad")
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1])
    assert (data.split == 0).all()
    assert data.image(1).shape == (8, 11, 3)
    with pytest.raises(InputError, match="do not stack"):
        data.stack([0, 1])
    given = open_dataset(tmp_path, classes=["sad", "happy", "angry"])
    np.testing.assert_array_equal(given.labels, [2, 2, 2, 0, 0])


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_class_folders_with_splits(tmp_path: Path, validation: str) -> None:
    data = open_dataset(write_folders(tmp_path, "test", "train", validation))
    np.testing.assert_array_equal(data.split, np.repeat([0, 1, 2], 5))
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1] * 3)


def test_every_colour_kind_becomes_rgb_and_grey_hashes_alike(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(grey).save(tmp_path / "a/grey.png")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "a/rgb.bmp")
    Image.new("RGBA", (8, 8)).save(tmp_path / "b/rgba.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "b/print.JPG")
    data = open_dataset(tmp_path)
    assert data.stack(range(4)).shape == (4, 8, 8, 3)
    assert data.hashes()[0] == data.hashes()[1] == pixel_hash(grey)


def test_corrupt_pictures_are_listed_or_skipped(tmp_path: Path) -> None:
    write_folders(tmp_path, "")
    whole = (tmp_path / "sad/0.png").read_bytes()
    (tmp_path / "sad/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "angry/empty.jpg").touch()
    with pytest.raises(InputError, match="2 of 7 pictures.*skip_corrupt=True: .*empty.*cut.png"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, skip_corrupt=True)
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1])
    assert [Path(line.split()[0]).name for line in data.skipped] == ["empty.jpg", "cut.png"]
    assert len(data.hashes()) == len(data) == 5


def test_all_corrupt_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(8):
            (tmp_path / name / f"{i}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"16 of 16 pictures .* \.\.\. and 6 more"):
        open_dataset(tmp_path, skip_corrupt=True)


# --- RAF-DB as people have it ---


def renamed(folder: Path) -> None:
    for picture in (folder / "basic/Image/aligned").iterdir():
        picture.rename(picture.with_name(picture.name.replace("_aligned", "")))


def listed_as_aligned(folder: Path) -> None:
    text = (folder / LIST).read_text().replace(".jpg", "_aligned.jpg")
    (folder / LIST).write_text(text)


def spelt_right(folder: Path) -> None:
    (folder / LIST).rename(folder / LIST.replace("patition", "partition"))


def from_windows(folder: Path) -> None:
    text = (folder / LIST).read_text().replace("\n", "\r\n").replace(" ", "\t")
    (folder / LIST).write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")


def with_more(folder: Path) -> None:
    (folder / "basic/Image/original").mkdir()
    (folder / "basic/Annotation/boundingbox").mkdir(parents=True)
    (folder / "compound/EmoLabel").mkdir(parents=True)
    shutil.copy(
        folder / "basic/Image/aligned/train_00001_aligned.jpg",
        folder / "basic/Image/original/train_00001.jpg",
    )


@pytest.mark.parametrize("vary", [renamed, listed_as_aligned, spelt_right, from_windows, with_more])
def test_rafdb_variants_are_the_same_faces(tmp_path: Path, vary: Callable[[Path], None]) -> None:
    official = open_dataset(write_rafdb(tmp_path / "official"))
    vary(write_rafdb(tmp_path / "other"))
    other = open_dataset(tmp_path / "other")
    assert other.name == "RAF-DB"
    assert other.hashes() == official.hashes()
    np.testing.assert_array_equal(other.labels, official.labels)
    np.testing.assert_array_equal(other.split, official.split)


def test_rafdb_pictures_that_are_missing_can_be_skipped(tmp_path: Path) -> None:
    write_rafdb(tmp_path)
    for number in (3, 14):
        (tmp_path / f"basic/Image/aligned/train_{number:05}_aligned.jpg").unlink()
    with pytest.raises(InputError, match="2 of 21 pictures.*train_00003_aligned.jpg.*train_00014"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, skip_corrupt=True)
    assert len(data) == 19 and len(data.skipped) == 2
    assert [len(data.subset(split)) for split in SPLITS] == [12, 0, 7]
    counts = np.bincount(data.labels[data.subset("train")])
    np.testing.assert_array_equal(counts, [2, 2, 1, 2, 2, 2, 1])


# --- bad input ---

Spoil = Callable[[Path], object]


def rafdb_line(line: str) -> Spoil:
    return lambda folder: (write_rafdb(folder) / LIST).write_text(line)


def without_aligned(folder: Path) -> object:
    write_rafdb(folder)
    return (folder / "basic/Image/aligned").rename(folder / "basic/Image/original")


def folders(*parts: str, also: str = "", without: str = "") -> Spoil:
    """Class folders angry and sad in each part; ``also`` is one more folder, with a picture."""

    def spoil(folder: Path) -> object:
        write_folders(folder, *parts)
        if also:
            (folder / also).mkdir(parents=True)
            Image.new("L", (4, 4)).save(folder / also / "a.png")
        for picture in (folder / without).glob("*.png") if without else ():
            picture.unlink()
        return None

    return spoil


BAD: dict[str, tuple[Spoil, str]] = {
    "empty folder": (lambda f: None, "no pictures in class folders: lay them out as"),
    "pictures without class": (
        lambda f: Image.new("L", (4, 4)).save(f / "a.png"),
        "no pictures in class folders",
    ),
    "one class": (
        lambda f: write_folders(f, "", classes=("sad",)),
        r"one class only \(sad\).*add a second",
    ),
    "one class in train": (
        lambda f: [write_folders(f, "train", classes=("sad",)), write_folders(f, "test")],
        r"train has pictures of one class only \(sad\)",
    ),
    "empty class": (folders("", without="sad"), r"one class only \(angry\)"),
    "empty third class": (
        folders("", also="happy", without="happy"),
        r"folders without pictures \(happy\): add some, or remove",
    ),
    "empty class of train": (
        folders("train", "test", also="train/happy", without="train/happy"),
        r"train has folders without pictures \(happy\)",
    ),
    "empty split": (
        folders("train", also="val/sad", without="val/sad"),
        "val has no pictures in class folders: add some, or remove it",
    ),
    "class in test only": (
        folders("train", "test", also="test/hapy"),
        r"test has classes that train lacks \(hapy\): rename them",
    ),
    "class in validation only": (
        folders("train", "val", "test", also="val/Sad"),
        r"val has classes that train lacks \(Sad\)",
    ),
    "split named twice": (
        folders("train", "val", "valid"),
        "one folder each of train, validation and test",
    ),
    "classes beside splits": (
        folders("train", "more"),
        "holds more, train: keep either class folders",
    ),
    "raf: label 0": (rafdb_line("train_00001.jpg 0\n"), "line 1: .* label from 1 to 7"),
    "raf: label 8": (
        rafdb_line("train_00001.jpg 7\ntrain_00002.jpg 8\n"),
        "line 2: .* label from 1 to 7",
    ),
    "raf: label missing": (rafdb_line("train_00001.jpg\n"), "line 1: need 'train_00001.jpg 5'"),
    "raf: name": (rafdb_line("../train_00001.jpg 1\n"), "line 1: need 'train_00001.jpg 5'"),
    "raf: no split": (rafdb_line("val_00001.jpg 1\n"), "line 1: need 'train_00001.jpg 5'"),
    "raf: twice": (
        rafdb_line("train_00001.jpg 1\ntrain_00001_aligned.jpg 2\n"),
        "line 2: train_00001 comes twice",
    ),
    "raf: empty": (rafdb_line("\n"), "is empty: restore"),
    "raf: picture gone": (rafdb_line("train_09999.jpg 1\n"), "1 of 1 pictures cannot be read"),
    "raf: originals only": (without_aligned, "aligned is missing: unpack RAF-DB's aligned.zip"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_fix(tmp_path: Path, case: str) -> None:
    spoil, words = BAD[case]
    spoil(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_may_be_missing_outside_train(tmp_path: Path) -> None:
    folders("train", "test", without="test/sad")(tmp_path)
    data = open_dataset(tmp_path)
    assert data.classes == ("angry", "sad")
    assert (data.labels[data.subset("test")] == 0).all()


def test_a_test_folder_alone_has_the_classes_it_has(tmp_path: Path) -> None:
    data = open_dataset(write_folders(tmp_path, "test"))
    assert data.classes == ("angry", "sad")
    assert [len(data.subset(split)) for split in SPLITS] == [0, 0, 5]
