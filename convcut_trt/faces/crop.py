"""Cuts the faces out of a picture that is in host memory already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcut_trt.preprocess import crops, resize_image


def cut_faces(
    picture: NDArray[np.uint8], boxes: NDArray[np.float64], size: int, margin: float
) -> NDArray[np.uint8]:
    """The faces of one picture as ``ModelSpec.face`` cuts them, without touching the rest of the picture.

    Args:
        picture: uint8 RGB [H, W, 3].
        boxes: [N, 4] of at least one face: x, y, width, height in pixels.
        size: Side of a face in the result, in pixels.
        margin: See ``preprocess.crop_box``.

    Returns:
        uint8 RGB [N, size, size, 3].

    Raises:
        InputError: A box has no area, or is not in the picture.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    data = np.ascontiguousarray(picture).reshape(-1)
    squares = crops(boxes, width, height, margin)
    batch = np.empty((len(boxes), size, size, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(squares.tolist()):
        # What the bilinear filter sees beyond the crop: half an output pixel, or one of the source.
        reach = max((right - left) / size, 1.0) + 1
        x, y = max(0, int(left - reach)), max(0, int(top - reach))
        # A column more than there are rows, where the picture has one: what is wide is resized in one call.
        wide, high = (
            min(width, int(right + reach) + 2) - x,
            min(height, int(bottom + reach) + 1) - y,
        )
        start = (y * width + x) * 3
        rows = data[start : start + ((high - 1) * width + wide) * 3]
        part = Image.frombuffer("RGB", (wide, high), rows, "raw", "RGB", width * 3, 1)
        face = resize_image(part, size, (left - x, top - y, right - x, bottom - y))
        batch[number] = np.frombuffer(face.tobytes(), np.uint8).reshape(size, size, 3)
    return batch
