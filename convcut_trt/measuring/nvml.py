"""What NVIDIA's management library says of a GPU, read through ctypes. It changes nothing.

A Jetson answers a part of the questions (from JetPack 7), or has no such library: a question that it does
not answer is None, never an error. Functions, constants and units: https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from convcut_trt.backends.probe import Gpu, Loader

_CLOCK_SM, _CLOCK_MEMORY, _SENSOR_GPU = 1, 2, 0
_POLICY_POWER, _POLICY_THERMAL = 0, 1
# nvmlClocksEventReasons; the lowest bit, "idle", is no reason to worry and left out.
_REASONS = {
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
# The name since driver 535, and the one before.
_REASON_CALLS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Violation(ctypes.Structure):
    # When, in microseconds, and how long all in all, in nanoseconds.
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("referenceTime", "violationTime")]


@contextmanager
def opened(load: Loader = ctypes.CDLL) -> Iterator[Nvml | None]:
    """The library, initialised, and shut down afterwards; None where there is none that works."""
    try:
        library = load("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        works = library.nvmlInit_v2() == 0
    except (OSError, AttributeError):
        works = False
    if not works:
        yield None
        return
    try:
        yield Nvml(library)
    finally:
        library.nvmlShutdown()


class Nvml:
    """The questions about the machine; see ``opened``."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def driver(self) -> str | None:
        """Version of the driver, for example ``580.95.05``."""
        text = ctypes.create_string_buffer(80)
        good = _call(self._library, "nvmlSystemGetDriverVersion", text, len(text))
        return text.value.decode(errors="replace") if good else None

    def device(self, gpu: Gpu) -> Device | None:
        """The same GPU here: NVML counts in another order than CUDA, and hides none."""
        handle, count = ctypes.c_void_p(), ctypes.c_uint()
        by_pci = "nvmlDeviceGetHandleByPciBusId_v2"
        if gpu.pci and _call(self._library, by_pci, gpu.pci.encode(), ctypes.byref(handle)):
            return Device(self._library, handle)
        # An integrated GPU may not be on a PCI bus.
        _call(self._library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        by_index = "nvmlDeviceGetHandleByIndex_v2"
        if count.value == 1 and _call(self._library, by_index, 0, ctypes.byref(handle)):
            return Device(self._library, handle)
        return None


class Device:
    """The questions about one GPU. An answer is None where the GPU or the driver does not give it."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    def memory_free(self) -> int | None:
        """Bytes."""
        memory = _Memory()
        return memory.free if self._ask("nvmlDeviceGetMemoryInfo", memory) else None

    def sm_mhz(self) -> int | None:
        """Clock of the multiprocessors, MHz."""
        return self._number("nvmlDeviceGetClockInfo", _CLOCK_SM) or None

    def memory_mhz(self) -> int | None:
        """Clock of the memory, MHz."""
        return self._number("nvmlDeviceGetClockInfo", _CLOCK_MEMORY) or None

    def temperature_c(self) -> int | None:
        """Degrees Celsius."""
        return self._number("nvmlDeviceGetTemperature", _SENSOR_GPU)

    def power_w(self) -> float | None:
        """Watts, of the whole board of the GPU."""
        return _watts(self._number("nvmlDeviceGetPowerUsage"))

    def power_limit_w(self) -> float | None:
        """Watts, the limit in force."""
        return _watts(self._number("nvmlDeviceGetEnforcedPowerLimit"))

    def energy_j(self) -> float | None:
        """Joules of the whole board of the GPU since the driver was loaded; from Volta on."""
        millijoules = ctypes.c_ulonglong()
        known = self._ask("nvmlDeviceGetTotalEnergyConsumption", millijoules)
        return millijoules.value / 1000 if known else None

    def throttle(self) -> tuple[str, ...] | None:
        """What holds its clocks down; empty where nothing does."""
        bits = ctypes.c_ulonglong()
        if not any(self._ask(name, bits) for name in _REASON_CALLS):
            return None
        return tuple(text for bit, text in _REASONS.items() if bits.value & bit)

    def held_by_power_ns(self) -> int | None:
        """For how long its power limit has held its clocks down, nanoseconds: a counter."""
        return self._violation(_POLICY_POWER)

    def held_by_heat_ns(self) -> int | None:
        """The same by heat."""
        return self._violation(_POLICY_THERMAL)

    def _violation(self, policy: int) -> int | None:
        violation = _Violation()
        known = self._ask("nvmlDeviceGetViolationStatus", violation, policy)
        return violation.violationTime if known else None

    def _number(self, function: str, *arguments: int) -> int | None:
        value = ctypes.c_uint()
        return value.value if self._ask(function, value, *arguments) else None

    def _ask(self, function: str, answer: Any, *arguments: int) -> bool:
        return _call(self._library, function, self._handle, *arguments, ctypes.byref(answer))


def _call(library: Any, function: str, *arguments: Any) -> bool:
    """True where the library has the function and it succeeds."""
    call = getattr(library, function, None)
    return call is not None and call(*arguments) == 0


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
