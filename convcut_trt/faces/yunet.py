"""YuNet, a small network that finds faces: fast, robust, and a file that the user brings.

Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20 (2023). The file,
``face_detection_yunet_*.onnx`` of 2023 or later, is under the MIT licence at
https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet; OpenCV 4 and 5 run it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.faces.opencv import YUNET, Limits, check_frame, in_frame, quiet, shrunk
from convcut_trt.optional import load

_OVERLAP = 0.3  # of two boxes from which on they are one face: OpenCV's default
_BOXES = 5000  # considered before that: OpenCV's default


class YuNet:
    """YuNet through OpenCV. One object serves one thread at a time.

    Attributes:
        margin: What to add to its boxes on every side, as a share of the longer one: see ``detect.crop_margin``.
        limits: What it looks at.
    """

    # python -m bench.detectors --data ferplus.npz --yunet face_detection_yunet_2026may.onnx, 2026-11-22: ratio
    # 0.986 [0.977, 0.998] on the 935 faces found of 1,000, so its box is the picture; OpenCV 5.0 and 4.14 alike.
    margin = 0.0

    def __init__(self, path: str | Path, limits: Limits | None = None) -> None:
        """Opens the network, and runs it once.

        Args:
            path: ``face_detection_yunet_*.onnx``, MIT licence: see the module's text for where to get it.
            limits: None takes the defaults.

        Raises:
            BackendMissing: No OpenCV.
            InputError: No file, or not one that this OpenCV runs as YuNet.
        """
        path = Path(path)
        self.limits = limits or Limits()
        self._cv2 = load("cv2", "faces")
        try:
            with path.open("rb") as file:
                pointer = file.read(40).startswith(b"version https://git-lfs")
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}): YuNet's file (MIT licence) is at {YUNET}"
            ) from None
        if pointer:
            raise InputError(
                f"{path} is a pointer of Git LFS and not the network: download the file itself from {YUNET}"
            )
        try:
            with quiet(self._cv2):
                self._net = self._cv2.FaceDetectorYN.create(
                    str(path), "", (32, 32), self.limits.score, _OVERLAP, _BOXES
                )
                # Another network's file opens as well, and fails here.
                self._net.detect(np.zeros((32, 32, 3), np.uint8))
        except self._cv2.error as error:
            raise InputError(
                f"{path} is no YuNet that OpenCV {self._cv2.__version__} runs: take "
                f"face_detection_yunet_2023mar.onnx or a later one (MIT licence) from {YUNET}",
                log=str(error),
            ) from None

    def __call__(self, frame_rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Finds faces: see ``detect.Detector``."""
        check_frame(frame_rgb)
        seen = shrunk(self._cv2, frame_rgb, self.limits.largest_side)
        self._net.setInputSize((seen.shape[1], seen.shape[0]))
        _, rows = self._net.detect(self._cv2.cvtColor(seen, self._cv2.COLOR_RGB2BGR))
        # A row: x, y, width, height, five landmarks, score.
        boxes = np.empty((0, 4)) if rows is None else rows[:, :4].astype(np.float64)
        return in_frame(boxes, seen.shape, frame_rgb.shape, self.limits.smallest_face)
