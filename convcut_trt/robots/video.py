"""Annotated video, ``run --to FILE.mp4``: the results of a loop as they looked, and as fast as they came.

The picture of every moment is that of the newest answer: a video has a constant rate, and frames are repeated or
left out by their own timestamps, so that a loop that drops frames is seen to drop them and is not seen faster.

A file has its name when it is whole; until then it is ``NAME.part.mp4`` beside it. Ctrl-C and SIGTERM finish it.
After a power cut an .avi or .mkv plays as far as it was written, an .mp4 does not: its index comes last.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.draw import Overlay
from convcut_trt.errors import InputError
from convcut_trt.faces.opencv import quiet
from convcut_trt.optional import load

if TYPE_CHECKING:
    from convcut_trt.health import Health
    from convcut_trt.robots.sinks import About
    from convcut_trt.stream import Result

# Those that OpenCV's own wheels write without a library of the user's, and that take a few milliseconds a frame.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_RATES = (1.0, 120.0)  # frames per second that players and codecs take
_USUAL_RATE = 30.0
_LONGEST_NS = 10 * 10**9  # between two frames; a longer silence is cut out
_SPARE = 16 * 2**20  # bytes left on a disk that count as a full one


def part_of(path: str | Path) -> Path:
    """What a video is called until it is whole."""
    stem, ending = os.path.splitext(path)
    return Path(f"{stem}.part{ending}")


class Writer:
    """Pictures of one size into a video file.

    Attributes:
        written: Pictures so far.
    """

    def __init__(self, path: Path, rate: float) -> None:
        """Makes the file, and its folder; a former one of that name stays until this one is whole.

        Args:
            path: Ends in .mp4, .avi or .mkv.
            rate: Pictures per second.

        Raises:
            BackendMissing: No OpenCV.
            InputError: It cannot be written there.
        """
        self._cv2: Any = load("cv2", "faces")
        self._path, self._rate = path, rate
        self._part = part_of(path)
        self._file: Any = None
        self.written = 0
        try:
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part.touch()
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error.strerror}): give another place for the video"
            ) from None

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Adds a picture: uint8 RGB [H, W, 3], H and W even and those of the first one.

        Raises:
            InputError: OpenCV has no encoder for this kind of file, or the disk is full at once.
        """
        if self._file is None:
            self.check_space()
            self._file = self._open(picture.shape[1], picture.shape[0])
        with quiet(self._cv2):
            self._file.write(self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2BGR))
        self.written += 1

    def _open(self, width: int, height: int) -> Any:
        codec = _CODECS[self._path.suffix.lower()]
        with quiet(self._cv2):
            file = self._cv2.VideoWriter(
                str(self._part),
                self._cv2.VideoWriter_fourcc(*codec),
                self._rate,
                (width, height),
            )
        if not file.isOpened():
            self._part.unlink(missing_ok=True)
            raise InputError(
                f"{self._path}: OpenCV {self._cv2.__version__} does not encode {codec} of {width}x{height} pixels: "
                f"try another ending ({', '.join(_CODECS)}), or pip install opencv-python-headless"
            )
        return file

    def check_space(self) -> None:
        """Makes sure that the file can grow: OpenCV does not say where it could not write.

        Raises:
            InputError: The disk is full.
        """
        if shutil.disk_usage(self._path.parent).free < _SPARE:
            raise InputError(f"the disk of {self._path} is full: the video ends here")

    def close(self) -> None:
        """Finishes the file and gives it its name; again does nothing. Without a picture there is no file.

        Raises:
            InputError: What was written is not a whole video.
        """
        file, self._file = self._file, None
        if file is None:
            if not self.written:
                self._part.unlink(missing_ok=True)
            return
        file.release()
        if not self._whole():
            raise InputError(
                f"{self._part} is not whole, {self.written} frames were to be in it: free some space on its disk, "
                "or write the video elsewhere"
            )
        self._part.replace(self._path)

    def _whole(self) -> bool:
        """Whether the last frame can be read; the count alone is in the header of an .mkv that was cut short."""
        with quiet(self._cv2):
            check = self._cv2.VideoCapture(str(self._part))
            good = (
                check.isOpened()
                and check.get(self._cv2.CAP_PROP_FRAME_COUNT) >= self.written - 1
                and check.set(self._cv2.CAP_PROP_POS_FRAMES, self.written - 1)
                and check.grab()
            )
            check.release()
        return bool(good)


class Video:
    """The sink: see ``sinks.Sink``."""

    def __init__(self, path: Path, about: About) -> None:
        """Makes the file; see ``Writer``."""
        rate = about.rate or _USUAL_RATE
        self._rate = rate if _RATES[0] <= rate <= _RATES[1] else _USUAL_RATE
        self._classes = about.classes
        self._writer = Writer(path, self._rate)
        self._overlay: Overlay | None = None
        self._shown: NDArray[np.uint8] | None = None
        self._last: int | None = None
        self._elapsed = 0.0  # ns of video

    def send(self, result: Result) -> None:
        """Draws an answer, where the video has a frame for its moment, after what was seen until then."""
        frame_ns = 1e9 / self._rate
        if self._last is not None:
            step = result.frame.timestamp - self._last
            self._elapsed += step if 0 <= step <= _LONGEST_NS else frame_ns
        self._last = result.frame.timestamp
        place = math.floor(self._elapsed / frame_ns + 0.5)
        if place < self._writer.written:
            return
        if self._overlay is None:
            height, width = result.picture.shape[:2]
            self._overlay = Overlay(self._classes, width, height)
        drawn = self._overlay.draw(result.picture, result.faces)
        while self._shown is not None and self._writer.written < place:
            self._writer.write(self._shown)
        self._writer.write(drawn)
        self._shown = drawn

    def report(self, health: Health) -> None:
        """Ends the loop where the disk is full."""
        self._writer.check_space()

    def close(self) -> None:
        """See ``Writer.close``."""
        self._writer.close()


def open_sink(path: str, about: About) -> Video:
    """Opens a video file for the results of a loop.

    Args:
        path: Ends in .mp4, .avi or .mkv. A former file of that name is replaced when this one is whole.
        about: Classes, and the source's rate: the video has the same, or 30 frames a second.

    Raises:
        BackendMissing: No OpenCV.
        InputError: It cannot be written there.
    """
    return Video(Path(path), about)
