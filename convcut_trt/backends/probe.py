"""Is there an NVIDIA GPU here? Asked of the driver alone, without any package."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

# CUdevice_attribute of the driver API.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """The first GPU that CUDA shows.

    Attributes:
        name: As the driver calls it.
        compute_capability: (major, minor).
        cuda: Newest CUDA version that the driver supports, for example ``13.0``.
    """

    name: str
    compute_capability: tuple[int, int]
    cuda: str


def gpu() -> Gpu | str:
    """The GPU, or in a few words why there is none. Creates no CUDA context."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver here"
    status = cuda.cuInit(0)
    count = ctypes.c_int()
    if status or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return f"an NVIDIA driver but no usable GPU here (cuInit gives {status})"
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    version = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=(major.value, minor.value),
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )
