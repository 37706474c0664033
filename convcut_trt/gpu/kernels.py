"""The kernels of this package on a GPU: compiled ones from the wheel, else NVRTC's, and their launch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from convcut_trt.errors import BackendMissing, CudaError
from convcut_trt.gpu import nvrtc
from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.nvrtc import KERNELS
from convcut_trt.gpu.resources import Resources

# A fatbin without this kernel, or without code for this GPU: NVRTC may still have it.
_ABSENT = ("CUDA_ERROR_NOT_FOUND", "CUDA_ERROR_NO_BINARY_FOR_GPU", "CUDA_ERROR_INVALID_PTX")


def missing() -> str | None:
    """Why this machine cannot have the kernels; None where it can."""
    if (KERNELS / "tail.fatbin").is_file():
        return None
    try:
        nvrtc.load_nvrtc()
    except BackendMissing as error:
        return str(error)
    return None


class Kernels:
    """Functions on one GPU, each loaded once. Not thread-safe. The context has to be current for every call."""

    def __init__(self, cuda: Cuda, resources: Resources) -> None:
        self._cuda = cuda
        self._resources = resources
        self._modules: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}

    def function(self, source: str, name: str, defines: Sequence[str]) -> Any:
        """A kernel, from the wheel's ``source.fatbin`` or compiled now.

        Args:
            source: ``tail`` or ``preprocess``.
            name: Of the kernel.
            defines: With which NVRTC compiles it alone.

        Raises:
            BackendMissing: It is in no fatbin here, and there is no NVRTC.
            BuildError: NVRTC refused it.
            CudaError: The driver refused it.
        """
        if name not in self._functions:
            function = self._compiled(source, name)
            if function is None:
                cubin = nvrtc.compile_kernel(source, defines, self._cuda.compute_capability)
                function = self._named(self._resources.module(cubin), name)
            self._functions[name] = function
        return self._functions[name]

    def _compiled(self, source: str, name: str) -> Any | None:
        path = KERNELS / f"{source}.fatbin"
        if not path.is_file():
            return None
        try:
            if source not in self._modules:
                self._modules[source] = self._resources.module(path.read_bytes())
            return self._named(self._modules[source], name)
        except CudaError as error:
            if error.name not in _ABSENT:
                raise
            return None

    def _named(self, module: Any, name: str) -> Any:
        answer = self._cuda.api.cuModuleGetFunction(module, name.encode())
        return self._cuda.check(answer, f"cuModuleGetFunction of {name}")


class Launch:
    """One launch of a kernel, prepared: what costs time is done here, not when it runs.

    Args:
        cuda: The GPU.
        function: Of ``Kernels.function``.
        grid: Blocks in three directions.
        threads: A block.
        shared_bytes: Dynamic shared memory of a block.
        arguments: ctypes values in the order of the kernel's parameters; they are copied at the launch.
    """

    def __init__(
        self,
        cuda: Cuda,
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[Any],
    ) -> None:
        self._cuda = cuda
        self._arguments = tuple(arguments)  # the pointers below point into these
        pointers = (ctypes.c_void_p * len(self._arguments))(
            *(ctypes.addressof(argument) for argument in self._arguments)
        )
        self._pointers = pointers
        self._call = (function, *grid, threads, 1, 1, shared_bytes)

    def __call__(self, stream: Any) -> None:
        """Puts the kernel on a stream.

        Raises:
            CudaError: The driver refused.
        """
        answer = self._cuda.api.cuLaunchKernel(
            *self._call, stream, ctypes.addressof(self._pointers), 0
        )
        self._cuda.check(answer, "cuLaunchKernel")
