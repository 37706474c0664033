"""Arrays in GPU memory: other libraries' taken as they are, ours given to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from convcut_trt.errors import InputError
from convcut_trt.gpu import dlpack
from convcut_trt.gpu.driver import Cuda, Stream, free, when_gone

LEGACY = 1  # number of the legacy default stream in __cuda_array_interface__ and __dlpack__


def on_device(array: object) -> bool:
    """Whether something is an array in GPU memory: its library says so."""
    if hasattr(array, "__cuda_array_interface__"):
        return True
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and device()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED)


class DeviceView:
    """Another library's contiguous array, kept alive. Slices of the first axis are views too.

    Attributes:
        address: Of the first element.
        shape: Of the array.
        dtype: Of its elements.
        stream: Handle of the stream its owner works on; None where that is not known or of no matter.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        stream: int | None,
        keep: object,
    ) -> None:
        self.address = address
        self.shape = shape
        self.dtype = dtype
        self.stream = stream
        self._keep = keep

    @property
    def nbytes(self) -> int:
        """Of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int, stop: int) -> DeviceView:
        """Of the first axis."""
        stop = min(stop, len(self))
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (stop - start, *self.shape[1:])
        return DeviceView(self.address + start * step, shape, self.dtype, self.stream, self)


def view(array: object, cuda: Cuda, stream: int) -> DeviceView:
    """Takes another library's array: ``__dlpack__``, else ``__cuda_array_interface__``.

    Args:
        array: Of torch, cupy, numba, pycuda, jax, jetson-utils ... on the GPU of ``cuda``.
        cuda: The GPU.
        stream: Handle of ours, for ``__dlpack__``: the array is ready for what is put there next.

    Raises:
        InputError: Not contiguous, on another GPU, or not in GPU memory.
    """
    found, strides = _take(array, cuda, stream)
    if not _contiguous(found.shape, strides, found.dtype.itemsize):
        raise InputError("the array is not contiguous: make a contiguous copy of it first")
    return found


def pitched(array: object, cuda: Cuda, stream: int) -> tuple[DeviceView, int]:
    """Takes another library's picture, whose rows may have gaps between them; see ``view``.

    Returns:
        The picture, and the bytes from the start of one row to the start of the next.

    Raises:
        InputError: As ``view``, or pixels of a row do not follow one another.
    """
    found, strides = _take(array, cuda, stream)
    row = found.shape[1:]
    if not row or not _contiguous(row, strides[1:], found.dtype.itemsize) or strides[0] < 0:
        raise InputError(
            "the pixels of a row do not follow one another: give the frame as it is in memory, not a view of it"
        )
    return found, strides[0]


def _take(array: object, cuda: Cuda, stream: int) -> tuple[DeviceView, tuple[int, ...]]:
    """An array and its strides in bytes."""
    strides: tuple[int, ...] | None
    give: Callable[..., object] | None = getattr(array, "__dlpack__", None)
    if not on_device(array):
        raise InputError(
            f"{type(array).__name__} is no array in GPU memory: give one with __dlpack__ or "
            "__cuda_array_interface__, or a numpy array"
        )
    if give is not None:  # it says how to wait, which the other leaves open for torch
        content = dlpack.take(give(stream=stream))
        keep = _Released(content.release)
        shape, dtype, strides = content.shape, content.dtype, content.strides
        found = DeviceView(content.address, shape, dtype, None, keep)
        if content.device != cuda.ordinal:
            raise InputError(
                f"the array is on GPU {content.device}, the engine on GPU {cuda.ordinal}: move it"
            )
    else:
        interface: dict[str, Any] = array.__cuda_array_interface__  # type: ignore[attr-defined]
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides")
        found = DeviceView(
            int(interface["data"][0] or 0), shape, dtype, interface.get("stream"), array
        )
    return found, tuple(strides or dlpack.contiguous_strides(shape, dtype.itemsize))


class DeviceArray:
    """Our array in GPU memory, the caller's own: it lives as long as anybody uses it.

    Give it to any library that takes ``__cuda_array_interface__`` or ``__dlpack__``: both make its stream wait for
    ours. ``numpy()`` waits itself.

    Attributes:
        shape: Of the array.
        dtype: Of its elements.
        address: Of the first element.
    """

    def __init__(
        self, cuda: Cuda, shape: tuple[int, ...], dtype: DTypeLike, stream: Stream
    ) -> None:
        """Takes memory. The context has to be current.

        Args:
            cuda: The GPU.
            shape: Of the array.
            dtype: Of its elements.
            stream: The one on which it is filled.
        """
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._cuda = cuda
        self._stream = stream
        size = max(self.nbytes, 1)
        self.address = int(cuda.check(cuda.api.cuMemAlloc(size), f"cuMemAlloc of {size} bytes"))
        when_gone(self, free, cuda, cuda.api.cuMemFree, self.address)

    @property
    def nbytes(self) -> int:
        """Of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html"""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": int(self._stream),
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._cuda.ordinal

    def __dlpack__(self, *, stream: int | None = None, **_: object) -> object:
        """A capsule; ``stream`` (None: the legacy default one, -1: none) waits for what fills the array."""
        if stream != -1:
            with self._cuda:
                wait(self._cuda, self._stream.handle, LEGACY if stream is None else stream)
        return dlpack.give(self.address, self._cuda.ordinal, self.shape, self.dtype, self)

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy in host memory."""
        result = np.empty(self.shape, self.dtype)
        with self._cuda as cuda:
            answer = cuda.api.cuMemcpyDtoHAsync(
                result.ctypes.data, self.address, self.nbytes, self._stream.handle
            )
            cuda.check(answer, "cuMemcpyDtoHAsync")
            cuda.synchronize(self._stream.handle)
        return result


def wait(cuda: Cuda, first: Any, then: Any) -> None:
    """Makes what is put on ``then`` wait for what is on ``first`` by now; the host goes on. Handles or numbers."""
    api = cuda.api
    flag = api.CUevent_flags.CU_EVENT_DISABLE_TIMING
    event = cuda.check(api.cuEventCreate(flag), "cuEventCreate")
    try:
        cuda.check(api.cuEventRecord(event, first), "cuEventRecord")
        cuda.check(api.cuStreamWaitEvent(then, event, 0), "cuStreamWaitEvent")
    finally:
        api.cuEventDestroy(event)  # the driver keeps it until it is over


class _Released:
    """Calls ``release`` when nobody holds this any more."""

    def __init__(self, release: Callable[[], None]) -> None:
        when_gone(self, release)


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    if 0 in shape:
        return True
    wanted = dlpack.contiguous_strides(shape, itemsize)
    pairs = zip(shape, strides, wanted, strict=True)
    return all(size == 1 or step == want for size, step, want in pairs)  # numpy's rule too
