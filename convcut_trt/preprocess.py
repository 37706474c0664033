"""The one rule by which a face in a picture becomes a square of network input, in training and on the robot.

Crop: the square around the box's centre, its side the box's longer side times ``1 + 2 * margin``; a square
larger than the frame shrinks to the frame's shorter side, and one that leans over an edge is shifted inside,
so that no pixel is invented and no aspect ratio changes. Resize: Pillow's ``resize(BILINEAR, box=...)``, first
along the rows, then along the columns, each pass rounded to 8 bits. (Pillow 13 turns the passes around in a
picture much taller than wide, which moves pixels by one level; the rule does not.)

``resize`` calls Pillow. ``faces`` cuts many faces out of a camera frame, which Pillow would first copy whole
for every face: it computes Pillow's integers itself (``weights``, ``_pass``), and ``kernels/preprocess.cuh``
does the same on a GPU. The tests hold the three equal, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import frame_size, rgb

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[float, float, float, float]
BITS = 22  # of a weight's fraction: Pillow's PRECISION_BITS, 32 less 8 for the pixel and 2 to spare
_COLUMNS = 16  # outputs to one matrix product: few enough that little of the matrix is zero


def crop_box(box: Sequence[float] | None, width: int, height: int, margin: float = 0.0) -> Box:
    """The square (left, top, right, bottom), in pixels, that is cut out for a face box.

    Args:
        box: (x, y, width, height) of the face in pixels, fractions allowed; None is the whole frame.
        width: Frame width in pixels.
        height: Frame height in pixels.
        margin: Share of the box's longer side that is added on every side.

    Raises:
        InputError: The box is not finite, has no area, or lies outside the frame; or a bad margin.
    """
    if not 0 <= margin < math.inf:
        raise InputError(f"crop margin {margin} is not a share: give 0 or more, like 0.1")
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


def crops(
    boxes: Sequence[Sequence[float]] | NDArray[np.floating], width: int, height: int, margin: float
) -> NDArray[np.float32]:
    """``crop_box`` of every face, in the precision in which Pillow takes a box.

    Returns:
        float32 [N, 4]: left, top, right, bottom.

    Raises:
        InputError: A box is bad, or there is none.
    """
    if len(boxes) == 0:
        raise InputError("no face boxes: skip a frame in which no face was found")
    try:
        rows = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"face boxes are no rows of 4 numbers ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InputError(
            f"face boxes are {list(rows.shape)}: give [N, 4], a row of x, y, width, height for each face"
        )
    squares = [crop_box(row, width, height, margin) for row in rows.tolist()]
    return np.array(squares, np.float32)


def faces(
    frame: NDArray[np.uint8],
    boxes: Sequence[Sequence[float]] | NDArray[np.floating],
    size: int,
    margin: float = 0.0,
    format: str = "rgb8",
) -> NDArray[np.uint8]:
    """Cuts all faces out of one camera frame: the twin of ``kernels/preprocess.cuh``.

    Args:
        frame: uint8 [H, W, 3] or [H, W, 4], [H, W] with mono8, [H * 3 / 2, W] with nv12; rows may have gaps
            between them (see ``frames.Layout.view``).
        boxes: N faces as (x, y, width, height) in pixels, fractions allowed.
        size: Side of a face in the result, in pixels.
        margin: See ``crop_box``.
        format: One of ``frames.FORMATS``. Alpha is dropped, mono8 is repeated into three channels.

    Returns:
        uint8 RGB [N, size, size, 3].

    Raises:
        InputError: The array is no such frame, or a box is bad, or there is none.
    """
    width, height = frame_size(frame, format)
    check_size(size)
    squares = crops(boxes, width, height, margin)
    result = np.empty((len(squares), size, size, 3), np.uint8)
    for (left, top, right, bottom), face in zip(squares, result, strict=True):
        across, down = weights(left, right, width, size), weights(top, bottom, height, size)
        part = rgb(frame, format, down.covered, across.covered)
        lines = part.transpose(0, 2, 1).reshape(-1, part.shape[1])  # [rows * channels, columns]
        narrow = _pass(lines, across).reshape(len(part), -1)  # [rows, channels * size]
        face[...] = _pass(narrow.T, down).reshape(-1, size, size).transpose(2, 1, 0)
    return result


def check_size(size: int) -> None:
    """Refuses a face without pixels.

    Raises:
        InputError: The size is less than 1.
    """
    if size < 1:
        raise InputError(f"faces of {size} pixels a side: give a size of at least 1")


@dataclass(frozen=True)
class Weights:
    """What the source pixels weigh in each output pixel, along one axis.

    Attributes:
        first: int [size], the first source pixel of each output's window; it never decreases.
        taps: int32 [size, T], the weights from there on in units of 2 ** -BITS, zero behind the window's end.
        covered: All source pixels that any output sees.
    """

    first: NDArray[np.intp]
    taps: NDArray[np.int32]
    covered: slice


def weights(start: np.float32, stop: np.float32, length: int, size: int) -> Weights:
    """Pillow's bilinear weights (libImaging/Resample.c: precompute_coeffs, normalize_coeffs_8bpc).

    A triangle around each output's centre, half as wide as ``support``: one output pixel when shrinking, one
    source pixel when enlarging. Every operation is one of IEEE 754 in the order of Pillow's C, in float64 but
    for ``stop - start``, so the integers are equal and not merely close.

    Args:
        start: First edge of the crop, in pixels.
        stop: Last edge of the crop.
        length: Of the source along this axis, in pixels.
        size: Outputs.
    """
    scale = float(stop - start) / size
    support = max(scale, 1.0)
    centre = float(start) + (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    last = np.minimum((centre + support + 0.5).astype(np.intp), length)
    pixel = first[:, None] + np.arange(2 * math.ceil(support) + 1)
    distance = np.abs((pixel - centre[:, None] + 0.5) * (1.0 / support))
    triangle = np.where((distance < 1.0) & (pixel < last[:, None]), 1.0 - distance, 0.0)
    # cumsum and not sum: it adds one after the other, as a loop in C does.
    total = np.cumsum(triangle, axis=1)[:, -1:]
    taps = (0.5 + triangle / total * 2**BITS).astype(np.int32)
    return Weights(first, taps, slice(int(first[0]), int(last[-1])))


def _pass(lines: NDArray[np.generic], along: Weights) -> NDArray[np.float64]:
    """Resizes uint8 [L, covered pixels] along its rows: integers [L, size], rounded as Pillow's clip8 does.

    As matrix products in float64: the sums of whole numbers stay below 2 ** 53, hence exact in any order.
    """
    source = lines.astype(np.float64)
    size, width = along.taps.shape
    result = np.empty((len(lines), size))
    for begin in range(0, size, _COLUMNS):
        first = along.first[begin : begin + _COLUMNS] - along.covered.start
        matrix = np.zeros((first[-1] - first[0] + width, len(first)))
        outputs = np.arange(len(first))
        matrix[(first - first[0])[:, None] + np.arange(width), outputs[:, None]] = along.taps[
            begin : begin + _COLUMNS
        ]
        window = source[:, first[0] : first[0] + len(matrix)]
        np.matmul(window, matrix[: window.shape[1]], out=result[:, begin : begin + _COLUMNS])
    rounded: NDArray[np.float64] = np.floor((result + 2 ** (BITS - 1)) * 2.0**-BITS)
    return np.minimum(rounded, 255.0)


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
    from PIL.Image import fromarray

    check_picture(picture)
    mode = "L" if grey else "RGB"
    image = fromarray(picture)
    if image.mode != mode:
        image = image.convert(mode)
    resized = resize_image(image, size, box or (0, 0, *image.size))
    return np.asarray(resized).reshape(size, size, 1 if grey else 3)


def resize_image(image: Image, size: int, box: Box) -> Image:
    """``resize`` of a Pillow image, as one: what a loop calls that must not copy more than it has to."""
    from PIL.Image import Resampling

    left, top, right, bottom = box
    width, height = image.size
    if height > width:
        # Pillow 13 may take the columns first here: a call for each pass keeps the order.
        image = image.resize((size, height), Resampling.BILINEAR, (left, 0, right, height))
        left, right = 0, size
    return image.resize((size, size), Resampling.BILINEAR, (left, top, right, bottom))


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
