"""Detectors above a fake OpenCV: which one is chosen, what is refused, and where its boxes come to lie."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bench.detectors import RESULTS
from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.faces.detect import Detector, crop_margin, detector, whole_picture
from convcut_trt.faces.haar import Haar
from convcut_trt.faces.opencv import Limits, in_frame
from convcut_trt.faces.yunet import YuNet
from convcut_trt.preprocess import crop_box, crops
from tests.faces.fake_cv2 import FakeCv2, Pixels

RED = (255, 0, 0)


@pytest.fixture
def cv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCv2:
    """OpenCV 4; no YuNet is found by itself."""
    folder = tmp_path / "cascades"
    folder.mkdir()
    fake = FakeCv2(folder)
    monkeypatch.setitem(sys.modules, "cv2", fake)
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CONVCUT_YUNET", raising=False)
    return fake


@pytest.fixture
def opencv_5(cv2: FakeCv2) -> FakeCv2:
    del cv2.CascadeClassifier
    cv2.data.haarcascades += "none"
    return cv2


@pytest.fixture
def yunet(tmp_path: Path) -> Path:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"YuNet")
    return path


@pytest.fixture(params=["YuNet", "Haar", "whole"])
def find(request: pytest.FixtureRequest, cv2: FakeCv2, yunet: Path) -> Detector:
    """Each of the detectors."""
    names: dict[str, str | Path] = {"YuNet": yunet, "Haar": "haar", "whole": "whole"}
    return detector(names[request.param])


def red(bgr: Pixels) -> list[list[int]]:
    """The box around the red pixels, in BGR or, where it is grey, in the first channel."""
    rows, columns = np.nonzero(bgr[..., 2] == 255 if bgr.ndim == 3 else bgr == 255)
    if not len(rows):
        return []
    x, y = int(columns.min()), int(rows.min())
    return [[x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]]


# --- the choice ---


def test_a_path_is_yunet_and_a_name_is_what_it_says(cv2: FakeCv2, yunet: Path) -> None:
    assert isinstance(detector(yunet), YuNet)
    assert isinstance(detector(str(yunet)), YuNet)
    assert isinstance(detector("haar"), Haar)
    assert detector("whole") is whole_picture


def test_without_a_name_yunet_is_taken_where_its_file_is(
    cv2: FakeCv2, yunet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(detector(), Haar)
    folder = tmp_path / "home" / "faces"
    folder.mkdir(parents=True)
    (folder / "face_2023.onnx").write_bytes(b"another network")
    (folder / "face_2026.onnx").write_bytes(b"YuNet")
    assert isinstance(detector(), YuNet)  # the last by name
    monkeypatch.setenv("CONVCUT_YUNET", str(tmp_path / "gone.onnx"))
    with pytest.raises(InputError, match="gone.onnx"):  # named and not there: no silent Haar
        detector()
    monkeypatch.setenv("CONVCUT_YUNET", str(yunet))
    assert isinstance(detector(), YuNet)


def test_opencv_5_needs_yunets_file(opencv_5: FakeCv2, yunet: Path) -> None:
    for name in (None, "haar"):
        with pytest.raises(BackendMissing) as caught:
            detector(name)
        for fix in ("OpenCV 5", "pip install 'opencv-python-headless<5'", "opencv_zoo", "MIT"):
            assert fix in str(caught.value)
    assert isinstance(detector(yunet), YuNet)


def test_limits_reach_the_detector(cv2: FakeCv2, yunet: Path) -> None:
    detector(yunet, Limits(score=0.8))
    assert [net.score for net in cv2.nets] == [0.8]
    cv2.faces = lambda picture: [[10, 10, 40, 40]]
    frame = np.zeros((480, 640, 3), np.uint8)
    for name in (yunet, "haar"):
        assert len(detector(name, Limits(smallest_face=80))(frame)) == 1  # 40 of 320 are 80 of 640
        assert len(detector(name, Limits(smallest_face=81))(frame)) == 0
        detector(name, Limits(largest_side=100))(frame)
        assert cv2.seen[-1][:2] == (75, 100)


def test_opencv_is_quiet_while_a_file_is_opened_and_as_before_afterwards(
    cv2: FakeCv2, yunet: Path, tmp_path: Path
) -> None:
    detector(yunet)
    yunet.write_bytes(b"noise")
    with pytest.raises(InputError):
        detector(yunet)
    assert cv2.levels == [3, 0, 3, 0, 3]


# --- bad input ---


def written(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "bad.onnx"
        path.write_bytes(content)
        return path

    return write


def folder_named_like_a_file(folder: Path) -> Path:
    path = folder / "folder.onnx"
    path.mkdir()
    return path


BAD_NAMES: dict[str, Callable[[Path], str | Path]] = {
    "no such detector": lambda folder: "retina",
    "no .onnx file": lambda folder: folder / "yunet.pt",
    "empty": lambda folder: "",
    "no file": lambda folder: folder / "none.onnx",
    "a folder": folder_named_like_a_file,
    "an empty file": written(b""),
    "not ONNX": written(b"noise"),
    "another network": written(b"another network"),
    "Git LFS pointer": written(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
}


@pytest.mark.parametrize("make", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_detector_is_refused_and_the_text_says_where_the_file_is(
    cv2: FakeCv2, tmp_path: Path, make: Callable[[Path], str | Path]
) -> None:
    with pytest.raises(InputError) as caught:
        detector(make(tmp_path))
    assert "opencv_zoo" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_opencv_the_extra_is_named(
    cv2: FakeCv2, yunet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for name in (None, "haar", yunet):
        with pytest.raises(BackendMissing, match=re.escape("convcut-trt[faces]")):
            detector(name)
    assert len(detector("whole")(np.zeros((4, 4, 3), np.uint8))) == 1


BAD_FRAMES: dict[str, Any] = {
    "grey": np.zeros((40, 40), np.uint8),
    "grey with a channel": np.zeros((40, 40, 1), np.uint8),
    "RGBA": np.zeros((40, 40, 4), np.uint8),
    "no rows": np.zeros((0, 40, 3), np.uint8),
    "no columns": np.zeros((40, 0, 3), np.uint8),
    "float": np.zeros((40, 40, 3), np.float32),
    "16 bits": np.zeros((40, 40, 3), np.uint16),
    "a batch": np.zeros((1, 40, 40, 3), np.uint8),
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_refused_and_the_next_one_answered(find: Detector, frame: Any) -> None:
    with pytest.raises(InputError):
        find(frame)
    assert find(np.zeros((40, 40, 3), np.uint8)).shape[1] == 4


@pytest.mark.parametrize(
    "values",
    [
        {"score": -0.1},
        {"score": 1.1},
        {"score": float("nan")},
        {"largest_side": 0},
        {"smallest_face": 0},
        {"smallest_face": float("nan")},
        {"smallest_face": float("inf")},
    ],
    ids=str,
)
def test_limits_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConvcutError):
        Limits(**values)


# --- boxes ---


def test_nothing_found_is_an_empty_array(cv2: FakeCv2, yunet: Path) -> None:
    for name in (yunet, "haar"):
        boxes = detector(name)(np.zeros((240, 320, 3), np.uint8))
        assert boxes.shape == (0, 4) and boxes.dtype == np.float64


@pytest.mark.parametrize(
    ("height", "width"), [(240, 320), (480, 640), (1080, 1920), (4000, 6000), (1200, 400), (90, 60)]
)
@pytest.mark.parametrize("name", ["YuNet", "Haar"])
def test_boxes_come_back_in_pixels_of_the_frame(
    cv2: FakeCv2, yunet: Path, name: str, height: int, width: int
) -> None:
    cv2.faces = red
    frame = np.zeros((height, width, 3), np.uint8)
    x, y, face_width, face_height = width // 10, height // 5, width // 2, height // 2
    frame[y : y + face_height, x : x + face_width] = RED
    [box] = detector(yunet if name == "YuNet" else "haar", Limits(smallest_face=1))(frame)
    pixel = max(1, max(height, width) / 320)  # of what the detector saw
    np.testing.assert_allclose(box, [x, y, face_width, face_height], atol=2 * pixel)
    assert max(cv2.seen[-1][:2]) == min(320, max(height, width))


def test_a_frame_may_have_gaps_and_be_mirrored(cv2: FakeCv2, yunet: Path) -> None:
    cv2.faces = red
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[50:100, 10:60] = RED
    boxes = detector(yunet)(frame[:, ::-1])
    assert boxes.tolist() == [[260.0, 50.0, 50.0, 50.0]]
    assert detector(yunet)(np.repeat(frame, 2, axis=1)[:, ::2]).tolist() == [[10, 50, 50, 50]]


def test_a_frame_as_thin_as_a_line_is_answered(find: Detector) -> None:
    for shape in ((1, 1, 3), (1, 5000, 3), (5000, 1, 3)):
        assert find(np.zeros(shape, np.uint8)).shape[1] == 4


def test_boxes_are_cut_at_the_edges_and_the_largest_comes_first(cv2: FakeCv2, yunet: Path) -> None:
    cv2.faces = lambda picture: [
        [100, 100, 20, 30],
        [-10, -20, 50, 60],
        [300, 220, 100, 100],
        [100, 60, 30, 20],
        [50, 100, 20, 30],
        [400, 10, 50, 50],  # outside
        [10, 10, -5, 40],
        [float("nan"), 10, 50, 50],
        [10, 10, float("inf"), 50],
        [10, 10, 5, 5],  # too small
    ]
    boxes = detector(yunet)(np.zeros((240, 320, 3), np.uint8))
    assert boxes.tolist() == [
        [0, 0, 40, 40],
        [50, 100, 20, 30],  # equal areas: by place
        [100, 60, 30, 20],
        [100, 100, 20, 30],
        [300, 220, 20, 20],
    ]


numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(
    arrays(np.float64, st.tuples(st.integers(0, 8), st.just(4)), elements=numbers),
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_whatever_a_detector_answers_can_be_cut_out(
    boxes: NDArray[np.float64], seen: tuple[int, int], enlarged: int, random: Any
) -> None:
    frame = (seen[0] * enlarged, seen[1] * enlarged + enlarged - 1)
    found = in_frame(boxes, seen, frame, 1)
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= [frame[1] * (1 + 1e-12), frame[0] * (1 + 1e-12)]).all()
    areas = found[:, 2] * found[:, 3]
    assert (np.diff(areas) <= 0).all()
    if len(found):
        assert np.isfinite(crops(found, frame[1], frame[0], 0.1)).all()
    order = random.sample(range(len(boxes)), len(boxes))
    np.testing.assert_array_equal(in_frame(boxes[order], seen, frame, 1), found)


# --- margins ---


def test_margins_of_detector_and_model_both_enlarge_the_square(cv2: FakeCv2) -> None:
    find = detector("haar")
    assert crop_margin(find, 0.0) == Haar.margin
    assert crop_margin(whole_picture, 0.25) == 0.25
    Half = type("Half", (), {"margin": 0.5, "__call__": lambda self, frame: np.empty((0, 4))})
    # A box of 40 shows a face of 80 in the data's own boxes, and of that one a fifth more on every side.
    left, top, right, bottom = crop_box((180, 180, 40, 40), 400, 400, crop_margin(Half(), 0.2))
    assert (left, top, right, bottom) == pytest.approx((144, 144, 256, 256))


def test_the_margins_are_the_measured_ones() -> None:
    parts = json.loads((RESULTS / "detectors.json").read_text())["parts"]
    margins = {"YuNet": YuNet.margin, "Haar": Haar.margin}
    assert {name.partition(",")[0] for name in parts} == set(margins)
    for name, part in parts.items():
        assert margins[name.partition(",")[0]] == round(part["margin"], 3) == part["margin_used"]
        assert part["images"] >= 600
