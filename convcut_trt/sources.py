"""Where frames come from: any iterable, a folder of pictures, or what the user's own OpenCV opens.

A source is an iterable of ``Frame`` or of pictures uint8 RGB [H, W, 3] or grey [H, W]. Three things are optional:

- ``live``: whether frames are lost when nobody takes them, as a camera's are. Without it a source is live;
- ``stop()``: ends a ``next`` that waits; called from another thread;
- ``close()``: frees what the source holds; called where it was read.
"""

from __future__ import annotations

import math
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import frame_size, rgb
from convcut_trt.optional import load
from convcut_trt.pictures import SUFFIXES, list_pictures, load_picture, shown_name

Pixels = NDArray[np.uint8]
_DIGITS = 9  # of a camera's index: OpenCV takes an int of C


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a camera. Whoever made it does not write to its pixels again.

    Attributes:
        pixels: uint8 as ``frames.frame_size`` wants it for the format, or a function that decodes it: it is called
            when the frame's turn comes, so that dropped frames cost nothing.
        timestamp: When the picture was taken, in nanoseconds, by the source's own clock.
        frame_id: Whose picture: the coordinate frame in ROS, the name of a picture file.
        sequence: Its number within the source.
        format: One of ``frames.FORMATS``.

    Raises:
        InputError: The timestamp is no whole number.
    """

    pixels: Pixels | Callable[[], Pixels]
    timestamp: int
    frame_id: str = ""
    sequence: int = 0
    format: str = "rgb8"

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "timestamp", operator.index(self.timestamp))
        except TypeError as error:
            raise InputError(
                f"frame {self.sequence} has the timestamp {self.timestamp!r}: give nanoseconds as an int"
            ) from error

    def picture(self) -> Pixels:
        """The frame as uint8 RGB [H, W, 3], contiguous; decoded anew each time, where it takes decoding.

        Raises:
            InputError: It is none of its format, or cannot be decoded.
        """
        try:
            pixels = self.pixels() if callable(self.pixels) else self.pixels
            width, height = frame_size(pixels, self.format)
        except InputError as error:
            raise InputError(f"frame {self.sequence}: {error}") from error
        except Exception as error:  # decoders meet damaged bytes with anything
            raise InputError(
                f"frame {self.sequence} cannot be decoded: {type(error).__name__}: {error}"
            ) from error
        part = rgb(pixels, self.format, slice(0, height), slice(0, width))
        if part.shape[2] == 3 and part.flags.c_contiguous:
            return part
        result = np.empty((height, width, 3), np.uint8)
        # One channel after the other: numpy takes five times as long to copy bgr as rgb in one piece.
        for channel in range(3):
            result[..., channel] = part[..., min(channel, part.shape[2] - 1)]
        return result


Source = Iterable[Frame | Pixels]


def as_frame(item: object, sequence: int) -> Frame:
    """What a source gave, as a frame: a bare picture is stamped with the time of its arrival.

    Raises:
        InputError: Neither a frame nor an array.
    """
    if isinstance(item, Frame):
        return item
    if not isinstance(item, np.ndarray):
        raise InputError(
            f"the source gave {type(item).__name__} as frame {sequence}: give sources.Frame or numpy arrays"
        )
    format = "mono8" if item.ndim == 2 else "rgb8"
    return Frame(item, time.time_ns(), sequence=sequence, format=format)


class Pictures:
    """The pictures of a folder, by name; each is decoded when its turn comes.

    Attributes:
        live: With a rate, the pictures do not wait for whoever takes them.
        rate: Pictures per second, or None.
    """

    def __init__(self, folder: Path, rate: float | None = None) -> None:
        """Lists the folder.

        Args:
            folder: Looked through without the folders in it.
            rate: Pictures per second, in real time; None gives each as soon as it is asked for, stamped as if there
                were 30 a second.

        Raises:
            InputError: No pictures, a folder that may not be read, or a bad rate.
        """
        if rate is not None and not 0 < rate < math.inf:
            raise InputError(f"a rate of {rate} pictures a second: give more than 0")
        self._paths = list_pictures(folder)
        if not self._paths:
            raise InputError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        self.rate = rate
        self._period = None if rate is None else 1 / rate
        self._halt = threading.Event()
        self.live = rate is not None

    def __iter__(self) -> Iterator[Frame]:
        first, begun = time.time_ns(), time.monotonic()
        # Without a rate the times are those of a video: not how fast this machine reads.
        period = self._period or 1 / 30
        for number, path in enumerate(self._paths):
            timestamp = first + round(number * period * 1e9)
            if self._period is not None:
                self._halt.wait(max(0.0, begun + number * self._period - time.monotonic()))
            if self._halt.is_set():
                return
            name = shown_name(Path(path.name))
            yield Frame(partial(load_picture, path), timestamp, name, number)

    def stop(self) -> None:
        """Ends the wait for the next picture's time."""
        self._halt.set()


