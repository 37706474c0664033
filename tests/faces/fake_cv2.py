"""A module in place of OpenCV, as strict as the real one in what it is passed; faces are what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Rows = Sequence[Sequence[float]]


class FakeError(Exception):
    """In place of ``cv2.error``."""


def resize(picture: Pixels, size: tuple[int, int], *, interpolation: int) -> Pixels:
    """Takes the nearest pixels."""
    assert picture.flags.c_contiguous and interpolation == FakeCv2.INTER_AREA
    width, height = size
    rows = np.arange(height) * picture.shape[0] // height
    small: Pixels = picture[rows[:, None], np.arange(width) * picture.shape[1] // width]
    return small


class FakeNet:
    """In place of ``cv2.FaceDetectorYN``. A file with the text ``YuNet`` is YuNet's."""

    def __init__(self, cv2: FakeCv2, model: str, size: tuple[int, int], score: float) -> None:
        content = Path(model).read_bytes()
        if content not in (b"YuNet", b"another network"):
            raise FakeError("cannot parse")
        self.cv2, self.content, self.size, self.score = cv2, content, size, score

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
        self.size = size

    def detect(self, bgr: Pixels) -> tuple[int, NDArray[np.float32] | None]:
        if self.content != b"YuNet" or self.size != (bgr.shape[1], bgr.shape[0]):
            raise FakeError("wrong input")
        found = self.cv2.faces(bgr)
        self.cv2.seen.append(bgr.shape)
        if not len(found):
            return 1, None
        return 1, np.hstack([np.array(found, np.float32), np.full((len(found), 11), 0.9)])


class FakeCv2:
    """OpenCV 4, with what the detectors use of it.

    Attributes:
        faces: From the picture, BGR or grey, that a detector sees to the boxes it finds.
        seen: Shapes of the pictures that detectors saw.
        nets: All that were opened.
    """

    INTER_AREA, COLOR_RGB2BGR, COLOR_RGB2GRAY = 3, 4, 7
    error = FakeError
    __version__ = "4.99"

    def __init__(self, folder: Path) -> None:
        (folder / "haarcascade_frontalface_default.xml").touch()
        self.data = SimpleNamespace(haarcascades=f"{folder}/")
        self.faces: Callable[[Pixels], Rows] = lambda picture: []
        self.seen: list[tuple[int, ...]] = []
        self.nets: list[FakeNet] = []
        self.levels = [3]
        self.resize = resize
        self.utils = SimpleNamespace(logging=SimpleNamespace(setLogLevel=self._set_level))
        self.FaceDetectorYN = SimpleNamespace(create=self._create)
        self.CascadeClassifier = lambda path: SimpleNamespace(detectMultiScale=self._cascade)

    def cvtColor(self, picture: Pixels, code: int) -> Pixels:  # noqa: N802
        if code == self.COLOR_RGB2BGR:
            return np.ascontiguousarray(picture[..., ::-1])
        assert code == self.COLOR_RGB2GRAY
        return picture[..., 0].copy()

    def _set_level(self, level: int) -> int:
        self.levels.append(level)
        return self.levels[-2]

    def _create(
        self, model: str, config: str, size: tuple[int, int], score: float, *rest: Any
    ) -> FakeNet:
        self.nets.append(FakeNet(self, model, size, score))
        return self.nets[-1]

    def _cascade(
        self, grey: Pixels, *, scaleFactor: float, minNeighbors: int, minSize: tuple[int, int]
    ) -> Any:
        assert grey.ndim == 2 and scaleFactor > 1 and minNeighbors > 0
        self.seen.append(grey.shape)
        found = [box for box in self.faces(grey) if min(box[2:]) >= min(minSize)]
        return np.array(found, np.int32) if found else ()  # as OpenCV answers
