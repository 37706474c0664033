"""The fake driver's modules and launches."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from cuda.bindings import driver

from tests.gpu import host_kernels
from tests.gpu.fake_calls import CUresult, Refused, driver_call
from tests.gpu.fake_context import Context, Device, number
from tests.gpu.fake_graph import Graphs
from tests.gpu.fake_memory import host_address
from tests.gpu.host_kernels import BadLaunch, Call

_ELF = b"\x7fELF"
_SHARED_BYTES, _THREADS = 48 << 10, 1024


@dataclass(eq=False)
class Module:
    """Loaded code."""

    image: bytes
    context: Context
    loaded: bool = True


@dataclass(eq=False)
class Function:
    """A kernel of a module."""

    name: str
    module: Module
    kernel: Any


class Kernels(Graphs):
    """Modules, functions and launches."""

    def __init__(self, device: Device, *, eager: bool, null: bool) -> None:
        super().__init__(device, eager=eager, null=null)
        self.modules: dict[int, Module] = {}
        self._functions: dict[int, Function] = {}

    @driver_call(1)
    def cuModuleLoadData(self, image: Any) -> Any:  # noqa: N802
        self.unsafe()
        content = b"" if isinstance(image, int) else bytes(image)
        if not content and not number(image if isinstance(image, int) else 0):
            raise Refused(CUresult.CUDA_ERROR_INVALID_IMAGE)
        handle = self.handle()
        self.modules[handle] = Module(content, self.current())
        return driver.CUmodule(handle)

    @driver_call(after=True)
    def cuModuleUnload(self, hmod: Any) -> None:  # noqa: N802
        module = self.modules.pop(number(hmod), None)
        if module is None:
            self.violation("a module was unloaded that is not loaded")
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        module.loaded = False

    @driver_call(1)
    def cuModuleGetFunction(self, hmod: Any, name: bytes) -> Any:  # noqa: N802
        module, kernel = self.modules.get(number(hmod)), host_kernels.find(name.decode())
        if module is None or module.context is not self.current():
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        absent = module.image.startswith(_ELF) and name not in module.image
        if kernel is None or absent:
            raise Refused(CUresult.CUDA_ERROR_NOT_FOUND)
        if not self.null:
            kernel.prepare()
        handle = self.handle()
        self._functions[handle] = Function(name.decode(), module, kernel)
        return driver.CUfunction(handle)

    @driver_call(work=True)
    def cuLaunchKernel(  # noqa: N802
        self,
        f: Any,
        gridDimX: int,
        gridDimY: int,
        gridDimZ: int,
        blockDimX: int,
        blockDimY: int,
        blockDimZ: int,
        sharedMemBytes: int,
        hStream: Any,
        kernelParams: Any,
        extra: int,
    ) -> None:
        function, stream = self._functions.get(number(f)), self.stream(hStream)
        if function is None or not function.module.loaded:
            self.violation("a kernel was launched whose module is not loaded")
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        if function.module.context is not stream.context:
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        grid, block = (gridDimX, gridDimY, gridDimZ), (blockDimX, blockDimY, blockDimZ)
        threads = blockDimX * blockDimY * blockDimZ
        fits = min(*grid, *block) > 0 and threads <= _THREADS and sharedMemBytes <= _SHARED_BYTES
        if not fits or extra:
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        values = arguments(kernelParams, function.kernel.types)
        call = Call(grid, block, sharedMemBytes, values)
        try:
            function.kernel.check(call)
        except BadLaunch as bad:
            self.violation(f"{function.name}: {bad}")
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE) from bad
        self.enqueue(stream, lambda: self._run(function, call))

    def _run(self, function: Function, call: Call) -> None:
        try:
            if not function.module.loaded:
                raise BadLaunch("its module was unloaded before it ran")
            function.kernel.run(call, self.on_gpu)
        except BadLaunch as bad:
            self.violation(f"{function.name}: {bad}")
            raise Refused(CUresult.CUDA_ERROR_LAUNCH_FAILED) from bad


def arguments(parameters: Any, types: tuple[Any, ...]) -> list[Any]:
    """Copies of a kernel's arguments, given as the bindings take ``kernelParams``.

    Args:
        parameters: A pair of tuples, values and ctypes (None beside a structure or a handle), or the address of an
            array of void*.
        types: Of the kernel's parameters.
    """
    if not types:
        return []
    if isinstance(parameters, tuple):
        values, kinds = parameters
        if not len(values) == len(kinds) == len(types):
            raise TypeError(
                f"{len(values)} values and {len(kinds)} types for {len(types)} parameters"
            )
        pairs = zip(values, kinds, types, strict=True)
        return [_value(value, kind, wanted) for value, kind, wanted in pairs]
    addresses = (ctypes.c_void_p * len(types)).from_address(host_address(parameters))
    return [
        wanted.from_buffer_copy(ctypes.string_at(address or 0, ctypes.sizeof(wanted)))
        for address, wanted in zip(addresses, types, strict=True)
    ]


def _value(value: Any, kind: Any, wanted: Any) -> Any:
    size = ctypes.sizeof(wanted)
    if kind is None:
        pointer = hasattr(value, "getPtr")
        raw = ctypes.string_at(value.getPtr() if pointer else ctypes.addressof(value), size)
        return wanted.from_buffer_copy(raw)
    if ctypes.sizeof(kind) != size:
        raise TypeError(f"{kind} given for a parameter of {size} bytes")
    if kind is ctypes.c_void_p and hasattr(value, "getPtr"):
        # The bindings pass the address of the handle here, not the handle: a trap.
        return wanted(value.getPtr())
    return wanted.from_buffer_copy(bytes(value if isinstance(value, kind) else kind(value)))
