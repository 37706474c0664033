"""The one rule by which a face in a picture becomes a square of network input, in training and on the robot.

Crop: the square around the box's centre, its side the box's longer side times ``1 + 2 * margin``; a square
larger than the frame shrinks to the frame's shorter side, and one that leans over an edge is shifted inside,
so that no pixel is invented and no aspect ratio changes. Resize: Pillow's ``resize(BILINEAR, box=...)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError

Box = tuple[float, float, float, float]


def crop_box(box: Sequence[float] | None, width: int, height: int, margin: float = 0.0) -> Box:
    """The square (left, top, right, bottom), in pixels, that is cut out for a face box.

    Args:
        box: (x, y, width, height) of the face in pixels, fractions allowed; None is the whole frame.
        width: Frame width in pixels.
        height: Frame height in pixels.
        margin: Share of the box's longer side that is added on every side.

    Raises:
        InputError: The box is not finite, has no area, or lies outside the frame.
    """
    if box is not None and len(box) != 4:
        raise InputError(f"face box {box} has {len(box)} numbers: give x, y, width, height")
    x, y, box_width, box_height = (0, 0, width, height) if box is None else map(float, box)
    if (
        not all(map(math.isfinite, (x, y, box_width, box_height)))
        or box_width <= 0
        or box_height <= 0
    ):
        raise InputError(f"face box {box} has no area: give x, y, width, height in pixels")
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        raise InputError(f"face box {box} lies outside the {width}x{height} picture")
    side = min(max(box_width, box_height) * (1 + 2 * margin), width, height)
    left = min(max(x + box_width / 2 - side / 2, 0.0), width - side)
    top = min(max(y + box_height / 2 - side / 2, 0.0), height - side)
    return left, top, left + side, top + side


def resize(
    picture: NDArray[np.uint8], size: int, *, box: Box | None = None, grey: bool = False
) -> NDArray[np.uint8]:
    """Cuts ``box`` out of a picture and resizes it.

    Args:
        picture: uint8 [H, W] (grey) or [H, W, 3] (RGB).
        size: Side of the result in pixels.
        box: (left, top, right, bottom) in pixels, fractions allowed; None is the whole picture.
        grey: Result with one channel, luma by ITU-R 601; else three.

    Returns:
        uint8 [size, size, 1 or 3].

    Raises:
        InputError: The array is no picture.
    """
    from PIL import Image

    check_picture(picture)
    mode = "L" if grey else "RGB"
    image = Image.fromarray(picture)
    if image.mode != mode:
        image = image.convert(mode)
    if box is not None or image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(size, size, 1 if grey else 3)


def check_picture(picture: NDArray[np.uint8]) -> None:
    """Refuses anything but uint8 [H, W] (grey) or [H, W, 3] (RGB).

    Raises:
        InputError: What is wrong, and what to pass instead.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.size == 0:
        raise InputError(
            f"a picture is uint8 [H, W, 3] or [H, W], this is {picture.dtype} {list(picture.shape)}"
        )
    if picture.ndim == 3 and picture.shape[2] != 3:
        raise InputError(f"a colour picture has 3 channels (RGB), this one has {picture.shape[2]}")
