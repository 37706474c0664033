"""One GPU of this process: its primary context, and calls of the CUDA driver whose answers are checked."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from convcut_trt.errors import BackendMissing, CudaError, InputError
from convcut_trt.optional import load

# After these the context is lost: every later call on it fails too.
_FATAL = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ILLEGAL_ADDRESS",
        "ILLEGAL_INSTRUCTION",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "MISALIGNED_ADDRESS",
        "HARDWARE_STACK_ERROR",
        "LAUNCH_FAILED",
        "LAUNCH_TIMEOUT",
        "ASSERT",
        "ECC_UNCORRECTABLE",
        "CONTEXT_IS_DESTROYED",
        "DEINITIALIZED",
    )
)
_HINTS = {
    "CUDA_ERROR_OUT_OF_MEMORY": "close other programs that use the GPU, or use a smaller batch",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the kernels in this package are not for this GPU: update convcut-trt",
    "CUDA_ERROR_NO_DEVICE": "CUDA_VISIBLE_DEVICES may hide it; see convcut-trt doctor",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine: the driver was updated while it ran",
}
_LOST = (
    "the GPU's context is lost, and all engines of this process with it: restart the process, and if it "
    "happens again run it under compute-sanitizer"
)


class Cuda:
    """A GPU and its primary context, which other CUDA libraries of this process share. Thread-safe.

    ``with cuda:`` makes the context current to a thread. It is given back when nobody holds this any more.

    Attributes:
        api: ``cuda.bindings.driver``.
        ordinal: Of the GPU, as CUDA counts those it shows.
        name: Of the GPU.
        compute_capability: (major, minor).
        multiprocessors: How many it has.
        lost: The driver's name of the error that ended the context; empty while it lives.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Takes the primary context of a GPU.

        Raises:
            BackendMissing: cuda-bindings is not installed, or there is no driver.
            CudaError: The driver refused.
        """
        self.api = load_driver()
        self.lost = ""
        self.ordinal = ordinal
        self._process = os.getpid()
        self._success = self.api.CUresult.CUDA_SUCCESS
        try:
            answer = self.api.cuInit(0)
        except RuntimeError as error:  # cuda-pathfinder's, where the driver is not found
            raise BackendMissing(
                "there is no NVIDIA driver here: install it, or build with --backend onnxruntime"
            ) from error
        self.check(answer, "cuInit")
        device = self._device = self.check(self.api.cuDeviceGet(ordinal), "cuDeviceGet")
        name = self.check(self.api.cuDeviceGetName(256, device), "cuDeviceGetName")
        self.name = name.split(b"\0")[0].decode(errors="replace")
        attributes = self.api.CUdevice_attribute
        self.compute_capability = (
            self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.multiprocessors = self._attribute(attributes.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        answer = self.api.cuDevicePrimaryCtxRetain(device)
        self._context: Any = self.check(answer, "cuDevicePrimaryCtxRetain")
        when_gone(self, _release, self.api, device, self._process)

    def _attribute(self, attribute: Any) -> int:
        answer = self.api.cuDeviceGetAttribute(attribute, self._device)
        return int(self.check(answer, "cuDeviceGetAttribute"))

    @property
    def context(self) -> int:
        """The handle of the primary context."""
        return int(self._context)

    def check(self, answer: tuple[Any, ...], call: str) -> Any:
        """What a call of the driver gave back, behind its status.

        Raises:
            CudaError: The status is an error.
        """
        if answer[0] == self._success:
            return answer[1] if len(answer) == 2 else answer[1:]
        name = answer[0].name
        fatal = name in _FATAL
        if fatal:
            self.lost = name
        raise CudaError(f"{call} gives {name}: {_LOST if fatal else _hint(name)}", name, fatal)

    def __enter__(self) -> Cuda:
        """Makes the primary context current to this thread, on top of whatever is.

        Raises:
            CudaError: The context is lost.
            InputError: This process is a fork of the one that opened it, or it is closed.
        """
        if self.lost:
            raise CudaError(f"{self.lost} has happened: {_LOST}", self.lost, True)
        refuse_fork(self._process)
        self.check(self.api.cuCtxPushCurrent(self._context), "cuCtxPushCurrent")
        return self

    def __exit__(self, *error: object) -> None:
        self.api.cuCtxPopCurrent()  # whatever happened: the caller's context comes back

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that opened the GPU."""
        return os.getpid() != self._process

    @contextmanager
    def for_freeing(self) -> Iterator[None]:
        """Makes the context current if that is still possible, and does not complain if not."""
        # Twice: the first call after failed work may answer with that work's error.
        pushed = any(self.api.cuCtxPushCurrent(self._context)[0] == self._success for _ in range(2))
        try:
            yield
        finally:
            if pushed:
                self.api.cuCtxPopCurrent()

    def synchronize(self, stream: Any) -> None:
        """Waits until all work on a stream is done. The context has to be current."""
        self.check(self.api.cuStreamSynchronize(stream), "cuStreamSynchronize")


class Stream:
    """A stream that does not wait for the legacy default stream. It lives as long as anybody uses it.

    Attributes:
        handle: The driver's.
    """

    def __init__(self, cuda: Cuda) -> None:
        """Makes one. The context has to be current.

        Raises:
            CudaError: The driver refused.
        """
        flag = cuda.api.CUstream_flags.CU_STREAM_NON_BLOCKING
        self.handle: Any = cuda.check(cuda.api.cuStreamCreate(flag), "cuStreamCreate")
        when_gone(self, free, cuda, cuda.api.cuStreamDestroy, self.handle)

    def __int__(self) -> int:
        return int(self.handle)


def refuse_fork(process: int) -> None:
    """Raises InputError where this process is not that one, which opened the GPU, but a fork of it."""
    if os.getpid() != process:
        raise InputError(
            "this process was forked from the one that opened the GPU, which CUDA does not survive: "
            "load the engine after the fork, or start processes with multiprocessing's spawn"
        )


def when_gone(owner: object, call: Callable[..., object], *arguments: Any) -> None:
    """Calls when nobody holds ``owner`` any more, but not at the exit of the process.

    The system takes everything back there, and an engine that nobody closed still needs its context until then.
    """
    weakref.finalize(owner, call, *arguments).atexit = False


def free(cuda: Cuda, call: Callable[[Any], object], handle: Any) -> None:
    """Gives one thing back to the driver, unless a fork of its owner asks."""
    if not cuda.forked:
        with cuda.for_freeing():
            call(handle)


def load_driver() -> ModuleType:
    """The driver's bindings.

    Raises:
        BackendMissing: They are not installed, or broken.
    """
    return load("cuda.bindings.driver", "cuda13")


def _hint(name: str) -> str:
    return _HINTS.get(name, "convcut-trt doctor shows what this machine has")


def _release(api: ModuleType, device: Any, process: int) -> None:
    if os.getpid() == process:
        api.cuDevicePrimaryCtxRelease(device)
