"""The preprocessing kernel on a GPU: face boxes of one camera frame to the engine's batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import Layout
from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.kernels import Kernels, Launch
from convcut_trt.gpu.resources import Resources
from convcut_trt.kernels import preprocess

_BOX_BYTES = 16  # float4


class DeviceFaces:
    """Crops, resizes and lays out faces on one GPU. Not thread-safe; the context has to be current."""

    def __init__(
        self, cuda: Cuda, size: int, most: int, kernels: Kernels, resources: Resources
    ) -> None:
        """Takes memory for the crops.

        Args:
            cuda: The GPU.
            size: Side of a face in the batch, in pixels.
            most: Faces in one call at most.
            kernels: Where the kernel comes from.
            resources: Who frees the memory.
        """
        self._cuda = cuda
        self._size = size
        self._most = most
        self._kernels = kernels
        self._crops = resources.device(most * _BOX_BYTES)

    def enqueue(
        self,
        stream: Any,
        layout: Layout,
        boxes: Sequence[Sequence[float]] | NDArray[np.floating],
        margin: float,
        *,
        frame_at: int,
        faces_at: int,
        chroma_at: int | None = None,
    ) -> None:
        """Puts copy and kernel on a stream; see ``kernels.preprocess.launch`` for the arguments.

        Raises:
            InputError: A bad address, box or layout, or more boxes than ``most``.
            BackendMissing, BuildError, CudaError: The kernel cannot be had, or the driver refused.
        """
        if len(boxes) > self._most:
            raise InputError(
                f"{len(boxes)} faces where there is room for {self._most}: give them in parts"
            )
        plan = preprocess.launch(
            layout,
            boxes,
            self._size,
            margin,
            frame=frame_at,
            crops_at=self._crops,
            faces_at=faces_at,
            multiprocessors=self._cuda.multiprocessors,
            chroma=chroma_at,
        )
        function = self._kernels.function("preprocess", plan.name, ())
        # From pageable memory: the driver has taken its copy when this returns, so plan.crops may go.
        answer = self._cuda.api.cuMemcpyHtoDAsync(
            self._crops, plan.crops.ctypes.data, plan.crops.nbytes, stream
        )
        self._cuda.check(answer, "cuMemcpyHtoDAsync")
        Launch(self._cuda, function, plan.grid, plan.threads, plan.shared_bytes, plan.arguments)(
            stream
        )
