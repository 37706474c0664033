"""Memory and a stream on a fake GPU, for the tests of the fakes."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import driver
from numpy.typing import NDArray

from tests.gpu.fake_cuda import FakeCuda, ok

CUresult = driver.CUresult
NON_BLOCKING = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
THREAD_LOCAL = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
LEGACY = 0
SIZE = 64


class Buffers:
    """Pinned memory for both ways, device memory between, one stream."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.source, self.target = pinned(cuda, 5), pinned(cuda, 0)
        self.device = ok(cuda.cuMemAlloc(SIZE))
        self.stream = ok(cuda.cuStreamCreate(NON_BLOCKING))

    def copy_in(self) -> Any:
        at = self.source.ctypes.data
        return self.cuda.cuMemcpyHtoDAsync(self.device, at, SIZE, self.stream)[0]

    def copy_out(self, stream: Any = None) -> Any:
        stream = self.stream if stream is None else stream
        at = self.target.ctypes.data
        return self.cuda.cuMemcpyDtoHAsync(at, self.device, SIZE, stream)[0]


def pinned(cuda: FakeCuda, value: int) -> NDArray[np.uint8]:
    address = ok(cuda.cuMemHostAlloc(SIZE, 0))
    array = np.ctypeslib.as_array((ctypes.c_uint8 * SIZE).from_address(address))
    assert (array == 0xFF).all()  # poison
    array[:] = value
    return array


def captured(buffers: Buffers, mode: Any = THREAD_LOCAL) -> Any:
    """An executable graph of both copies."""
    cuda = buffers.cuda
    ok(cuda.cuStreamBeginCapture(buffers.stream, mode))
    assert buffers.copy_in() == buffers.copy_out() == CUresult.CUDA_SUCCESS
    graph = ok(cuda.cuStreamEndCapture(buffers.stream))
    executable = ok(cuda.cuGraphInstantiate(graph, 0))
    ok(cuda.cuGraphDestroy(graph))
    return executable


def on_device(cuda: FakeCuda, array: NDArray[Any]) -> int:
    address = ok(cuda.cuMemAlloc(array.nbytes))
    ok(cuda.cuMemcpyHtoD(address, array.ctypes.data, array.nbytes))
    return int(address)


def from_device(cuda: FakeCuda, address: int, array: NDArray[Any]) -> NDArray[Any]:
    ok(cuda.cuMemcpyDtoH(array, address, array.nbytes))
    return array


def in_a_thread(call: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]
