"""The fake driver's device, its primary context, and the stack of contexts that every thread has."""

from __future__ import annotations

import itertools
import threading
import weakref
from dataclasses import dataclass
from typing import Any

from cuda.bindings import driver

from tests.gpu.fake_calls import Calls, CUresult, Refused, driver_call


@dataclass(eq=False)
class Context:
    """A context; ``retained`` counts the holders of a primary one."""

    handle: int
    retained: int = 0
    alive: bool = True


@dataclass(frozen=True)
class Device:
    """What the fake says about its GPU; the figures are those of a Jetson Orin NX."""

    name: str = "Fake Orin"
    compute_capability: tuple[int, int] = (8, 7)
    multiprocessors: int = 8
    integrated: bool = True
    memory: int = 8 << 30
    driver_version: int = 12060


def number(handle: Any) -> int:
    """The value of a handle, 0 for None, as the bindings take them."""
    return 0 if handle is None else int(handle)


class Contexts(Calls):
    """Devices and contexts."""

    def __init__(self, device: Device, *, null: bool) -> None:
        super().__init__(null=null)
        self.device = device
        self._initialised = False
        self._handles = itertools.count(0x7F00_0000_0000, 16)
        self._contexts: dict[int, Context] = {}
        self._primary: Context | None = None
        self._local = threading.local()
        self._stacks: weakref.WeakKeyDictionary[threading.Thread, list[int]] = (
            weakref.WeakKeyDictionary()
        )

    def stack(self, thread: threading.Thread | None = None) -> list[int]:
        """The contexts of a thread, the current one last; of the calling thread by default."""
        if thread is not None:
            return list(self._stacks.get(thread, []))
        return list(self._mine)

    def foreign_context(self) -> int:
        """A context that is not the primary one, as an application may have made; not current to any thread."""
        context = self._new_context()
        return context.handle

    def handle(self) -> int:
        """A new handle."""
        return next(self._handles)

    def current(self) -> Context:
        """The context of this thread; raises Refused without one."""
        stack = getattr(self._local, "stack", None)
        if not stack:
            raise Refused(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        context = self._contexts[stack[-1]]
        if not context.alive:
            raise Refused(CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED)
        return context

    def require_context(self) -> None:
        """See Calls."""
        self.require_init()
        self.current()

    def require_init(self) -> None:
        """Raises Refused before cuInit."""
        if not self._initialised:
            raise Refused(CUresult.CUDA_ERROR_NOT_INITIALIZED)

    def destroyed(self, context: Context) -> None:
        """Called when the last holder of the primary context has let it go."""

    @property
    def _mine(self) -> list[int]:
        stack: list[int] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
            self._stacks[threading.current_thread()] = stack
        return stack

    def _new_context(self) -> Context:
        context = Context(self.handle())
        self._contexts[context.handle] = context
        return context

    def _known(self, handle: Any) -> Context:
        context = self._contexts.get(number(handle))
        if context is None or not context.alive:
            raise Refused(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        return context

    def _device(self, device: Any) -> None:
        self.require_init()
        if int(device) != 0:
            raise Refused(CUresult.CUDA_ERROR_INVALID_DEVICE)

    @driver_call(context=False)
    def cuInit(self, Flags: int) -> None:  # noqa: N802
        if Flags != 0:
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        self._initialised = True

    @driver_call(1, context=False, survives=True)
    def cuDriverGetVersion(self) -> int:  # noqa: N802
        return self.device.driver_version

    @driver_call(1, context=False, survives=True)
    def cuDeviceGetCount(self) -> int:  # noqa: N802
        self.require_init()
        return 1

    @driver_call(1, context=False, survives=True)
    def cuDeviceGet(self, ordinal: int) -> Any:  # noqa: N802
        self._device(ordinal)
        return driver.CUdevice(ordinal)

    @driver_call(1, context=False, survives=True)
    def cuDeviceGetName(self, length: int, dev: Any) -> bytes:  # noqa: N802
        self._device(dev)
        return self.device.name.encode()[: length - 1].ljust(length, b"\0")

    @driver_call(1, context=False, survives=True)
    def cuDeviceTotalMem(self, dev: Any) -> int:  # noqa: N802
        self._device(dev)
        return self.device.memory

    @driver_call(1, context=False, survives=True)
    def cuDeviceGetAttribute(self, attrib: Any, dev: Any) -> int:  # noqa: N802
        if not isinstance(attrib, driver.CUdevice_attribute):
            raise TypeError("attrib is to be a CUdevice_attribute")
        self._device(dev)
        names = {
            "COMPUTE_CAPABILITY_MAJOR": self.device.compute_capability[0],
            "COMPUTE_CAPABILITY_MINOR": self.device.compute_capability[1],
            "MULTIPROCESSOR_COUNT": self.device.multiprocessors,
            "INTEGRATED": int(self.device.integrated),
            "MAX_SHARED_MEMORY_PER_BLOCK": 48 << 10,
            "MAX_THREADS_PER_BLOCK": 1024,
            "UNIFIED_ADDRESSING": 1,
        }
        name = attrib.name.removeprefix("CU_DEVICE_ATTRIBUTE_")
        if name not in names:
            raise NotImplementedError(f"the fake does not know {attrib.name}")
        return names[name]

    @driver_call(1, context=False)
    def cuDevicePrimaryCtxRetain(self, dev: Any) -> Any:  # noqa: N802
        self._device(dev)
        if self._primary is None:
            self._primary = self._new_context()
        self._primary.retained += 1
        return driver.CUcontext(self._primary.handle)

    @driver_call(context=False, after=True)
    def cuDevicePrimaryCtxRelease(self, dev: Any) -> None:  # noqa: N802
        self._device(dev)
        context = self._primary
        if context is None:
            self.violation("the primary context was released more often than retained")
            raise Refused(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        context.retained -= 1
        if context.retained == 0:
            self._primary = None
            self.destroyed(context)
            context.alive = False

    @driver_call(context=False, survives=True)
    def cuCtxPushCurrent(self, ctx: Any) -> None:  # noqa: N802
        self._mine.append(self._known(ctx).handle)

    @driver_call(1, context=False, after=True, survives=True)
    def cuCtxPopCurrent(self) -> Any:  # noqa: N802
        if not self._mine:
            raise Refused(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        return driver.CUcontext(self._mine.pop())

    @driver_call(1, context=False, survives=True)
    def cuCtxGetCurrent(self) -> Any:  # noqa: N802
        self.require_init()
        return driver.CUcontext(self._mine[-1] if self._mine else 0)

    @driver_call(context=False, survives=True)
    def cuCtxSetCurrent(self, ctx: Any) -> None:  # noqa: N802
        known = self._known(ctx).handle if number(ctx) else None
        if self._mine:
            self._mine.pop()
        if known is not None:
            self._mine.append(known)

    @driver_call(1)
    def cuCtxGetDevice(self) -> Any:  # noqa: N802
        return driver.CUdevice(0)

    @driver_call(1, context=False, survives=True)
    def cuGetErrorName(self, error: Any) -> bytes:  # noqa: N802
        return str(CUresult(error).name).encode()

    @driver_call(1, context=False, survives=True)
    def cuGetErrorString(self, error: Any) -> bytes:  # noqa: N802
        return (
            str(CUresult(error).name).removeprefix("CUDA_ERROR_").replace("_", " ").lower().encode()
        )
