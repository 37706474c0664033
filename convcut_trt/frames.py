"""Camera frames as they arrive: five pixel formats, at any pitch, and the RGB that lies in them.

The names are those of ROS ``sensor_msgs/Image``. NV12, which cameras and video decoders deliver, is a plane
of luma rows followed by half as many rows of interleaved U and V, each pair shared by 2x2 pixels. It becomes
RGB by the integer formulas of Microsoft's "Converting 8-bit YUV to RGB888" (BT.601, limited range), with the
nearest chroma and ``>>`` rounding down::

    c = 298 * (Y - 16) + 128
    R = clip((c                 + 409 * (V - 128)) >> 8)
    G = clip((c - 100 * (U - 128) - 208 * (V - 128)) >> 8)
    B = clip((c + 516 * (U - 128)                ) >> 8)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError

# Bytes from one pixel to the next within a row.
FORMATS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "mono8": 1, "nv12": 1}


@dataclass(frozen=True)
class Layout:
    """How a frame lies in memory.

    Attributes:
        width: In pixels.
        height: In pixels.
        format: One of ``FORMATS``.
        pitch: Bytes from the start of one row to the start of the next; 0 means rows without a gap.

    Raises:
        InputError: Sizes, format or pitch do not go together.
    """

    width: int
    height: int
    format: str
    pitch: int = 0

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f"frame format {self.format!r} is unknown: use {', '.join(FORMATS)}")
        if self.width < 1 or self.height < 1:
            raise InputError(f"a frame of {self.width}x{self.height} has no pixels: give its size")
        if self.format == "nv12" and (self.width % 2 or self.height % 2):
            raise InputError(
                f"an nv12 frame has even sides, this one is {self.width}x{self.height}: crop the odd row or column"
            )
        row = self.width * FORMATS[self.format]
        if self.pitch == 0:
            object.__setattr__(self, "pitch", row)
        if self.pitch < row:
            raise InputError(
                f"pitch {self.pitch} is less than the {row} bytes of a row of {self.width} {self.format} pixels: "
                "give the bytes from row to row"
            )

    @property
    def rows(self) -> int:
        """Rows in memory: those of the picture, and half as many of chroma with nv12."""
        return self.height * 3 // 2 if self.format == "nv12" else self.height

    def view(self, data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame in a buffer as an array that ``preprocess.faces`` takes; nothing is copied.

        Args:
            data: The frame's bytes; the last row may end without its gap.

        Returns:
            uint8 [H, W, 3] or [H, W, 4], [H, W] with mono8, [H * 3 / 2, W] with nv12.

        Raises:
            InputError: The buffer is too short.
        """
        flat = np.frombuffer(data, np.uint8)
        step = FORMATS[self.format]
        needed = (self.rows - 1) * self.pitch + self.width * step
        if flat.size < needed:
            raise InputError(
                f"{flat.size} bytes are less than the {needed} of {self.width}x{self.height} {self.format} pixels: "
                "check its size and pitch"
            )
        shape, strides = (self.rows, self.width, step), (self.pitch, step, 1)
        array = np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)
        return array if step > 1 else array[..., 0]


class Shaped(Protocol):
    """What has a shape and a type: an array in host or GPU memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


def frame_size(frame: Shaped, format: str) -> tuple[int, int]:
    """Width and height in pixels of a frame given as an array, see ``Layout.view`` for the shapes.

    Raises:
        InputError: The array is no frame of this format.
    """
    step = FORMATS.get(format, 0)
    wanted = {1: "[H, W]", 3: "[H, W, 3]", 4: "[H, W, 4]"}.get(step, "")
    if format == "nv12":
        wanted = "[H * 3 / 2, W]"
    shape = frame.shape
    fits = len(shape) == (2 if step == 1 else 3) and (step == 1 or shape[2] == step)
    if format == "nv12" and fits:
        fits = shape[0] % 3 == 0
    if step and (frame.dtype != np.uint8 or not fits):
        raise InputError(
            f"a frame in {format} is uint8 {wanted}, this is {frame.dtype} {list(shape)}: name its own format"
        )
    height, width = shape[:2] if step else (1, 1)
    layout = Layout(width, height * 2 // 3 if format == "nv12" else height, format)
    return layout.width, layout.height


def rgb(frame: NDArray[np.uint8], format: str, rows: slice, columns: slice) -> NDArray[np.uint8]:
    """A part of a frame as RGB; alpha is dropped.

    Args:
        frame: As ``frame_size`` has accepted it.
        format: One of ``FORMATS``.
        rows: Of the picture, with start and stop.
        columns: Likewise.

    Returns:
        uint8 [rows, columns, 3], or [rows, columns, 1] of a mono8 frame.
    """
    if format == "nv12":
        return _nv12(frame, rows, columns)
    part = frame[rows, columns]
    if format == "mono8":
        return part[..., None]
    return part[..., ::-1] if format == "bgr8" else part[..., :3]


def _nv12(frame: NDArray[np.uint8], rows: slice, columns: slice) -> NDArray[np.uint8]:
    height = frame.shape[0] * 2 // 3
    pairs = frame[height:].reshape(height // 2, -1, 2)
    down = np.arange(rows.start, rows.stop) // 2
    across = np.arange(columns.start, columns.stop) // 2
    chroma = pairs[down[:, None], across].astype(np.int32) - 128
    u, v = chroma[..., 0], chroma[..., 1]
    c = 298 * (frame[rows, columns].astype(np.int32) - 16) + 128
    sums = (c + 409 * v, c - 100 * u - 208 * v, c + 516 * u)
    pixels: NDArray[np.uint8] = np.clip(np.stack(sums, axis=-1) >> 8, 0, 255).astype(np.uint8)
    return pixels
