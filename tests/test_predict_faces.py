"""``predict --detector``: every face of a picture, found, answered and drawn."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convcut_trt as cc
from convcut_trt.cli import main
from convcut_trt.track import Box, closeness

EXAMPLES = Path(__file__).parents[1] / "examples"
PORTRAIT = EXAMPLES / "astronaut.png"
BOX = (110.0, 70.0, 100.0, 120.0)


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """The rows of a call that has to succeed."""
    assert call("predict", *arguments, "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["predictions"]
    return found


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A picture with two faces."""
    with Image.open(PORTRAIT) as image:
        portrait = np.asarray(image.convert("RGB"))
    path = tmp_path / "two.png"
    Image.fromarray(np.hstack([portrait, portrait])).save(path)
    return path


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A picture without a face."""
    path = tmp_path / "empty.png"
    Image.new("RGB", (200, 150), "grey").save(path)
    return path


def test_each_face_has_a_row(
    engines: Path, two: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(capsys, PORTRAIT, two, empty, "--engine", engines, "--detector", "haar")
    assert [(Path(row["file"]).name, row["face"]) for row in found] == [
        ("astronaut.png", 1),
        ("two.png", 1),
        ("two.png", 2),
        ("empty.png", None),
    ]
    assert closeness(tuple(found[0]["box"]), BOX)[0] > 0.5
    assert {row["label"] for row in found[:3]} == {"happiness"}
    for row in found[:3]:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
    assert found[3] == {
        "file": str(empty),
        "face": None,
        "box": None,
        "label": None,
        "probabilities": None,
    }


def test_the_table_says_where_the_faces_are(
    engines: Path, two: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", two, empty, "--engine", engines, "--detector", "haar") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert ["face 1 at" in lines[0], "face 2 at" in lines[1]] == [True, True]
    assert lines[2].split(maxsplit=1) == [str(empty), "no face found"]
    assert said.err == ""


def test_all_faces_are_drawn(engines: Path, two: Path, empty: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    arguments = ["--engine", engines, "--detector", "haar", "--draw", folder]
    assert call("predict", two, empty, *arguments) == 0
    with Image.open(folder / "two.png") as image:
        drawn = np.asarray(image)
    # A pure tone for each face, in the picture and in its card.
    for tone in ((86, 180, 233), (240, 180, 50)):
        assert (drawn == tone).all(axis=2).sum() > 1000
    with Image.open(folder / "empty.png") as image:
        assert image.size == (640 + 290, 480)


def test_without_a_detector_rows_keep_their_form_and_say_what_was_taken(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", PORTRAIT, "--engine", engines, "--json") == 0
    said = capsys.readouterr()
    assert "--detector" in said.err
    (row,) = json.loads(said.out)["predictions"]
    assert row["face"] == 1 and row["box"] == [32.0, 0.0, 256.0, 256.0]
    assert set(row) == {"file", "face", "box", "label", "probabilities"}
    (whole,) = rows(capsys, PORTRAIT, "--engine", engines, "--detector", "whole")
    assert whole["probabilities"] == row["probabilities"]


@pytest.mark.parametrize("box", [BOX, None])
def test_the_answer_is_that_of_engine_predict(
    engines: Path, box: Box | None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if box is None else ["--box", ",".join(map(str, box))]
    (row,) = rows(capsys, PORTRAIT, "--engine", engines, *given)
    with cc.load(engines) as engine:
        expected = engine.predict([PORTRAIT], [box])
    assert row["label"] == expected.labels[0]
    assert list(row["probabilities"].values()) == pytest.approx(
        expected.probabilities[0].tolist(), abs=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([PORTRAIT, "--detector", "haar", "--box", "1,2,30,40"], "--detector"),
        ([PORTRAIT, "--detector", "hair"], "haar"),
        ([PORTRAIT, "--detector", "no/such/yunet.onnx"], "no/such/yunet.onnx"),
        ([EXAMPLES / "faces.mp4"], "convcut-trt run"),
        (["camera.MKV", "--draw", "out.mp4"], "convcut-trt run"),
        ([PORTRAIT, "--detector", "whole", "--draw", "no-picture.mp4"], ".png"),
        ([PORTRAIT, PORTRAIT, "--draw", "one.png"], "give a folder"),
        ([PORTRAIT, PORTRAIT, "--draw", "drawn"], "two of the pictures"),
        # Pillow reads these, and cannot write them, or not in colour.
        *(
            ([PORTRAIT, "--draw", f"x{ending}"], ".png")
            for ending in (".psd", ".mpg", ".xpm", ".cur", ".ras", ".xbm", ".hdf", ".y")
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    engines: Path,
    arguments: list[object],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("predict", *arguments, "--engine", engines) == 2
    said = capsys.readouterr()
    assert named in said.err and "Traceback" not in said.err and said.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.png", "--draw", "."], "would replace the picture a.png itself"),
        (["a.png", "--draw", "a.png"], "would replace the picture a.png itself"),
        (["a.png", "--draw", "x/../a.png"], "itself"),
        (["a.png", "--draw", "link.png"], "itself"),
        (["link.png", "--draw", "a.png"], "itself"),
        (["a.png", "--draw", "x"], None),
        (["x/1.png", "y/1.png", "--draw", "x"], "itself"),
        (["x/1.png", "y/1.png", "--draw", "out"], "two of the pictures to out/1.png"),
    ],
)
def test_drawing_replaces_no_picture_of_the_user(
    engines: Path,
    arguments: list[str],
    says: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = [tmp_path / name for name in ("a.png", "x/1.png", "y/1.png")]
    for number, path in enumerate(pictures):
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40), 100 + number).save(path)
    (tmp_path / "link.png").symlink_to("a.png")
    before = [path.read_bytes() for path in pictures]
    assert call("predict", *arguments, "--engine", engines) == (0 if says is None else 2)
    said = capsys.readouterr().err
    assert (says or "drawn: x/a.png") in said and "Traceback" not in said
    assert [path.read_bytes() for path in pictures] == before
    assert not (tmp_path / "out").exists()


def test_a_drawing_that_cannot_be_written_leaves_the_former_one(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "drawn.png"
    drawn.write_bytes(b"a former drawing")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code = call("predict", PORTRAIT, "--engine", engines, "--draw", drawn)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert f"{drawn} could not be written" in capsys.readouterr().err
    assert drawn.read_bytes() == b"a former drawing"
    assert list(tmp_path.iterdir()) == [drawn]


def test_without_opencv_the_extra_is_named(
    engines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert call("predict", PORTRAIT, "--engine", engines, "--detector", "haar") == 2
    assert "convcut-trt[faces]" in capsys.readouterr().err
    assert call("predict", PORTRAIT, "--engine", engines) == 0
