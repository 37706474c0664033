"""The launch of ``preprocess.cuh``: everything is checked here, on the host, before the GPU sees it."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import Layout
from convcut_trt.preprocess import check_size, crops

THREADS = 256
MOST_FACES = 65535  # blocks of a grid in its third direction
SHARED_BYTES = 48 * 1024  # that every GPU gives to a block
_ALIGNMENT = 16  # of float4


@dataclass(frozen=True)
class Launch:
    """How the kernel is called.

    Attributes:
        name: In ``preprocess.cu``.
        grid: Blocks: tiles across, tiles down, faces.
        threads: A block.
        shared_bytes: Dynamic shared memory of a block, at most ``SHARED_BYTES``.
        crops: float32 [N, 4], to be copied to the address given for them, ahead of the kernel.
        arguments: In the order of the kernel's parameters.
    """

    name: str
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    crops: NDArray[np.float32]
    arguments: tuple[Any, ...]


def launch(
    layout: Layout,
    boxes: Sequence[Sequence[float]] | NDArray[np.floating],
    size: int,
    margin: float = 0.0,
    *,
    frame: int,
    crops_at: int,
    faces_at: int,
    multiprocessors: int,
    chroma: int | None = None,
) -> Launch:
    """Plans one launch for all faces of a frame, and refuses what the kernel cannot do.

    Args:
        layout: Of the frame in device memory.
        boxes: N faces as (x, y, width, height) in pixels.
        size: Side of a face in the result, in pixels.
        margin: See ``preprocess.crop_box``.
        frame: Device address of the frame, of the luma with nv12.
        crops_at: Device address of 16 * N bytes.
        faces_at: Device address of the result, uint8 [N, size, size, 3].
        multiprocessors: Of the GPU: that many blocks at least, where the faces can be cut so fine.
        chroma: Device address of nv12's U, V rows; None where they follow the luma at the same pitch.

    Raises:
        InputError: A null or misaligned address, no box, a bad one, or too many.
    """
    check_size(size)
    if layout.format != "nv12":
        chroma = frame
    elif chroma is None:
        chroma = frame + layout.height * layout.pitch if frame else 0
    for address, name in ((frame, "frame"), (chroma, "chroma"), (faces_at, "faces")):
        if address <= 0:
            raise InputError(f"the address of the {name} is null: allocate device memory first")
    if crops_at <= 0 or crops_at % _ALIGNMENT:
        raise InputError(
            f"the crops lie at {crops_at:#x}: give device memory aligned to {_ALIGNMENT} bytes"
        )
    squares = crops(boxes, layout.width, layout.height, margin)
    if len(squares) > MOST_FACES:
        raise InputError(f"{len(squares)} faces in one launch: give at most {MOST_FACES}")
    channels = 1 if layout.format == "mono8" else 3
    rows, columns, taps = _tile(squares, size, channels, multiprocessors)
    pointers = (ctypes.c_void_p(address) for address in (crops_at, faces_at))
    return Launch(
        name=f"preprocess_{layout.format}",
        grid=(-(-size // columns), -(-size // rows), len(squares)),
        threads=THREADS,
        shared_bytes=_shared_bytes(_scale(squares, size), rows, columns, channels),
        crops=squares,
        arguments=(
            ctypes.c_void_p(frame),
            ctypes.c_void_p(chroma),
            ctypes.c_longlong(layout.pitch),
            ctypes.c_int(layout.width),
            ctypes.c_int(layout.height),
            *pointers,
            *(ctypes.c_int(number) for number in (size, rows, columns, taps)),
        ),
    )


def _scale(squares: NDArray[np.float32], size: int) -> float:
    """Source pixels to an output pixel, of the largest crop, as the kernel computes it."""
    return float((squares[:, 2:] - squares[:, :2]).max()) / size


def _taps(scale: float) -> int:
    """Weights of an output pixel at most, an odd number."""
    return 2 * math.ceil(max(scale, 1.0)) + 1


def _shared_bytes(scale: float, rows: int, columns: int, channels: int) -> int:
    """Of a block, see ``preprocess.cuh``."""
    lines = math.ceil((rows - 1) * scale + 2 * max(scale, 1.0) + 1)
    return (rows + columns) * (32 + 4 * _taps(scale)) + lines * columns * channels


def _tile(
    squares: NDArray[np.float32], size: int, channels: int, multiprocessors: int
) -> tuple[int, int, int]:
    """Rows, columns and taps of a tile: whole rows, and as many as leave work for every multiprocessor.

    A tile computes the weights of its columns anew, in double, which most GPUs are slow at: few tall tiles.
    """
    scale = _scale(squares, size)
    rows, columns = min(16, size), size
    while rows > 2 and len(squares) * -(-size // rows) < multiprocessors:
        rows //= 2
    while _shared_bytes(scale, rows, columns, channels) > SHARED_BYTES:
        if rows > 2 or columns == 1 < rows:
            rows //= 2
        elif columns > 1:
            columns = -(-columns // 2)
        else:
            raise InputError(
                f"a crop is {scale:.0f} times as large as a face of {size} pixels: use preprocess.faces"
            )
    return rows, columns, _taps(scale)