class Capture:
    """What OpenCV's ``VideoCapture`` reads: a camera, a video file, an address, a GStreamer pipeline.

    Frames of a file carry the container's timestamps, from 0. Those of a camera carry the time at which they were
    read, in nanoseconds since 1970 by a clock that never jumps: the wall clock at the opening plus the monotonic
    time since then.

    Attributes:
        live: False for a file.
        rate: Frames per second, as OpenCV has it; None where it does not know.
    """

    def __init__(self, target: int | str, live: bool) -> None:
        """Opens it.

        Args:
            target: A camera's index, a path, an address such as ``rtsp://...``, or a pipeline with ``!`` in it.
            live: False for a file.

        Raises:
            BackendMissing: No OpenCV; the text names the extra.
            InputError: It does not open.
        """
        self._cv2: Any = load("cv2", "faces")
        self.live = live
        self._target = target
        if isinstance(target, str) and "!" in target:
            self._capture = self._cv2.VideoCapture(target, self._cv2.CAP_GSTREAMER)
        else:
            self._capture = self._cv2.VideoCapture(target)
        if not self._capture.isOpened():
            self.close()
            raise InputError(
                f"OpenCV does not open {target!r}: check that it is there, that no other program holds it, "
                "and that this OpenCV can read its kind (python -c 'import cv2; print(cv2.getBuildInformation())')"
            )

        rate = self._capture.get(self._cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < math.inf else None

    def __iter__(self) -> Iterator[Frame]:
        offset = time.time_ns() - time.monotonic_ns()
        sequence, timestamp = 0, -1
        while True:
            good, pixels = self._capture.read()
            if not good:
                break
            now = time.monotonic_ns() + offset
            timestamp = now if self.live else self._file_time(timestamp)
            format = "mono8"
            if pixels.ndim == 3:
                pixels, format = self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB), "rgb8"
            yield Frame(pixels, timestamp, str(self._target), sequence, format)
            sequence += 1
        if self.live:
            raise InputError(
                f"{self._target!r} stopped giving frames after {sequence}: check its cable or its network"
            )
        if not sequence:
            raise InputError(f"{self._target!r} opens, but OpenCV reads no picture from it")

    def _file_time(self, last: int) -> int:
        """The container's time of the frame just read, in ns; where it has none, one frame after the last."""
        milliseconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
        timestamp = round(milliseconds * 1e6) if math.isfinite(milliseconds) else -1
        if timestamp > last:
            return timestamp
        return last + round(1e9 / (self.rate or 30))

    def close(self) -> None:
        """Lets go of the camera or file."""
        self._capture.release()


# What an address starts with or a file ends in, and the module whose ``open_source(rest)`` opens it.
_TRANSPORTS = {
    "zenoh:": "convcut_trt.robots.zenoh_node",
    "dds:": "convcut_trt.robots.dds_node",
    "ros2:": "convcut_trt.robots.rclpy_node",
}


def open_source(name: str | Path | int, rate: float | None = None) -> Source:
    """Opens what a user names.

    Args:
        name: A folder of pictures, a video file, a camera's index or device file, an address with ``://``, a
            GStreamer pipeline with ``!`` in it, ``zenoh:KEY``, ``dds:TOPIC``, ``ros2:TOPIC`` or a .mcap recording
            (``?topic=/NAME`` behind it chooses one of several).
        rate: Pictures per second of a folder.

    Raises:
        InputError: There is nothing of that name, or it does not open; or a rate for anything but a folder.
        BackendMissing: It takes a library that is not installed; the text names the extra.
    """
    text = str(name)
    # os.path, as pathlib raises where a part of an address or a pipeline is longer than a file's name may be
    if os.path.isdir(text):
        if recordings := sorted(Path(text).glob("*.mcap")):  # a bag of rosbag2
            raise InputError(f"{text} is a bag: give the recording in it, {recordings[0]}")
        return Pictures(Path(text), rate)
    if rate is not None:
        raise InputError(f"{text!r} is no folder of pictures: it has a rate of its own")
    if text.isdecimal() and len(text) <= _DIGITS:
        return Capture(int(text), live=True)
    for start, module in _TRANSPORTS.items():
        if text.startswith(start):
            return _open(module, text.removeprefix(start))
    if Path(text.partition("?")[0]).suffix.lower() == ".mcap":
        return _open("convcut_trt.robots.mcap_log", text)
    if "://" in text or "!" in text:
        return Capture(text, live=True)
    if not os.path.exists(text):
        raise InputError(
            f"{text!r} is no file, folder or camera: give a video file, a folder of pictures, a camera's index "
            "like 0, an address like rtsp://... or zenoh:KEY, or a GStreamer pipeline"
        )
    return Capture(text, live=not os.path.isfile(text))


def _open(module: str, target: str) -> Source:
    source: Source = import_module(module).open_source(target)
    return source
