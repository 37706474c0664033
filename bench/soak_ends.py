"""Both ends of the loop of ``bench.soak``: a camera whose every stamp is known, a sink whose lines are checked."""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from convcut_trt.robots.images import decompress
from convcut_trt.robots.messages import CompressedImage
from convcut_trt.robots.sinks import About, JsonLines
from convcut_trt.sources import Frame
from convcut_trt.stream import Result
from convcut_trt.track import Box
from export.synthetic import CLASSES, render, render_scene

SIZE = (640, 480)
CYCLE, WITH_FACE = 120, 80
"""Pictures until they repeat, and those with a face; it is away for longer than a track lives."""
_SIDE = 240  # of the face, pixels
_STAMPS = re.compile(r'^\{"sequence": (\d+), "timestamp": (\d+),', re.MULTILINE)


@cache
def scenes() -> tuple[tuple[bytes, Box | None], ...]:
    """JPEGs of 640x480 and where in them the face is: on an ellipse, each time with another expression."""
    room, _ = render_scene(0, 3, *SIZE)
    background = Image.fromarray(room).filter(ImageFilter.GaussianBlur(25))
    faces = [Image.fromarray(render(label, 5, _SIDE)) for label in range(len(CLASSES))]
    made: list[tuple[bytes, Box | None]] = []
    for number in range(CYCLE):
        picture, box = background.copy(), None
        if number < WITH_FACE:
            angle = 2 * math.pi * number / WITH_FACE
            x, y = round(200 + 180 * math.cos(angle)), round(120 + 100 * math.sin(angle))
            picture.paste(faces[number * len(faces) // WITH_FACE], (x, y))
            box = (x, y, _SIDE, _SIDE)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        made.append((file.getvalue(), box))
    return tuple(made)


class Camera:
    """A source, and the detector that knows where the faces of its pictures are.

    Frame n is due n / rate seconds after the first by the monotonic clock, and bears the time at which it is due,
    whenever it is given.

    Attributes:
        live: True.
        rate: Pictures a second.
        frames: How many there are.
    """

    live = True

    def __init__(self, rate: float, seconds: float) -> None:
        """Gives nothing yet."""
        self.rate, self.frames = rate, round(rate * seconds)
        self._scenes = scenes()
        self._halt = threading.Event()
        self._box: Box | None = None
        self._first, self._begun = time.time_ns(), time.monotonic_ns()

    def stamp(self, number: int) -> int:
        """The timestamp of a frame, in ns."""
        return self._first + self._after(number)

    def _after(self, number: int) -> int:
        return round(number * 1e9 / self.rate)

    def lag(self, timestamp: int) -> int:
        """For how many ns a frame with this timestamp has been due."""
        return time.monotonic_ns() - self._begun - (timestamp - self._first)

    def __iter__(self) -> Iterator[Frame]:
        self._first, self._begun = time.time_ns(), time.monotonic_ns()
        for number in range(self.frames):
            self._pause(-self.lag(self.stamp(number)))
            if self._halt.is_set():
                return
            pixels = partial(self._decode, number % CYCLE)
            yield Frame(pixels, self.stamp(number), "camera", number)

    def _pause(self, nanoseconds: int) -> None:
        self._halt.wait(max(0, nanoseconds) / 1e9)

    def _decode(self, scene: int) -> NDArray[np.uint8]:
        jpeg, self._box = self._scenes[scene]
        return decompress(CompressedImage(format="jpeg", data=jpeg))

    def find(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The face of the picture that was decoded last."""
        return np.array([] if self._box is None else [self._box], np.float64).reshape(-1, 4)

    def stop(self) -> None:
        """Ends the wait for the next picture."""
        self._halt.set()


class Journal:
    """JSON lines into a file; ``turn`` reads, checks and deletes it, and begins another: the disk stays empty.

    Attributes:
        lines: Checked so far.
        altered: Lines whose timestamp is not the camera's for their sequence number.
        unordered: Lines whose sequence number or timestamp is not above that of the line before.
    """

    def __init__(self, folder: Path, about: About, camera: Camera) -> None:
        """Begins the first file."""
        self._path, self._about, self._camera = folder / "answers.jsonl", about, camera
        self.lines = self.altered = self.unordered = 0
        self._last = (-1, -1)
        self._begin()

    def _begin(self) -> None:
        self._file = self._path.open("w", encoding="utf-8")
        self._sink = JsonLines(self._file, self._about)

    def send(self, result: Result) -> None:
        """See ``JsonLines.send``."""
        self._sink.send(result)

    def turn(self) -> None:
        """Checks what was written since the last turn."""
        self.close()
        self._begin()

    def close(self) -> None:
        """Checks the last file, which is deleted; again does nothing."""
        if self._file.closed:
            return
        self._file.close()
        text = self._path.read_text("utf-8")
        self._path.unlink()
        found = [(int(number), int(stamp)) for number, stamp in _STAMPS.findall(text)]
        self.lines += len(found)
        self.altered += sum(stamp != self._camera.stamp(number) for number, stamp in found)
        for before, after in pairwise([self._last, *found]):
            self.unordered += not (after[0] > before[0] and after[1] > before[1])
        self._last = found[-1] if found else self._last
