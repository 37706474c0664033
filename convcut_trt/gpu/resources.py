"""What a piece of GPU work owns: memory and modules, freed together and in reverse order."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.gpu.driver import Cuda


class Resources:
    """Everything taken through it is freed by ``close``, the last first. Not thread-safe but for ``close``."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._undo: list[Callable[[], object]] = []
        self._closing = threading.Lock()

    def device(self, size: int) -> int:
        """Device memory: its address, aligned to 256 bytes at least. The context has to be current.

        Args:
            size: Bytes.
        """
        api, size = self._cuda.api, max(size, 1)
        address = int(self._cuda.check(api.cuMemAlloc(size), f"cuMemAlloc of {size} bytes"))
        self._undo.append(lambda: api.cuMemFree(address))
        return address

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory, uint8 [size]: the GPU copies from and to it on its own."""
        api, size = self._cuda.api, max(size, 1)
        answer = api.cuMemHostAlloc(size, 0)
        address = int(self._cuda.check(answer, f"cuMemHostAlloc of {size} bytes"))
        self._undo.append(lambda: api.cuMemFreeHost(address))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def module(self, image: bytes) -> Any:
        """A module of kernels from a cubin or fatbin."""
        api = self._cuda.api
        module = self._cuda.check(api.cuModuleLoadData(image), "cuModuleLoadData")
        self._undo.append(lambda: api.cuModuleUnload(module))
        return module

    def owns(self, close: Callable[[], object]) -> None:
        """``close`` is called in its turn."""
        self._undo.append(close)

    def close(self) -> None:
        """Frees everything; what the driver answers is of no use to anybody. A second call does nothing."""
        with self._closing:
            undo, self._undo = self._undo, []
        if not undo or self._cuda.forked:  # a fork's memory is its parent's
            return
        with self._cuda.for_freeing():
            for free in reversed(undo):
                free()
