"""Recordings: every answered picture and what was found in it, in a file that ROS 2 and Foxglove open (MCAP).

Beside the topics of ``publish`` there are ``/camera/image/compressed``, the picture as JPEG, and
``/camera/image/annotations``, what Foxglove draws over it.

The file is written under its own name from the start, in chunks of at most a second or a mebibyte: where the
program is killed, it lies where it is looked for and can be read up to its last chunk. It is not synced: after a
loss of power, what the system had not written yet is missing, half a minute or so. Nothing is compressed beyond the
JPEG: zstd made the file only 6 % smaller.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt.errors import InputError
from convcut_trt.robots.foxglove import overlay
from convcut_trt.robots.mcap_file import Log
from convcut_trt.robots.mcap_replay import open_source as open_source  # a transport is one module
from convcut_trt.robots.messages import CompressedImage, Header, Time
from convcut_trt.robots.publish import RosSink

if TYPE_CHECKING:
    from convcut_trt.robots.sinks import About
    from convcut_trt.sources import Pixels
    from convcut_trt.stream import Result

IMAGE = "/camera/image/compressed"
ANNOTATIONS = "/camera/image/annotations"
QUALITY = 90
"""Of the JPEGs: some 50 KB for a portrait of 640x480, and 2 ms of one core."""


def open_sink(path: str, about: About) -> RosSink:
    """Begins a recording.

    Args:
        path: Of the file, which is not there yet.
        about: See ``sinks.About``.

    Raises:
        InputError: There is such a file, or it cannot be made.
        BackendMissing: The package mcap is not installed; the text names the extra.
    """
    return Recorder(Log(Path(path)), about)


class Recorder(RosSink):
    """The sink that writes a recording."""

    def __init__(self, log: Log, about: About) -> None:
        """Writes the labels.

        Args:
            log: Closed with the sink.
            about: See ``sinks.About``.
        """
        self._log = log
        super().__init__(log, about)

    def send(self, result: Result) -> None:
        """Writes one frame: its picture, its faces, and what is drawn over it.

        Raises:
            InputError: The disk is full; or the picture has more than 65500 pixels a side, the most of a JPEG.
        """
        frame = result.frame
        self._log.at(frame.timestamp, frame.sequence)
        header = Header(Time.from_ns(frame.timestamp), frame.frame_id)
        self._publish(IMAGE, CompressedImage(header, "jpeg", jpeg(result.picture)))
        super().send(result)
        self._publish(ANNOTATIONS, overlay(result))
        self._log.end_chunk()


def jpeg(picture: Pixels) -> bytes:
    """A picture, uint8 RGB [H, W, 3], as the bytes of a JPEG file of ``QUALITY``.

    Raises:
        InputError: More than 65500 pixels a side.
    """
    from PIL import Image

    buffer = io.BytesIO()
    try:
        Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY)
    except OSError as error:
        height, width = picture.shape[:2]
        raise InputError(
            f"a picture of {width}x{height} pixels does not go into a JPEG ({error}): record smaller ones"
        ) from error
    return buffer.getvalue()
