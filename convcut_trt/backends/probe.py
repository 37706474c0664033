"""Which NVIDIA GPUs are here? Asked of the CUDA driver alone, without any package."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# CUdevice_attribute of the driver API.
_INTEGRATED, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 18, 75, 76

Loader = Callable[[str], Any]
"""Opens a shared library by name, as ``ctypes.CDLL`` does; OSError where there is none."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA shows.

    Attributes:
        name: As the driver calls it.
        compute_capability: (major, minor).
        cuda: Newest CUDA version that the driver supports, for example ``13.0``.
        integrated: Shares the memory of the CPU, as in a Jetson.
        memory_bytes: All of its memory; None where the driver does not say.
        pci: Its PCI bus id, by which NVML finds the same one; empty where the driver does not say.
    """

    name: str
    compute_capability: tuple[int, int]
    cuda: str
    integrated: bool = False
    memory_bytes: int | None = None
    pci: str = ""


def gpu() -> Gpu | str:
    """The first GPU, or in a few words why there is none. Creates no CUDA context."""
    found = gpus()
    return found if isinstance(found, str) else found[0]


def gpus(load: Loader = ctypes.CDLL) -> list[Gpu] | str:
    """All GPUs, as CUDA counts them, or in a few words why there is none. Creates no CUDA context."""
    try:
        cuda = load("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver here"
    status = cuda.cuInit(0)
    count = ctypes.c_int()
    if status or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return f"an NVIDIA driver but no usable GPU here (cuInit gives {status})"
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    supports = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return [_gpu(cuda, ordinal, supports) for ordinal in range(count.value)]


def _gpu(cuda: Any, ordinal: int, supports: str) -> Gpu:
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, len(name), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    memory = ctypes.c_size_t()
    pci = ctypes.create_string_buffer(32)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=(attribute(_CAPABILITY_MAJOR), attribute(_CAPABILITY_MINOR)),
        cuda=supports,
        integrated=bool(attribute(_INTEGRATED)),
        memory_bytes=None
        if cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        else memory.value,
        pci="" if cuda.cuDeviceGetPCIBusId(pci, len(pci), device) else pci.value.decode(),
    )
