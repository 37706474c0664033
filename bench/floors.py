"""What no kernel can beat on a GPU: the formulas of the header comments of ``tail.cuh`` and ``preprocess.cuh``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.turns import Meter
from convcut_trt.frames import Layout
from convcut_trt.gpu.resources import Resources
from convcut_trt.kernels.tail import FLOAT, Tail

COPY_BYTES = 1 << 28  # beyond every cache
_COPIES = 15
_PIXEL = {"rgb8": 3.0, "bgr8": 3.0, "rgba8": 4.0, "mono8": 1.0, "nv12": 1.5}
_EXPONENTIALS = (
    16  # a clock of a multiprocessor: CUDA C++ programming guide, arithmetic instructions
)
# FP32 multiply-adds a clock of a multiprocessor, same table.
_MULTIPLY_ADDS = {(7, 5): 64, (8, 0): 64}
_MULTIPLY_ADDS_NEWER = 128


@dataclass(frozen=True)
class Ceilings:
    """What a GPU can do.

    Attributes:
        capability: (major, minor).
        multiprocessors: How many.
        sm_mhz: Their clock while it was measured; None where it cannot be read.
        bytes_per_us: Of memory, read and written, measured by a large copy.
    """

    capability: tuple[int, int]
    multiprocessors: int
    sm_mhz: float | None
    bytes_per_us: float


def bandwidth(meter: Meter) -> float:
    """Bytes a microsecond that a large copy on the GPU reads and writes. The context has to be current."""
    cuda, stream = meter.cuda, meter.stream.handle
    resources = Resources(cuda)
    try:
        source, target = resources.device(COPY_BYTES), resources.device(COPY_BYTES)
        answer = cuda.api.cuMemsetD8Async(source, 0x5A, COPY_BYTES, stream)
        cuda.check(answer, "cuMemsetD8Async")

        def copy() -> None:
            answer = cuda.api.cuMemcpyDtoDAsync(target, source, COPY_BYTES, stream)
            cuda.check(answer, "cuMemcpyDtoDAsync")

        times = [meter.on_gpu(copy, 1) for _ in range(_COPIES)]
    finally:
        resources.close()
    return 2 * COPY_BYTES / float(np.median(times))


def tail_floor(tail: Tail, faces: int, element: int, ceilings: Ceilings) -> dict[str, Any]:
    """Microseconds that arithmetic and memory of a batch need, without the launch.

    Args:
        tail: The shape.
        faces: N, one block each.
        element: Bytes of a value of the map.
        ceilings: Of the GPU.
    """
    channels, positions, width = tail.map_shape[0], tail.positions, tail.width
    exponentials, multiply_adds = tail.classes, channels * positions + width * tail.classes
    multiply_adds += channels * tail.units
    if tail.attention == "channel":
        exponentials += width * width
        multiply_adds += 4 * width * width
    if tail.attention == "spatial":
        exponentials += positions * positions
        multiply_adds += positions * (positions + 1) // 2 * channels
    lanes = _MULTIPLY_ADDS.get(ceilings.capability, _MULTIPLY_ADDS_NEWER)
    clocks = max(exponentials / _EXPONENTIALS, multiply_adds / lanes)
    busiest = -(-faces // ceilings.multiprocessors)  # faces of the busiest multiprocessor
    moved = faces * (channels * positions * element + 2 * tail.classes * FLOAT) + tail.pack().nbytes
    return {
        "arithmetic_us": _rounded(
            None if ceilings.sm_mhz is None else busiest * clocks / ceilings.sm_mhz
        ),
        "bandwidth_us": _rounded(moved / ceilings.bytes_per_us),
    }


def faces_floor(
    layout: Layout, crops: NDArray[np.float32], size: int, ceilings: Ceilings
) -> dict[str, Any]:
    """Microseconds that the memory of N faces needs: every crop read once, every face written once."""
    sides = (crops[:, 2:] - crops[:, :2]).astype(np.float64)
    moved = float(sides.prod(axis=1).sum()) * _PIXEL[layout.format] + len(crops) * 3 * size * size
    return {"arithmetic_us": None, "bandwidth_us": _rounded(moved / ceilings.bytes_per_us)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
