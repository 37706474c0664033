"""OpenCV 4's Haar cascade for frontal faces: it comes with OpenCV, and is all that is there without a file.

Viola, Jones: "Rapid object detection using a boosted cascade of simple features", CVPR 2001. It finds fewer
faces than YuNet (bench/results/detectors.md). OpenCV 5 has neither the class nor the file.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import BackendMissing
from convcut_trt.faces.opencv import YUNET, Limits, check_frame, in_frame, shrunk
from convcut_trt.optional import load

_CASCADE = "haarcascade_frontalface_default.xml"
_STEP = 1.1  # from one size of the window to the next: OpenCV's default
_NEIGHBOURS = 5  # windows that have to agree
_WINDOW = 24  # pixels of the smallest one


class Haar:
    """The cascade through OpenCV 4. One object serves one thread at a time.

    Attributes:
        margin: What to add to its boxes on every side, as a share of the longer one: see ``detect.crop_margin``.
        limits: What it looks at; ``score`` means nothing here.
    """

    # python -m bench.detectors --data ferplus.npz, 2026-11-22: ratio 1.039 [1.031, 1.045] on the 729 faces found
    # of 1,000; OpenCV 4.14.
    margin = 0.019

    def __init__(self, limits: Limits | None = None) -> None:
        """Opens the cascade that lies in OpenCV's wheel.

        Raises:
            BackendMissing: No OpenCV, or one without the cascade.
        """
        self.limits = limits or Limits()
        self._cv2 = load("cv2", "faces")
        folder = getattr(getattr(self._cv2, "data", None), "haarcascades", "")
        path = Path(folder, _CASCADE)
        if not hasattr(self._cv2, "CascadeClassifier") or not path.is_file():
            raise BackendMissing(
                f"OpenCV {self._cv2.__version__} brings no Haar cascade, OpenCV 5 dropped it: give YuNet's .onnx "
                f"file (MIT licence, {YUNET}), or pip install 'opencv-python-headless<5'"
            )
        self._cascade = self._cv2.CascadeClassifier(str(path))

    def __call__(self, frame_rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Finds faces: see ``detect.Detector``."""
        check_frame(frame_rgb)
        seen = shrunk(self._cv2, frame_rgb, self.limits.largest_side)
        scale = max(seen.shape[:2]) / max(frame_rgb.shape[:2])
        smallest = max(_WINDOW, math.floor(self.limits.smallest_face * scale))
        grey = self._cv2.cvtColor(seen, self._cv2.COLOR_RGB2GRAY)
        rows = self._cascade.detectMultiScale(
            grey, scaleFactor=_STEP, minNeighbors=_NEIGHBOURS, minSize=(smallest, smallest)
        )
        boxes = np.asarray(rows, np.float64).reshape(-1, 4)
        return in_frame(boxes, seen.shape, frame_rgb.shape, self.limits.smallest_face)
