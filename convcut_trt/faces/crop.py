"""Cuts the faces out of a picture that is in host memory already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convcut_trt.preprocess import crops, resize


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
    height, width = picture.shape[:2]
    batch = np.empty((len(boxes), size, size, 3), np.uint8)
    for face, square in zip(batch, crops(boxes, width, height, margin), strict=True):
        left, top, right, bottom = square.tolist()
        # What the bilinear filter sees beyond the crop: half an output pixel, or one of the source.
        reach = max((right - left) / size, 1.0) + 1
        x, y = max(0, int(left - reach)), max(0, int(top - reach))
        part = picture[y : int(bottom + reach) + 1, x : int(right + reach) + 1]
        face[...] = resize(part, size, box=(left - x, top - y, right - x, bottom - y))
    return batch
