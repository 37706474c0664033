"""The verb: a ranges file bound to model and pictures, or a sentence and no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from calib.__main__ import main
from calib.stability import compare
from convcut_trt.datasets.duplicates import pixel_hash
from convcut_trt.home import Model
from convcut_trt.pictures import load_picture
from convcut_trt.ranges import Ranges
from tests.calib import tiny

COUNTS = {"happiness": 20, "sadness": 20, "anger": 4}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny.exported(tmp_path / "model")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Class folders with 44 pictures to train on and 3 to test on."""
    for seed, (name, count) in enumerate(COUNTS.items()):
        tiny.save(tmp_path / "faces" / "train" / name, tiny.drawn(count, seed))
        tiny.save(tmp_path / "faces" / "test" / name, tiny.drawn(1, 100 + seed))
    return tmp_path / "faces"


def call(model: Model, *arguments: object) -> int:
    given = ["calibrate", model.onnx, *arguments]
    try:
        return main([str(argument) for argument in given])
    except SystemExit as stop:
        return int(stop.code or 0)


def output(model: Model) -> Path:
    return model.onnx.with_name("tiny.ranges.json")


def test_it_writes_the_ranges_beside_the_model(
    model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(model, "--data", faces, "--images", 30, "--seed", 5) == 0
    ranges = Ranges.read(output(model))
    ranges.check(model.spec.onnx_sha256)
    assert ranges.name == "tiny"
    assert ranges.method == "percentile"
    assert set(ranges.tensors) == set(tiny.TENSORS)
    assert ranges.balance == {"happiness": 13, "sadness": 13, "anger": 4}
    assert ranges.provenance["seed"] == 5
    assert ranges.stability["halves"] == [15, 15]
    assert ranges.stability["differing"] == 0
    there = {pixel_hash(load_picture(path)) for path in (faces / "train").glob("*/*.png")}
    assert set(ranges.images) <= there
    said = capsys.readouterr()
    assert "anger          4 of 4  all there are" in said.out
    assert f"--precision int8 --ranges {output(model)}" in said.out
    assert "ranges of both halves" in said.err


def test_json_is_one_object_and_a_second_run_gives_the_same_file(
    model: Model, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert call(model, "--data", faces, "--json", "-o", tmp_path / name) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["ranges"] == str(tmp_path / name)
        assert report["images"] == 44
        assert report["asked"] == 512
        assert report["short"] == {"anger": 4}
        assert report["stable"] and report["try_images"] is None
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not output(model).exists()


@pytest.fixture
def unlike(tmp_path: Path) -> Path:
    """Dark pictures of one class, bright ones of the other: a pair of them agrees on nothing."""
    tiny.save(tmp_path / "unlike" / "happiness", tiny.drawn(3, high=4))
    tiny.save(tmp_path / "unlike" / "sadness", tiny.drawn(3, low=200))
    return tmp_path / "unlike"


def test_too_few_pictures_are_said_to_be_and_nothing_is_written(
    model: Model, unlike: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(model, "--data", unlike, "--images", 2, "--json") == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert not report["stable"]
    assert report["ranges"] is None
    assert report["stability"]["differing"] > 3
    assert report["try_images"] == 4
    assert "try --images 4" in said.err
    assert not output(model).exists()


def test_without_more_pictures_there_is_no_number_to_try(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save(tmp_path / "pair" / "happiness", tiny.drawn(1, high=4))
    tiny.save(tmp_path / "pair" / "sadness", tiny.drawn(1, low=200))
    assert call(model, "--data", tmp_path / "pair", "--method", "minmax", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["try_images"] is None
    assert "give more pictures, or --method percentile" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", 10], "give --data FACES"),
        (["--data", "nowhere"], "does not exist"),
        (["--data", "FACES", "--images", 1], "no calibration set"),
        (["--data", "FACES", "--method", "random"], "invalid choice"),
        (["--data", "FACES", "--images", "many"], "invalid int"),
        (["--data", "FACES", "-o", "no/folder/x.json"], "folder no/folder does not exist"),
        (["--data", "FACES", "--check", "none.json"], "none.json does not exist"),
        (["--check", "none.json"], "give --data FACES"),
        (["--data", "FACES/train/anger"], "no pictures in class folders"),
    ],
)
def test_bad_arguments(
    model: Model,
    faces: Path,
    arguments: list[Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(argument).replace("FACES", str(faces)) for argument in arguments]
    assert call(model, *given) == 2
    assert said in capsys.readouterr().err
    assert not output(model).exists()


def test_a_model_that_is_none(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "conv-cut-maxi", "--data", str(faces), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "InputError"
    assert main([]) == 2
    assert main(["quantise"]) == 2


def test_a_disk_that_fills(
    model: Model, faces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert call(model, "--data", faces) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list(model.folder.glob("*ranges*"))


class TestCheck:
    """``--check``: whether a ranges file still tells the truth about model and pictures."""

    @pytest.fixture(autouse=True)
    def calibrated(self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call(model, "--data", faces) == 0
        capsys.readouterr()

    def test_all_is_there(
        self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert call(model, "--data", faces, "--check", output(model), "--json") == 0
        assert json.loads(capsys.readouterr().out)["images"] == 44

    def test_a_picture_is_gone(
        self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (faces / "train" / "anger" / "0.png").unlink()
        assert call(model, "--data", faces, "--check", output(model)) == 2
        assert "1 of the 44 pictures" in capsys.readouterr().err

    def test_a_picture_was_changed(
        self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tiny.save(faces / "train" / "anger", tiny.drawn(2, 9))
        assert call(model, "--data", faces, "--check", output(model)) == 2
        assert "2 of the 44 pictures" in capsys.readouterr().err

    def test_a_picture_moved_to_the_test(
        self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (faces / "train" / "anger" / "0.png").replace(faces / "test" / "anger" / "new.png")
        assert call(model, "--data", faces, "--check", output(model)) == 2
        assert "also in validation or test" in capsys.readouterr().err

    def test_another_model(
        self, model: Model, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        network = tiny.network()
        network.doc_string = "trained again"
        other = tiny.exported(tmp_path / "other", network)
        assert call(other, "--data", faces, "--check", output(model)) == 2
        assert "give the ranges of this model" in capsys.readouterr().err

    def test_a_tensor_is_missing(
        self, model: Model, faces: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        values = json.loads(output(model).read_text())
        del values["tensors"]["active"]
        output(model).write_text(json.dumps(values))
        assert call(model, "--data", faces, "--check", output(model)) == 2
        assert "lack the tensor active" in capsys.readouterr().err


def test_a_damaged_network_has_no_ranges(
    tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests import models

    def damage(copy: onnx.ModelProto) -> None:
        models.edit(copy, "fc1.w", lambda array: array.fill(float("nan")))

    model = tiny.exported(tmp_path / "broken", models.changed(tiny.network(), damage))
    assert call(model, "--data", faces) == 2
    assert "the tensor wide is not finite" in capsys.readouterr().err
    assert not output(model).exists()


@pytest.mark.parametrize(("differing", "stable"), [(0, True), (5, True), (6, False)])
def test_up_to_five_of_a_hundred_tensors_may_differ(differing: int, stable: bool) -> None:
    one = {f"{i}": (-1.0, 10.0) for i in range(100)}
    other = {f"{i}": (-1.0, 8.9 if i < differing else 9.1) for i in range(100)}
    found = compare(one, other, (64, 64))
    assert (found.differing, found.stable) == (differing, stable)
    assert found == compare(other, one, (64, 64))
    assert found.difference == pytest.approx(0.11 if differing else 0.09)


def test_a_low_end_that_is_the_larger_one_counts() -> None:
    found = compare({"x": (-4.0, 1.0)}, {"x": (-8.0, 1.0)}, (2, 2))
    assert (found.differing, found.worst, found.difference) == (1, "x", 0.5)
