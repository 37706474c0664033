"""Data layouts: the same faces from each, FERPlus' rules by hand and by count, and bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.datasets import (
    SPLITS,
    Dataset,
    dataset_from_arrays,
    duplicates,
    ferplus,
    open_dataset,
)
from convcut_trt.errors import InputError
from tests.layouts import (
    Fake,
    make_fake,
    write_csv_pair,
    write_folders,
    write_labels,
    write_npz,
    write_pngs,
)

REAL = Path(
    os.environ.get("CONVCUT_FERPLUS", Path(__file__).parents[3] / "shared/data/ferplus.npz")
)


@pytest.fixture
def fake() -> Fake:
    return make_fake()


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.classes == other.classes
    for name in ("split", "labels", "votes", "shares"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    everything = range(len(one))
    np.testing.assert_array_equal(one.stack(everything), other.stack(everything))
    assert one.hashes() == other.hashes()


# --- FERPlus ---


@pytest.mark.parametrize(
    ("votes", "majority", "shares"),
    [
        # neutral happiness surprise sadness anger disgust fear contempt unknown NF
        ("10 0 0 0 0 0 0 0 0 0", "neutral", {"neutral": 1.0}),
        ("6 4 0 0 0 0 0 0 0 0", "neutral", {"neutral": 0.6, "happiness": 0.4}),
        ("5 5 0 0 0 0 0 0 0 0", None, {"neutral": 0.5, "happiness": 0.5}),
        # 5 of 10 is no majority, but five single votes are dropped: 5 of 5.
        ("0 0 5 1 1 1 1 1 0 0", "surprise", {"surprise": 1.0}),
        # 4 of 9 remaining.
        ("4 0 0 3 2 1 0 0 0 0", None, {"neutral": 4 / 9, "sadness": 3 / 9, "anger": 2 / 9}),
        # 4 of 8 remaining is exactly half.
        ("4 0 0 4 1 1 0 0 0 0", None, {"neutral": 0.5, "sadness": 0.5}),
        ("0 0 0 0 0 0 0 6 4 0", "contempt", {"contempt": 1.0}),
        # The winner counts against unknown too: 4 of 8.
        ("0 4 1 1 0 0 0 0 4 0", None, {}),
        ("3 3 0 0 0 0 0 0 4 0", None, {"neutral": 0.5, "happiness": 0.5}),
        ("0 2 0 0 0 0 0 0 8 0", None, {}),
        ("4 0 0 0 0 0 0 0 0 6", None, {}),
        ("0 0 0 0 0 0 0 0 0 10", None, {}),
        # Only single votes: nothing remains.
        ("1 1 1 1 1 1 1 1 1 1", None, {}),
        ("0 0 0 0 0 0 0 0 0 0", None, {}),
    ],
)
def test_rules_by_hand(
    tmp_path: Path, fake: Fake, votes: str, majority: str | None, shares: dict[str, float]
) -> None:
    fake.votes[5] = np.array(votes.split(), dtype=np.uint8)
    data = open_dataset(write_npz(tmp_path / "faces.npz", fake))
    assert data.labels[5] == (-1 if majority is None else data.classes.index(majority))
    found = {data.classes[k]: v for k, v in enumerate(data.targets("votes")[5]) if v > 0}
    assert found == pytest.approx(shares)
    np.testing.assert_array_equal(data.votes[5], fake.votes[5, :8])


def test_npz_arrays_and_targets(tmp_path: Path, fake: Fake) -> None:
    data = open_dataset(write_npz(tmp_path / "faces.npz", fake))
    assert data.classes == ferplus.CLASSES
    assert len(data) == 22
    assert data.image(4).shape == (48, 48)
    assert np.shares_memory(data.image(4), data.images)
    assert not data.labels.flags.writeable and not data.image(4).flags.writeable
    assert data.without_votes == 1
    for kind in ("majority", "votes"):
        sums = data.targets(kind).sum(axis=1)
        assert np.all(np.isclose(sums, 1) | (sums == 0))
        for code, split in enumerate(SPLITS):
            rows = data.subset(split, kind=kind)
            np.testing.assert_array_equal(rows, np.flatnonzero((sums > 0) & (fake.usage == code)))
    # Who has a majority has a distribution too, and its peak is there.
    rows = np.flatnonzero(data.labels >= 0)
    assert np.array_equal(data.targets("votes")[rows].argmax(axis=1), data.labels[rows])
    assert len(data.subset("train", labelled=False)) == 12
    np.testing.assert_array_equal(data.stack([3, 1]), fake.images[[3, 1]])


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_csv_pair_equals_npz(tmp_path: Path, fake: Fake, header: str) -> None:
    expected = open_dataset(write_npz(tmp_path / "faces.npz", fake))
    write_csv_pair(tmp_path, fake, header=header)
    for source in (tmp_path, tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv"):
        assert_same(open_dataset(source), expected)


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("below", ["", "data"])
def test_png_folders_equal_npz(tmp_path: Path, fake: Fake, box: bool, below: str) -> None:
    expected = open_dataset(write_npz(tmp_path / "faces.npz", fake))
    write_pngs(tmp_path / "png" / below, fake, box=box)
    data = open_dataset(tmp_path / "png")
    assert_same(data, expected)
    assert data.image(2).shape == (48, 48)
    assert data.image_name(2).endswith("fer0000002.png")
    assert_same(
        open_dataset(tmp_path / "png" / below / "FER2013Train/label.csv", kind="png"), expected
    )


def test_label_csv_beside_the_pair_has_the_last_word(tmp_path: Path, fake: Fake) -> None:
    other = Fake(fake.images, fake.votes[::-1].copy(), fake.usage)
    write_csv_pair(tmp_path, other)
    write_labels(tmp_path / "data", fake, box=True)
    assert_same(open_dataset(tmp_path), open_dataset(write_npz(tmp_path / "faces.npz", fake)))
    assert "label.csv" in open_dataset(tmp_path).name


def test_of_a_repeated_image_name_the_last_row_stands(tmp_path: Path, fake: Fake) -> None:
    write_csv_pair(tmp_path, fake)
    new = tmp_path / "fer2013new.csv"
    new.write_text(new.read_text().replace("fer0000004.png", "fer0000009.png"))
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(data.stack(range(21)), np.delete(fake.images, 4, axis=0))


def test_ferplus_classes_can_be_chosen(tmp_path: Path, fake: Fake) -> None:
    path = write_npz(tmp_path / "faces.npz", fake)
    everything = open_dataset(path)
    some = open_dataset(path, classes=["sadness", "neutral"])
    names = [everything.classes[k] if k >= 0 else "" for k in everything.labels]
    expected = [{"sadness": 0, "neutral": 1}.get(name, -1) for name in names]
    np.testing.assert_array_equal(some.labels, expected)
    np.testing.assert_array_equal(some.votes, fake.votes[:, [3, 0]])
    # An image that most people call happy is not to be taught as neutral.
    happy = everything.labels == everything.classes.index("happiness")
    assert happy.any() and not some.targets("votes")[happy].any()


# --- bad input ---

Spoil = Callable[[Path, Fake], object]


def spoil_text(file: str, old: str, new: str) -> Spoil:
    def spoil(folder: Path, fake: Fake) -> object:
        write_csv_pair(folder, fake)
        text = (folder / file).read_text()
        assert old in text
        return (folder / file).write_text(text.replace(old, new, 1))

    return spoil


def cut_csv(file: str) -> Spoil:
    def spoil(folder: Path, fake: Fake) -> object:
        write_csv_pair(folder, fake)
        lines = (folder / file).read_text().splitlines(keepends=True)
        return (folder / file).write_text("".join(lines[:-3]))

    return spoil


def npz(**changes: object) -> Spoil:
    return lambda folder, fake: write_npz(folder / "ferplus.npz", fake, **changes)


def raw(name: str, content: bytes) -> Spoil:
    return lambda folder, fake: (folder / name).write_bytes(content)


def label_line(line: str) -> Spoil:
    def spoil(folder: Path, fake: Fake) -> object:
        write_pngs(folder, fake)
        return (folder / "FER2013Valid/label.csv").write_text(line)

    return spoil


def not_text(folder: Path, fake: Fake) -> object:
    write_csv_pair(folder, fake)
    return (folder / "fer2013new.csv").write_bytes(b"Usage,\xff\xfe\n")


BAD: dict[str, tuple[Spoil, str]] = {
    "npz: key missing": (npz(votes=None), "lacks votes: give"),
    "npz: images float": (npz(images=np.zeros((22, 48, 48))), "images are float64"),
    "npz: images flat": (npz(images=np.zeros((22, 2304), np.uint8)), r"\[22, 2304\], store"),
    "npz: no images": (npz(images=np.zeros((0, 48, 48), np.uint8)), "store at least one"),
    "npz: too few votes": (npz(votes=np.zeros((21, 10), np.uint8)), r"as \[22, 10\]"),
    "npz: eight votes": (npz(votes=np.zeros((22, 8), np.uint8)), r"as \[22, 10\]"),
    "npz: votes float": (npz(votes=np.zeros((22, 10))), "votes are float64"),
    "npz: votes negative": (npz(votes=np.full((22, 10), -1)), "none of them negative"),
    "npz: no votes at all": (npz(votes=np.zeros((22, 10), np.uint8)), "No image .* has a label"),
    "npz: usage 3": (npz(usage=np.full(22, 3, np.uint8)), "each 0, 1 or 2"),
    "npz: usage text": (npz(usage=["Training"] * 22), "each 0, 1 or 2"),
    "npz: vote names": (npz(vote_names=list("abcdefghij")), "vote_names must be neutral"),
    "npz: pickled": (npz(votes=np.array([{}] * 22, dtype=object)), "save without pickle"),
    "npz: noise": (raw("ferplus.npz", bytes(range(256))), "not an npz of plain arrays"),
    "npz: cut zip": (raw("ferplus.npz", b"PK\x03\x04" + bytes(60)), "not an npz of plain arrays"),
    "npz: empty": (raw("ferplus.npz", b""), "not an npz of plain arrays"),
    "csv: alone": (raw("fer2013.csv", b"emotion,pixels,Usage\n"), "fer2013new.csv is missing: put"),
    "csv: pixels short": (cut_csv("fer2013.csv"), "differ in length, fer2013new.csv goes on"),
    "csv: votes short": (cut_csv("fer2013new.csv"), "differ in length, fer2013.csv goes on"),
    "csv: no column": (
        spoil_text("fer2013.csv", "pixels", "faces"),
        "fer2013.csv lacks the columns pixels",
    ),
    "csv: usage differs": (
        spoil_text("fer2013new.csv", "\nTraining", "\nPrivateTest"),
        "row 1: Usage differs",
    ),
    "csv: pixel text": (spoil_text("fer2013.csv", "\n0,", "\n0,x "), "row 1: pixels must be num"),
    "csv: pixel more": (spoil_text("fer2013.csv", "\n0,", "\n0,9 "), "2305 pixels are no square"),
    "csv: vote text": (spoil_text("fer2013new.csv", "png,8", "png,many"), "whole numbers"),
    "csv: vote -1": (spoil_text("fer2013new.csv", "png,8", "png,-8"), "between 0 and 255"),
    "csv: cells": (spoil_text("fer2013new.csv", "png,8", "png,8,8"), "row 1: 13 cells, not 12"),
    "csv: not text": (not_text, r"fer2013new.csv is not a readable CSV file"),
    "png: labels only": (lambda f, fake: write_labels(f, fake, box=True), "but no PNGs: make them"),
    "png: line": (label_line("fer1.png,1,2\n"), "label.csv, line 1: need a picture's name"),
    "png: name leaves": (label_line("../a.png" + ",1" * 10 + "\n"), "line 1: need a picture's"),
    "png: picture gone": (
        label_line("fer9.png" + ",1" * 10 + "\n"),
        "1 of 18 pictures cannot be read.*skip_corrupt=True: .*fer9.png does not exist",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_fix(tmp_path: Path, fake: Fake, case: str) -> None:
    spoil, words = BAD[case]
    spoil(tmp_path, fake)
    with pytest.raises(InputError, match=words) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pixel_above_255_is_refused(tmp_path: Path, fake: Fake) -> None:
    write_csv_pair(tmp_path, fake)
    text = (tmp_path / "fer2013.csv").read_text()
    first = f"\n0,{fake.images[0, 0, 0]} "
    (tmp_path / "fer2013.csv").write_text(text.replace(first, "\n0,256 ", 1))
    with pytest.raises(InputError, match="row 1: pixels must lie between 0 and 255"):
        open_dataset(tmp_path)


def test_wrong_arguments(tmp_path: Path, fake: Fake) -> None:
    faces = write_npz(tmp_path / "faces.npz", fake)
    write_folders(tmp_path / "folders", "")
    (tmp_path / "data.zip").touch()
    with pytest.raises(InputError, match="does not exist: give"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Unknown kind of data 'zip': use one of auto"):
        open_dataset(faces, kind="zip")
    with pytest.raises(InputError, match="not a data file known here: give"):
        open_dataset(tmp_path / "data.zip")
    with pytest.raises(InputError, match="is a file: give the folder"):
        open_dataset(faces, kind="folders")
    with pytest.raises(InputError, match="no class joy: choose from neutral"):
        open_dataset(faces, classes=["joy", "anger"])
    with pytest.raises(InputError, match="at least two, each once"):
        open_dataset(faces, classes=["anger", "anger"])
    with pytest.raises(InputError, match=r"outside the list of classes \(angry\): add them"):
        open_dataset(tmp_path / "folders", classes=["sad", "happy"])
    with pytest.raises(InputError, match="no FER2013Train/label.csv: give the folder"):
        open_dataset(tmp_path / "folders", kind="png")
    with pytest.raises(InputError, match="no EmoLabel"):
        open_dataset(tmp_path / "folders", kind="rafdb")
    data = open_dataset(faces)
    with pytest.raises(InputError, match="Unknown split 'val': use one of train"):
        data.subset("val")
    with pytest.raises(InputError, match="use 'majority' or 'votes'"):
        data.targets("soft")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "split", "words"),
    [
        ([0, 2], [0, 0], r"label outside -1..1"),
        ([0, -2], [0, 0], r"label outside -1..1"),
        ([0.5, 1.0], [0, 0], r"label outside -1..1"),
        ([0, 1], [0, 3], r"split outside 0..2"),
        ([0, 1], [0, -1], r"split outside 0..2"),
        ([0, 1, 1], [0, 0], "2 images, 3 labels and 2 splits"),
        ([-1, -1], [0, 0], "has a label: check"),
    ],
)
def test_arrays_that_do_not_fit(labels: list[int], split: list[int], words: str) -> None:
    images = np.zeros((2, 4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match=words):
        dataset_from_arrays("two", images, labels, ["a", "b"], split)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, fake: Fake) -> None:
    write_csv_pair(tmp_path, fake)
    (tmp_path / "fer2013new.csv").chmod(0)
    with pytest.raises(InputError, match="check permissions"):
        open_dataset(tmp_path)


def test_the_module_stays_light() -> None:
    code = (
        "import sys, convcut_trt.datasets; print([m for m in ('PIL', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


# --- the real file, where it is at hand ---


@cache
def real_faces() -> Dataset:
    return open_dataset(REAL)


needs_real = pytest.mark.skipif(
    not REAL.is_file(), reason=f"no FERPlus at {REAL}: set CONVCUT_FERPLUS to a ferplus.npz"
)


@needs_real
def test_real_split_sizes_are_the_published_ones() -> None:
    data = real_faces()
    assert len(data) == 35_710
    assert [len(data.subset(split)) for split in SPLITS] == [25_045, 3_191, 3_137]
    assert len(data.subset("test", clean=True)) == 2_870
    test = data.labels[data.subset("test")]
    assert [np.count_nonzero(test == k) for k in (5, 7)] == [16, 15]  # disgust, contempt


@needs_real
def test_real_hashes_agree_with_the_flags_of_the_file() -> None:
    data = real_faces()
    with np.load(REAL, allow_pickle=False) as file:
        in_train, in_validation = file["duplicate_of_train"], file["duplicate_of_validation"]
    test, validation = data.split == 2, data.split == 1
    clean = np.isin(np.arange(len(data)), data.subset("test", labelled=False, clean=True))
    np.testing.assert_array_equal(clean[test], ~(in_train | in_validation)[test])
    clean = np.isin(np.arange(len(data)), data.subset("validation", labelled=False, clean=True))
    np.testing.assert_array_equal(clean[validation], ~in_train[validation])
    across = duplicates(data).across
    assert across["test", "train"] == np.count_nonzero(in_train & test) == 288
    assert test.sum() == 3_573


@needs_real
def test_real_votes_agree_with_the_majority() -> None:
    data = real_faces()
    shares = data.targets("votes")
    labelled = data.labels >= 0
    assert (shares.sum(axis=1) > 0)[labelled].all()
    assert np.array_equal(shares[labelled].argmax(axis=1), data.labels[labelled])
    assert [len(data.subset(split, kind="votes")) for split in SPLITS] == [28_411, 3_558, 3_552]


@pytest.mark.slow
@needs_real
def test_real_near_duplicates_across_the_splits() -> None:
    data = real_faces()
    across = duplicates(data, near=True).across
    assert across["validation", "train"] == 570
    assert across["test", "train"] == 592
    assert across["test", "validation"] == 132
    sizes = [len(data.subset(split, strict=True)) for split in SPLITS]
    assert sizes == [25_045, 2_693, 2_589]
