"""Stands in for pycuda above a fake driver, with only the names that the adapter and its users need.

There is no ``make_context`` and no ``autoinit``: whoever reaches for them fails. The names are checked against the
real package where that is installed.
"""

from __future__ import annotations

import threading
import weakref
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tests.gpu.fake_calls import SUCCESS
from tests.gpu.fake_cuda import FakeCuda


class CudaFailed(Exception):
    """``pycuda.driver.Error``."""


class Context:
    """A context. pycuda keeps a stack of its own, and only its top on the driver's."""

    cuda: FakeCuda
    _stacks: threading.local

    def __init__(self, handle: int) -> None:
        self.handle = handle

    @classmethod
    def _stack(cls) -> list[Context]:
        stack: list[Context] = cls._stacks.__dict__.setdefault("stack", [])
        return stack

    @classmethod
    def _required(cls) -> Context:
        """The current one, for what lives in it."""
        current = cls.get_current()
        if current is None:
            raise CudaFailed("no currently active context?")
        return current

    @classmethod
    def get_current(cls) -> Context | None:
        """pycuda's own idea of it."""
        stack = cls._stack()
        return stack[-1] if stack else None

    def push(self) -> None:
        """Onto this thread's stack."""
        if self._stack():
            done(self.cuda.cuCtxPopCurrent())
        done(self.cuda.cuCtxPushCurrent(self.handle))
        self._stack().append(self)

    @classmethod
    def pop(cls) -> None:
        """Off this thread's stack."""
        done(cls.cuda.cuCtxPopCurrent())
        cls._stack().pop()
        if cls._stack():
            done(cls.cuda.cuCtxPushCurrent(cls._stack()[-1].handle))


class Device:
    """A GPU."""

    context: type[Context]

    def __init__(self, ordinal: int) -> None:
        self._device = done(self.context.cuda.cuDeviceGet(ordinal))

    def retain_primary_context(self) -> Context:
        """Not pushed; let go of when nobody holds it."""
        cuda = self.context.cuda
        context = self.context(int(done(cuda.cuDevicePrimaryCtxRetain(self._device))))
        weakref.finalize(context, cuda.cuDevicePrimaryCtxRelease, self._device)
        return context


class Stream:
    """A stream in the current context."""

    context: type[Context]

    def __init__(self, flags: int = 0) -> None:
        cuda = self.context.cuda
        self.handle = int(done(cuda.cuStreamCreate(flags)))
        weakref.finalize(self, _free, self.context._required(), "cuStreamDestroy", self.handle)

    def synchronize(self) -> None:
        """Waits for it."""
        done(self.context.cuda.cuStreamSynchronize(self.handle))


class GPUArray:
    """An array in the current context."""

    context: type[Context]

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        gpudata: int | None = None,
        strides: tuple[int, ...] | None = None,
        base: object = None,
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        like = np.empty(shape, self.dtype)
        self.strides, self.size, self.nbytes = strides or like.strides, like.size, like.nbytes
        self.base, self.gpudata = base, gpudata
        if gpudata is None and self.size:
            current = self.context._required()
            self.gpudata = int(done(current.cuda.cuMemAlloc(self.nbytes)))
            weakref.finalize(self, _free, current, "cuMemFree", self.gpudata)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "data": (self.gpudata or 0, False),
            "typestr": self.dtype.str,
            "stream": None,
            "version": 3,
        }

    def set(self, ary: NDArray[Any]) -> None:
        """Copies from the host."""
        if self.size:
            done(self.context.cuda.cuMemcpyHtoD(self.gpudata, ary.ctypes.data, self.nbytes))

    def set_async(self, ary: NDArray[Any], stream: Stream) -> None:
        """Copies from the host, on a stream; the host goes on."""
        cuda, source = self.context.cuda, ary.ctypes.data
        done(cuda.cuMemcpyHtoDAsync(self.gpudata, source, self.nbytes, stream.handle))

    def get(self) -> NDArray[Any]:
        """A copy on the host."""
        result = np.empty(self.shape, self.dtype)
        if self.size:
            done(self.context.cuda.cuMemcpyDtoH(result.ctypes.data, self.gpudata, self.nbytes))
        return result


def done(answer: tuple[Any, ...]) -> Any:
    """What the driver gave back; raises as pycuda does."""
    if answer[0] != SUCCESS:
        raise CudaFailed(answer[0].name)
    return answer[1] if len(answer) > 1 else None


def _free(context: Context, call: str, handle: int) -> None:
    current = context.get_current()
    switch = current is None or current.handle != context.handle
    if switch:
        done(context.cuda.cuCtxPushCurrent(context.handle))
    getattr(context.cuda, call)(handle)  # the real one has no answer to a failure either
    if switch:
        done(context.cuda.cuCtxPopCurrent())


def modules(cuda: FakeCuda) -> dict[str, ModuleType]:
    """``pycuda.driver`` and ``pycuda.gpuarray`` above a driver, for ``sys.modules``."""
    context = type("Context", (Context,), {"cuda": cuda, "_stacks": threading.local()})
    driver, gpuarray = ModuleType("pycuda.driver"), ModuleType("pycuda.gpuarray")
    for module, kind in ((driver, Device), (driver, Stream), (gpuarray, GPUArray)):
        setattr(module, kind.__name__, type(kind.__name__, (kind,), {"context": context}))
    driver.Context = context  # type: ignore[attr-defined]
    gpuarray.empty = gpuarray.GPUArray  # type: ignore[attr-defined]
    return {module.__name__: module for module in (driver, gpuarray)}


def public_names() -> dict[str, list[str]]:
    """By module, the names in it that the real pycuda has to have."""
    found: dict[str, list[str]] = {"pycuda.gpuarray": ["empty"]}
    for module, kind in (
        ("pycuda.driver", Context),
        ("pycuda.driver", Device),
        ("pycuda.driver", Stream),
        ("pycuda.gpuarray", GPUArray),
    ):
        methods = [
            name for name, value in vars(kind).items() if callable(value) or name[:3] != "__"
        ]
        own = [name for name in methods if name[0] != "_" or name == "__cuda_array_interface__"]
        names = [f"{kind.__name__}.{name}" for name in own if name not in ("cuda", "context")]
        found.setdefault(module, []).extend([kind.__name__, *names])
    found["pycuda.driver"] += ["Context.handle", "Stream.handle"]  # attributes of the fakes
    return found
