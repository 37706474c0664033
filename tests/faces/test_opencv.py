"""The detectors through the OpenCV that is installed, on a portrait: skipped where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.faces.detect import Detector, detector
from convcut_trt.faces.haar import Haar
from convcut_trt.home import ZOO

cv2 = pytest.importorskip("cv2", reason="no OpenCV: pip install 'convcut-trt[faces]'")

PORTRAIT = Path(__file__).parents[2] / "examples" / "astronaut.png"
YUNET = os.environ.get("CONVCUT_YUNET", "")
has_cascade = hasattr(cv2, "CascadeClassifier")
needs_yunet = pytest.mark.skipif(not YUNET, reason="no YuNet: set CONVCUT_YUNET to its file")
FACE = (160, 140)  # roughly its centre in the portrait of 320x320


@pytest.fixture(
    params=[
        pytest.param("yunet", marks=needs_yunet),
        pytest.param("haar", marks=pytest.mark.skipif(not has_cascade, reason="OpenCV 5")),
    ]
)
def find(request: pytest.FixtureRequest) -> Detector:
    return detector(YUNET if request.param == "yunet" else "haar")


def portrait(scale: float = 1.0, width: int = 0) -> NDArray[np.uint8]:
    """The portrait, with black beside it up to ``width``."""
    with Image.open(PORTRAIT) as image:
        side = round(image.width * scale)
        picture = np.asarray(image.convert("RGB").resize((side, side)))
    return np.pad(picture, ((0, 0), (0, max(0, width - side)), (0, 0)))


@pytest.mark.parametrize(("scale", "width"), [(1.0, 0), (0.6, 0), (4.0, 0), (1.0, 900)])
def test_the_face_of_the_portrait_is_found_at_any_size(
    find: Detector, scale: float, width: int
) -> None:
    boxes = find(portrait(scale, width))
    x, y, box_width, box_height = boxes[0] / scale
    assert abs(x + box_width / 2 - FACE[0]) < 20 and abs(y + box_height / 2 - FACE[1]) < 20
    assert 70 < max(box_width, box_height) < 150


def test_equal_frames_give_equal_boxes_whatever_came_between(find: Detector) -> None:
    first = find(portrait())
    assert find(np.zeros((77, 333, 3), np.uint8)).shape == (0, 4)
    np.testing.assert_array_equal(find(portrait()), first)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (3000, 2, 3), (240, 320, 3)])
def test_a_frame_without_a_face_has_none(find: Detector, shape: tuple[int, ...]) -> None:
    assert find(np.full(shape, 128, np.uint8)).shape == (0, 4)


@pytest.mark.skipif(has_cascade, reason="this OpenCV has the cascade")
def test_opencv_5_has_no_cascade() -> None:
    with pytest.raises(BackendMissing):
        Haar()


@pytest.mark.parametrize("content", [b"", b"noise", None], ids=["empty", "noise", "another's"])
def test_a_file_that_is_not_yunets_is_refused(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes((ZOO / "conv-cut-mini.onnx").read_bytes() if content is None else content)
    with pytest.raises(InputError):
        detector(path)
    assert capfd.readouterr() == ("", "")
