"""An application beside a session: arrays of its own on the same GPU, filled and read on a stream of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.gpu import dlpack
from convcut_trt.gpu.arrays import wait
from convcut_trt.gpu.driver import Cuda
from tests.gpu.fake_cuda import FakeCuda, ok

LEGACY, PER_THREAD = 1, 2
# What no call may do whose results stay on the GPU.
WAITS = ("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize", "cuStreamQuery")


class Interface:
    """An array with ``__cuda_array_interface__``; ``extra`` are its fields beside the usual ones."""

    def __init__(
        self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], **extra: Any
    ) -> None:
        self.address, self.shape, self.dtype = address, shape, dtype
        self._extra = extra

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3 if "stream" in self._extra else 2,
            **self._extra,
        }


class Exporter:
    """An array with ``__dlpack__``, used on ``stream`` by its owner."""

    def __init__(
        self,
        cuda: Cuda,
        stream: int,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        device: int = 0,
    ) -> None:
        self.address, self.shape, self.dtype = address, shape, dtype
        self._cuda, self._stream, self._device = cuda, stream, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        with self._cuda:
            wait(self._cuda, self._stream, LEGACY if stream is None else stream)
        return dlpack.give(self.address, self._device, self.shape, self.dtype, self)


class Both(Exporter):
    """As torch's: DLPack says how to wait, so the interface, which is wrong here, is not to be asked."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": "<u1", "data": (16, False), "version": 2}


class Application:
    """Work on one stream. Its copies run as late as the fake driver lets them.

    Attributes:
        cuda: The GPU.
        stream: Handle of its own stream.
    """

    def __init__(self, fake: FakeCuda) -> None:
        self._fake = fake
        self.cuda = Cuda()
        ok(fake.cuCtxPushCurrent(self.cuda.context))
        self.stream = int(ok(fake.cuStreamCreate(fake.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        self._addresses: list[int] = []

    def memory(self, size: int) -> int:
        """Device memory, full of 0xFF."""
        address = int(ok(self._fake.cuMemAlloc(max(size, 1))))
        self._addresses.append(address)
        return address

    def upload(self, array: NDArray[Any], stream: int) -> int:
        """Device memory that work on a stream fills, later."""
        address = self.memory(array.nbytes)
        ok(self._fake.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, stream))
        return address

    def overwrite(self, address: int, size: int, stream: int) -> None:
        """Work on a stream that fills device memory with what nobody expects."""
        ok(self._fake.cuMemsetD8Async(address, 0x5A, size, stream))

    def read(self, array: Any, stream: int) -> NDArray[np.float32]:
        """What one of our arrays holds for work on a stream of the caller's; nothing else is waited for."""
        values = np.empty(array.shape, np.float32)
        ok(
            self._fake.cuMemcpyDtoHAsync(values.ctypes.data, array.address, values.nbytes, stream)
        )  # to pageable memory: it waits for the stream
        return values

    def import_interface(self, array: Any) -> NDArray[np.float32]:
        """As a library does it that takes ``__cuda_array_interface__``."""
        fields = array.__cuda_array_interface__
        assert fields["version"] == 3
        assert (fields["typestr"], fields["strides"]) == ("<f4", None)
        wait(self.cuda, fields["stream"], self.stream)
        return self.read(Interface(fields["data"][0], fields["shape"], array.dtype), self.stream)

    def import_dlpack(self, array: Any, **stream: int | None) -> NDArray[np.float32]:
        """As a library does it that takes ``__dlpack__``; it then uses what it was told of."""
        assert array.__dlpack_device__() == (dlpack.CUDA, 0)
        content = dlpack.take(array.__dlpack__(**stream))
        used = stream.get("stream")
        taken = Interface(content.address, content.shape, content.dtype)
        values = self.read(taken, self.stream if used == -1 else used or LEGACY)
        content.release()
        return values

    def interface(self, array: NDArray[Any], on: int, **extra: Any) -> Interface:
        """An array that is filled on a stream, later."""
        return Interface(self.upload(array, on), array.shape, array.dtype, **extra)

    def exporter(
        self, array: NDArray[Any], stream: int, kind: type[Exporter] = Exporter
    ) -> Exporter:
        """The same, for DLPack."""
        return kind(self.cuda, stream, self.upload(array, stream), array.shape, array.dtype)

    def forget(self) -> None:
        """Waits for everything and frees its memory."""
        ok(self._fake.cuCtxSynchronize())
        while self._addresses:
            ok(self._fake.cuMemFree(self._addresses.pop()))

    def close(self) -> None:
        """Frees all of it."""
        self.forget()
        ok(self._fake.cuStreamDestroy(self.stream))
        ok(self._fake.cuCtxPopCurrent())
        del self.cuda


def waits(cuda: FakeCuda) -> int:
    """How often the host waited so far."""
    return sum(cuda.calls[name] for name in WAITS)


@contextmanager
def application(cuda: FakeCuda) -> Iterator[Application]:
    """One that closes."""
    made = Application(cuda)
    try:
        yield made
    finally:
        made.close()


def size_of(array: Any) -> int:
    """Bytes of an array's elements."""
    size: int = math.prod(array.shape) * array.dtype.itemsize
    return size
