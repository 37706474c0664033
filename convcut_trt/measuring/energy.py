"""What an inference costs in joules: from a counter or a power sensor of the machine, where there is one."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convcut_trt.backends import probe
from convcut_trt.backends.probe import Gpu, Loader
from convcut_trt.gates import Step
from convcut_trt.measuring import jetson, nvml

IDLE_S = 2.0
_SENSOR_S = 0.1  # between two readings of a sensor: the INA3221 averages over about as long
_RAPL = "sys/class/powercap"


@dataclass(frozen=True)
class Energy:
    """What many calls one behind the other took.

    Attributes:
        joules: Of one inference, whole, with what the device takes when it does nothing.
        watts: Mean while it worked.
        idle_watts: Mean of two seconds before, in which nothing was asked of it.
        batch: Faces in a call; an inference is one face.
        inferences: How many.
        seconds: How long.
        of: What the figures are of: the GPU's board, the module, or the CPU's package.
    """

    joules: float
    watts: float
    idle_watts: float
    batch: int
    inferences: int
    seconds: float
    of: str


class Meter(Protocol):
    """Joules that were used while it was watched."""

    of: str
    window_s: float
    """Shortest time that makes a figure: what is read changes in steps."""

    def start(self) -> None:
        """Begins anew."""

    def watch(self) -> None:
        """To be called again and again, ten times a second or more often."""

    def joules(self) -> float | None:
        """Since ``start``; None where reading failed."""


class Counter:
    """A counter of joules, which may start anew at ``wraps``."""

    def __init__(
        self, of: str, window_s: float, read: Callable[[], float | None], wraps: float = 0.0
    ) -> None:
        self.of, self.window_s, self._read, self._wraps = of, window_s, read, wraps
        self._from: float | None = None

    def start(self) -> None:
        """See Meter."""
        self._from = self._read()

    def watch(self) -> None:
        """See Meter: it counts by itself."""

    def joules(self) -> float | None:
        """See Meter."""
        now = self._read()
        if now is None or self._from is None:
            return None
        return now - self._from + (self._wraps if now < self._from else 0.0)


class Sensor:
    """A sensor of watts, read ten times a second and added up."""

    def __init__(self, of: str, window_s: float, read: Callable[[], float | None]) -> None:
        self.of, self.window_s, self._read = of, window_s, read
        self._sum: float | None = None
        self._since = self._next = 0.0
        self._watts: float | None = None

    def start(self) -> None:
        """See Meter."""
        self._since, self._watts, self._sum = time.perf_counter(), self._read(), 0.0
        self._next = self._since + _SENSOR_S

    def watch(self) -> None:
        """See Meter."""
        if time.perf_counter() >= self._next:
            self._add()

    def _add(self) -> None:
        now, watts = time.perf_counter(), self._read()
        if watts is None or self._watts is None or self._sum is None:
            self._sum = None
            return
        self._sum += (watts + self._watts) / 2 * (now - self._since)
        self._since, self._watts, self._next = now, watts, now + _SENSOR_S

    def joules(self) -> float | None:
        """See Meter."""
        self._add()
        return self._sum


@contextmanager
def meter(
    on_cpu: bool, gpu: Gpu | None = None, *, root: Path = Path("/"), load: Loader = ctypes.CDLL
) -> Iterator[Meter | None]:
    """What this machine has to measure an engine's energy with; None where it has nothing that may be read.

    Args:
        on_cpu: Whether the engine computes on the CPU.
        gpu: Which GPU; None for the first that CUDA shows.
        root: Stands for ``/``.
        load: Opens a shared library.
    """
    if rails := jetson.power_rails(root):
        # CPU and GPU share the module and its rails.
        yield Sensor(f"the module ({' + '.join(rails)})", 30.0, lambda: jetson.power_w(root))
    elif on_cpu:
        yield _rapl(root)
    else:
        found = probe.gpus(load) if gpu is None else [gpu]
        with nvml.opened(load) as library:
            device = library.device(found[0]) if library and not isinstance(found, str) else None
            # Without the counter, which came with Volta, there is no figure.
            counts = device is not None and device.energy_j() is not None
            yield Counter("the GPU's board", 10.0, device.energy_j) if device and counts else None


def _rapl(root: Path) -> Counter | None:
    """Intel's and AMD's counters, all packages together; since 2020 most systems show them to root alone."""
    zones = sorted((root / _RAPL).glob("intel-rapl:[0-9]"))
    if len(zones) != 1:  # several would wrap one by one
        return None
    (zone,) = zones
    if _microjoules(zone / "energy_uj") is None:
        return None
    return Counter(
        "the CPU's package (RAPL)",
        2.0,
        lambda: _microjoules(zone / "energy_uj"),
        _microjoules(zone / "max_energy_range_uj") or 0.0,
    )


def _microjoules(path: Path) -> float | None:
    try:
        return int(path.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def per_inference(
    found: Meter, call: Callable[[], object], batch: int, seconds: float, step: Step
) -> Energy | None:
    """Calls an engine without a pause, and divides what that took.

    Args:
        found: Of ``meter``.
        call: Makes one call.
        batch: Faces in a call.
        seconds: For how long; at least the meter's window.
        step: Called as ``step(phase, done, total)``.

    Returns:
        None where the meter failed meanwhile.
    """
    idle = _watched(found, lambda: time.sleep(_SENSOR_S / 2), IDLE_S, lambda passed: None)
    length = max(seconds, found.window_s)
    total = round(length * 10)
    worked = _watched(
        found, call, length, lambda passed: step("energy", min(total, int(passed * 10)), total)
    )
    if idle is None or worked is None:
        return None
    (idle_j, idle_s, _), (joules, passed, calls) = idle, worked
    inferences = calls * batch
    return Energy(
        joules / inferences, joules / passed, idle_j / idle_s, batch, inferences, passed, found.of
    )


def _watched(
    found: Meter, call: Callable[[], object], seconds: float, told: Callable[[float], None]
) -> tuple[float, float, int] | None:
    """Joules, seconds, calls."""
    start, calls = time.perf_counter(), 0
    found.start()
    while (passed := time.perf_counter() - start) < seconds:
        told(passed)
        call()
        found.watch()
        calls += 1
    joules = found.joules()
    return None if joules is None else (joules, time.perf_counter() - start, calls)
