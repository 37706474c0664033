"""``convcut-trt inspect`` on labelled faces: every layout, every count, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcut_trt.cli import main
from tests.layouts import (
    blobs,
    make_fake,
    write_csv_pair,
    write_folders,
    write_npz,
    write_pngs,
    write_rafdb,
)

Capture = pytest.CaptureFixture[str]


def inspect(path: Path, capsys: Capture) -> dict[str, Any]:
    assert main(["inspect", str(path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("write", "layout"),
    [
        (lambda folder: write_npz(folder / "ferplus.npz", make_fake()), "FERPlus as npz"),
        (lambda folder: write_csv_pair(folder, make_fake()) / "fer2013.csv", "FERPlus as fer2013"),
        (lambda folder: write_pngs(folder, make_fake()), "FERPlus as PNG"),
    ],
)
def test_ferplus_counts_are_the_same_in_every_layout(
    tmp_path: Path, capsys: Capture, write: Callable[[Path], Path], layout: str
) -> None:
    found = inspect(write(tmp_path), capsys)
    assert found["kind"] == "labelled faces"
    assert found["layout"].startswith(layout)
    assert found["images"] == 22
    assert found["sizes"] == {"different": 1, "smallest": [48, 48], "largest": [48, 48]}
    splits = found["splits"]
    assert [splits[split]["images"] for split in splits] == [12, 5, 5]
    assert found["without_label"] == 22 - sum(split["labelled"] for split in splits.values())
    assert found["without_votes"] == 1  # the one that is no face
    for split in splits.values():
        assert sum(split["classes"].values()) == split["labelled"] <= split["voted"]
    # Validation 13 is train 0, test 20 is validation 12; twins within test.
    assert [splits[split]["clean"] for split in splits] == [
        splits["train"]["labelled"],
        splits["validation"]["labelled"] - 1,
        splits["test"]["labelled"] - 1,
    ]
    exact = found["exact_duplicates"]
    assert exact["groups"] == 3 and exact["pictures"] == 6
    assert exact["within"] == {"train": 0, "validation": 0, "test": 1}
    assert exact["across"]["validation also in train"] == 1
    assert exact["across"]["test also in train"] == 0
    assert exact["across"]["test also in validation"] == 1
    assert len(found["crossing"]) == 2
    assert found["unreadable"] == []


def test_near_duplicates_are_named_with_their_files(tmp_path: Path, capsys: Capture) -> None:
    generator = np.random.default_rng(2)
    for split, count in (("train", 4), ("test", 3)):
        for name in ("sad", "happy"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(blobs(generator, 48 + 8 * (split == "test")))
                picture.save(tmp_path / split / name / f"{i}.png")
    original = tmp_path / "train/sad/2.png"
    with Image.open(original) as picture:
        picture.resize((90, 90)).save(tmp_path / "test/happy/again.jpg")
    found = inspect(tmp_path, capsys)
    assert found["layout"] == "class folders"
    assert found["sizes"] == {"different": 3, "smallest": [48, 48], "largest": [90, 90]}
    assert found["exact_duplicates"]["groups"] == 0
    assert found["near_duplicates"]["across"]["test also in train"] == 1
    assert found["near_duplicates"]["groups_of_several_labels"] == 1
    assert found["crossing"] == [[str(original), str(tmp_path / "test/happy/again.jpg")]]
    assert (found["splits"]["test"]["clean"], found["splits"]["test"]["strict"]) == (7, 6)
    assert found["splits"]["test"]["classes"] == {"happy": 4, "sad": 3}


def test_the_table_has_it_all(tmp_path: Path, capsys: Capture) -> None:
    write_rafdb(tmp_path)
    for number in range(1, 13):
        (tmp_path / f"basic/Image/aligned/train_{number:05}_aligned.jpg").write_text("no picture")
    assert main(["inspect", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "RAF-DB, official layout" in text
    assert "9 images of 7 classes, height x width 100 x 100" in text
    assert "surprise" in text and "neutral" in text
    assert "exact duplicates" in text
    assert "12 pictures cannot be read" in text
    assert text.count("_aligned.jpg is no picture") == 10
    assert "2 more" in text


def test_unreadable_pictures_are_all_in_json(tmp_path: Path, capsys: Capture) -> None:
    write_folders(tmp_path, "")
    for i in range(15):
        (tmp_path / f"sad/bad{i}.png").touch()
    found = inspect(tmp_path, capsys)
    assert len(found["unreadable"]) == 15
    assert found["images"] == 5
    assert found["splits"]["test"]["images"] == 0


@pytest.mark.parametrize("name", ["", "broken.npz", "label.csv", "other.csv"])
def test_data_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    if name:
        (tmp_path / name).write_bytes(b"nothing")
    assert main(["inspect", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("convcut-trt: ") and said.err.count("\n") <= 2
    assert main(["inspect", str(tmp_path / name), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "InputError"
