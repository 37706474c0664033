"""How fast and how hot a GPU runs right now. Read only: no clock, limit or mode is ever changed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcut_trt.backends import probe
from convcut_trt.backends.probe import Gpu, Loader
from convcut_trt.measuring import jetson, nvml


@dataclass(frozen=True, kw_only=True)
class State:
    """A GPU at one moment. What cannot be read is None.

    Attributes:
        sm_mhz: Clock of the multiprocessors, MHz.
        memory_mhz: Clock of the GPU's memory, MHz; on a Jetson of the memory controller (EMC).
        temperature_c: Of the GPU, degrees Celsius.
        power_w: Watts: of the GPU's whole board; on a Jetson of the whole module, where it is measured.
        throttle: What holds the clocks down, in words; empty where nothing does.
        held_by_power_ns: For how long the power limit has held them down, nanoseconds, counted by the driver.
        held_by_heat_ns: The same by heat.
        power_mode: On a Jetson the nvpmodel mode, elsewhere the power limit in force.
        source: Where this was read: ``sysfs``, ``NVML`` or ``sysfs, NVML``.
    """

    sm_mhz: float | None = None
    memory_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] | None = None
    held_by_power_ns: int | None = None
    held_by_heat_ns: int | None = None
    power_mode: str | None = None
    source: str


def read(
    gpu: Gpu | None = None, *, root: Path = Path("/"), load: Loader = ctypes.CDLL
) -> State | None:
    """The state of a GPU. On a Jetson its files count first, and NVML fills what they leave out.

    Args:
        gpu: Which; None for the first that CUDA shows.
        root: Stands for ``/``.
        load: Opens a shared library.

    Returns:
        None where there is no GPU, or nothing of it can be read.
    """
    if gpu is None:
        found = probe.gpus(load)
        if isinstance(found, str):
            return None
        gpu = found[0]
    files = _known(_sysfs(root)) if gpu.integrated else {}
    library = _known(_nvml(gpu, load))
    sources = [name for name, values in (("sysfs", files), ("NVML", library)) if values]
    return State(**{**library, **files}, source=", ".join(sources)) if sources else None


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _sysfs(root: Path) -> dict[str, Any]:
    return {
        "sm_mhz": jetson.sm_mhz(root),
        "memory_mhz": jetson.memory_mhz(root),
        "temperature_c": jetson.temperature_c(root),
        "power_w": jetson.power_w(root),
        "throttle": jetson.throttle(root),
        "power_mode": jetson.power_mode(root),
    }


def _nvml(gpu: Gpu, load: Loader) -> dict[str, Any]:
    with nvml.opened(load) as library:
        device = library.device(gpu) if library else None
        if device is None:
            return {}
        limit = device.power_limit_w()
        return {
            "sm_mhz": device.sm_mhz(),
            "memory_mhz": device.memory_mhz(),
            "temperature_c": device.temperature_c(),
            "power_w": device.power_w(),
            "throttle": device.throttle(),
            "held_by_power_ns": device.held_by_power_ns(),
            "held_by_heat_ns": device.held_by_heat_ns(),
            "power_mode": None if limit is None else f"power limit {limit:.0f} W",
        }
