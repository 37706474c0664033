"""What finds faces in a frame: the protocol, the choice between detectors, and how much to cut out around a box.

    find = detector("face_detection_yunet_2023mar.onnx")
    boxes = find(frame)
    squares = preprocess.crops(boxes, width, height, crop_margin(find, engine.spec.margin))

Every detector draws its boxes in its own way; the margin it carries, measured by ``bench.detectors``, makes of its
box the square that FERPlus' pictures show.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.faces.haar import Haar
from convcut_trt.faces.opencv import YUNET, Limits, check_frame
from convcut_trt.faces.yunet import YuNet
from convcut_trt.home import engine_folder

VARIABLE = "CONVCUT_YUNET"


class Detector(Protocol):
    """Finds faces; any function of this shape is one."""

    def __call__(self, frame_rgb: NDArray[np.uint8], /) -> NDArray[np.float64]:
        """Finds the faces of a frame.

        Args:
            frame_rgb: uint8 [H, W, 3].

        Returns:
            float64 [N, 4]: x, y, width, height in pixels, inside the frame, the largest face first; N may be 0.

        Raises:
            InputError: It is no such frame.
        """


def whole_picture(frame_rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The detector for pictures that are a face: its largest centred square is what gets cut out."""
    check_frame(frame_rgb)
    height, width = frame_rgb.shape[:2]
    return np.array([[0.0, 0.0, width, height]])


def crop_margin(find: Detector, model_margin: float) -> float:
    """The margin with which ``preprocess.crop_box`` cuts a detector's faces out for a model.

    The detector's makes its box the training data's face box, the model's is the context around that one: both
    enlarge the square. A detector without an attribute ``margin`` draws the training data's box itself.
    """
    own: float = getattr(find, "margin", 0.0)
    return own + model_margin + 2 * own * model_margin


def detector(name_or_path: str | Path | None = None, limits: Limits | None = None) -> Detector:
    """Opens a detector.

    Args:
        name_or_path: YuNet's .onnx file, ``haar``, or ``whole`` for pictures that are a face. None takes YuNet
            where ``$CONVCUT_YUNET`` or the folder ``faces`` in ``$CONVCUT_HOME`` (else the user's cache) has its
            file, of several there the last by name; else Haar.
        limits: None takes the defaults.

    Raises:
        BackendMissing: No OpenCV, or neither YuNet's file nor an OpenCV with Haar's cascade.
        InputError: There is no such detector, or the file is not YuNet's.
    """
    if name_or_path is None:
        path = _yunet()
        return YuNet(path, limits) if path else _haar_instead(limits)
    if name_or_path == "haar":
        return Haar(limits)
    if name_or_path == "whole":
        return whole_picture
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx":
        return YuNet(path, limits)
    raise InputError(
        f"there is no detector {str(name_or_path)!r}: give YuNet's .onnx file (MIT licence, {YUNET}), 'haar', "
        "or 'whole' for pictures that are a face"
    )


def _yunet() -> Path | None:
    """The file that the user has put where it is looked for."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    return max((engine_folder() / "faces").glob("*.onnx"), default=None)


def _haar_instead(limits: Limits | None) -> Haar:
    try:
        return Haar(limits)
    except BackendMissing as error:
        raise BackendMissing(
            f"no face detector: {error}; YuNet's file is found in {engine_folder() / 'faces'} or by ${VARIABLE}"
        ) from None
