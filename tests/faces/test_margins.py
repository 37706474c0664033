"""The measurement behind the detectors' margins, with detectors whose boxes are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import detectors
from bench.detectors import FRAME, SIDES, main, median, overlap, scene, summary
from convcut_trt.errors import InputError
from convcut_trt.guard import guarded
from tests.faces.fake_cv2 import FakeCv2, Pixels
from tests.layouts import make_fake, write_folders, write_npz


class Known:
    """Finds the picture in a scene and draws a box four fifths as high around its middle, the narrower way."""

    margin = 0.125

    def __call__(self, frame_rgb: Pixels) -> NDArray[np.float64]:
        rows, columns, _ = np.nonzero(frame_rgb != frame_rgb[0, 0])
        side = rows.max() + 1 - rows.min()
        middle = np.array([columns.min(), rows.min()]) + side / 2
        return np.array([[*(middle - side * np.array([0.2, 0.4])), side * 0.4, side * 0.8]])


class Blind:
    """Finds nothing."""

    def __call__(self, frame_rgb: Pixels) -> NDArray[np.float64]:
        return np.empty((0, 4))


def test_scenes_hold_the_picture_where_they_say() -> None:
    random = np.random.default_rng(1)
    picture = np.random.default_rng(2).integers(0, 256, (48, 48), dtype=np.uint8)
    places = set()
    for _ in range(20):
        frame, square = scene(picture, random)
        x, y, width, height = square.astype(int).tolist()
        assert frame.shape == (*FRAME, 3) and width == height and SIDES[0] <= width <= SIDES[1]
        assert 0 < x < FRAME[1] - width and 0 < y < FRAME[0] - width
        inside = frame[y : y + width, x : x + width]
        assert inside.std() > 20
        rest = frame.astype(int)
        rest[y : y + width, x : x + width] = rest[0, 0]
        assert (rest == rest[0, 0]).all()
        places.add((x, y, width))
    assert len(places) == 20


def test_overlap_and_weighted_median() -> None:
    one = np.array([0.0, 0.0, 10.0, 10.0])
    assert overlap(one, one) == 1
    assert overlap(one, one + 10) == 0
    assert overlap(one, np.array([5.0, 0.0, 15.0, 10.0])) == pytest.approx(1 / 3)
    values = np.array([5.0, 1.0, 3.0])
    weights = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 2.0, 0.0]])
    assert median(values)(weights).tolist() == [3, 5, 1, 1]


def test_accuracies_are_those_of_the_faces_that_were_found() -> None:
    seen = detectors.Seen([1.2, np.nan, 1.3, 1.1], [0.8, np.nan, 0.9, 0.7], [], 1, [0.01] * 4)
    plain, through = np.array([True, True, True, False]), np.array([True, False, False, False])
    found = summary(seen, plain, through)
    assert (found["found"], found["several_boxes"]) == (3, 1)
    assert found["ratio"] == pytest.approx(1.2) and found["margin"] == pytest.approx(0.1)
    assert found["overlap"] == pytest.approx(0.8)
    assert found["accuracy_plain"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy_through"]["value"] == pytest.approx(1 / 3)
    assert found["change"] == pytest.approx(-1 / 3)
    low, high = found["change_interval"]
    assert low <= found["change"] <= high
    tight = detectors.Seen([0.9], [0.8], [], 0, [0.01])
    assert summary(tight, plain[:1], plain[:1])["margin"] == 0


def test_known_detectors_get_their_margin_and_results_of_another_opencv_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = FakeCv2(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setattr(detectors, "detectors", lambda yunet: {"Known": Known(), "Blind": Blind()})
    fake = make_fake()
    data = write_npz(tmp_path / "faces.npz", fake, votes=np.eye(10, dtype=np.uint8)[fake.usage] * 9)
    given = ["--data", str(data), "--count", "5", "-o", str(tmp_path / "new" / "out")]
    for version in ("4.99", "5.1"):
        cv2.__version__ = version
        assert main(given) == 0
    out = tmp_path / "new" / "out"
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "detectors.md")
    text = (out / "detectors.json").read_text()
    parts = json.loads(text)["parts"]
    assert set(parts) == {f"{name}, OpenCV {v}" for name in ("Known", "Blind") for v in (4.99, 5.1)}
    known = parts["Known, OpenCV 5.1"]
    assert known["images"] == known["found"] == 4  # the fifth is in the training split, too
    assert known["margin"] == pytest.approx(0.125) and known["margin_used"] == 0.125
    assert known["overlap"] == pytest.approx(1)
    assert known["accuracy_through"] == known["exact_square"]
    assert parts["Blind, OpenCV 4.99"]["found"] == 0
    table = (out / "detectors.md").read_text()
    assert "| Blind, OpenCV 5.1 | 0 of 4 |" in table
    assert "| Known, OpenCV 5.1 | 4 of 4" in table
    assert str(tmp_path) not in text + table


@pytest.mark.parametrize("kind", ["no validation", "no file", "no detector"])
def test_what_cannot_be_measured_is_said_in_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = FakeCv2(tmp_path)
    if kind == "no detector":
        del cv2.CascadeClassifier
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    data = tmp_path / "data"
    if kind == "no validation":
        write_folders(data, "train", "test", classes=("sadness", "anger"))
    assert guarded(lambda: main(["--data", str(data), "-o", str(tmp_path)]), as_json=False) == 2
    assert capsys.readouterr().err.startswith("convcut-trt: ")


def test_data_without_validation_faces_are_refused(tmp_path: Path) -> None:
    from convcut_trt.datasets import open_dataset

    write_folders(tmp_path / "data", "train", "test")
    with pytest.raises(InputError, match="validation"):
        detectors.choose(open_dataset(tmp_path / "data"), 10)
