"""What both detectors of OpenCV share: the picture they see, and the way of their boxes back into the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.preprocess import check_picture

YUNET = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"


@dataclass(frozen=True)
class Limits:
    """What a detector looks at, and what it leaves out.

    Attributes:
        score: Faces that YuNet scores lower are left out, 0 to 1; Haar's cascade gives no score.
        largest_side: Larger frames are shrunk to this many pixels on the longer side before the detector sees
            them. Both detectors take time in proportion to the pixels; YuNet was trained on faces of 10 to 300.
        smallest_face: Longer side of the smallest box that counts, in pixels of the frame.

    Raises:
        InputError: A limit is out of range.
    """

    score: float = 0.6
    largest_side: int = 320
    smallest_face: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InputError(f"a score threshold of {self.score}: give 0 to 1, like 0.6")
        if self.largest_side < 32:
            raise InputError(
                f"a detector that sees {self.largest_side} pixels finds no face: give 32 or more, like 320"
            )
        if not 1 <= self.smallest_face < math.inf:
            raise InputError(
                f"a smallest face of {self.smallest_face} pixels: give 1 or more, like 20"
            )


def check_frame(frame_rgb: NDArray[np.uint8]) -> None:
    """Refuses what is no frame for a detector.

    Raises:
        InputError: It is not uint8 [H, W, 3] with pixels.
    """
    check_picture(frame_rgb)
    if frame_rgb.ndim != 3:
        raise InputError(
            f"a detector takes RGB frames [H, W, 3], this is grey {list(frame_rgb.shape)}: "
            "repeat it with np.dstack([grey] * 3)"
        )


def shrunk(cv2: Any, frame_rgb: NDArray[np.uint8], largest_side: int) -> NDArray[np.uint8]:
    """The frame, no side longer than ``largest_side``: uint8 [h, w, 3], pixels averaged, never enlarged."""
    height, width = frame_rgb.shape[:2]
    scale = largest_side / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(frame_rgb)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[np.uint8] = cv2.resize(
        np.ascontiguousarray(frame_rgb), size, interpolation=cv2.INTER_AREA
    )
    return small


def in_frame(
    boxes: NDArray[np.float64], seen: tuple[int, ...], frame: tuple[int, ...], smallest: float
) -> NDArray[np.float64]:
    """Boxes of the picture that was seen as boxes of the frame.

    Args:
        boxes: [N, 4]: x, y, width, height in pixels of what was seen; anything finite or not.
        seen: Shape of that picture: height, width, ...
        frame: Shape of the frame.
        smallest: See ``Limits.smallest_face``.

    Returns:
        float64 [M, 4] in pixels of the frame, cut at its edges, the largest area first.
    """
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    scale = np.array([frame[1] / seen[1], frame[0] / seen[0]])
    edge = np.array([frame[1], frame[0]], np.float64)
    near = np.clip(boxes[:, :2] * scale, 0, edge)
    far = np.clip((boxes[:, :2] + boxes[:, 2:]) * scale, 0, edge)
    size = far - near
    good = (size > 0).all(axis=1) & (size.max(axis=1, initial=0) >= smallest)
    found = np.hstack([near, size])[good]
    # Equal areas by place: the order never depends on how the detector's threads ran.
    order = np.lexsort((found[:, 1], found[:, 0], -found[:, 2] * found[:, 3]))
    ordered: NDArray[np.float64] = found[order]
    return ordered


@contextmanager
def quiet(cv2: Any) -> Iterator[None]:
    """Keeps OpenCV from writing to stderr: what fails is told by the error, and 5.0 warns at every opening."""
    former = cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(former)
