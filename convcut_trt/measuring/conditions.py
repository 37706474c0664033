"""The machine before and after a measurement, and what was wrong in between. Read only: nothing is ever changed."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convcut_trt.backends.probe import Loader
from convcut_trt.measuring import clocks
from convcut_trt.measuring.clocks import State

THROTTLED, SWAPPED, BUSY = "throttled", "swapped", "busy"
"""What makes a comparison inconclusive, whatever its interval."""
MOST_BUSY = 0.25
"""Share of the machine's cores that others may take before it is called busy."""

_CPUS = "sys/devices/system/cpu"
# Chosen by the user or the driver's set-up; none of them comes and goes with the load.
_SETTINGS = {"application clocks", "sync boost", "display clocks"}


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The machine at one moment. What cannot be read is None; counters count since the machine was started.

    Attributes:
        at_s: Seconds, monotonic.
        cores: Logical processors.
        gpu: Clocks, temperature, power mode and throttle reasons of the GPU.
        governor: Of the CPU's clock, for example ``performance``; several where the cores differ.
        cpu_mhz: Clock of the CPU, mean of the cores.
        load: Processes that ran or waited to, mean of a minute.
        thermal_events: How often cores were slowed down by heat.
        quota_stops: How often this control group was stopped because its share of the CPU was used up.
        swapped_pages: Written to and read from the swap.
        busy_s: Seconds in which cores worked, for anybody, or were taken away by the host of a virtual machine.
        own_s: Seconds of these for this process and its children.
    """

    at_s: float
    cores: int
    gpu: State | None = None
    governor: str | None = None
    cpu_mhz: float | None = None
    load: float | None = None
    thermal_events: int | None = None
    quota_stops: int | None = None
    swapped_pages: int | None = None
    busy_s: float | None = None
    own_s: float


def read(*, root: Path = Path("/"), load: Loader = ctypes.CDLL) -> Conditions:
    """The machine now.

    Args:
        root: Stands for ``/``.
        load: Opens a shared library.
    """
    times = os.times()
    swapped = [_field(root / "proc/vmstat", name) for name in ("pswpin", "pswpout")]
    return Conditions(
        at_s=time.monotonic(),
        cores=os.cpu_count() or 1,
        gpu=clocks.read(root=root, load=load),
        governor=", ".join(sorted(set(_texts(root, "cpufreq/scaling_governor")))) or None,
        cpu_mhz=_cpu_mhz(root),
        load=_first_number(root / "proc/loadavg"),
        thermal_events=_total(_texts(root, "thermal_throttle/core_throttle_count")),
        quota_stops=_quota_stops(root),
        swapped_pages=_total(swapped),
        busy_s=_busy_s(root / "proc/stat"),
        own_s=times.user + times.system + times.children_user + times.children_system,
    )


def flags(before: Conditions, after: Conditions) -> dict[str, str]:
    """What was wrong between two moments: ``throttled``, ``swapped``, ``busy``, each with what showed it."""
    found: dict[str, str] = {}
    reasons = [
        reason
        for moment in (before, after)
        for reason in (moment.gpu.throttle or () if moment.gpu else ())
        if reason not in _SETTINGS
    ]
    if reasons:
        found[THROTTLED] = f"the GPU says {', '.join(dict.fromkeys(reasons))}"
    elif held := _held(before.gpu, after.gpu):
        found[THROTTLED] = f"the GPU's clocks were held down {held}"
    elif _grown(before.thermal_events, after.thermal_events):
        found[THROTTLED] = "cores of the CPU were slowed down by heat"
    elif stops := _grown(before.quota_stops, after.quota_stops):
        found[THROTTLED] = f"the control group's share of the CPU was used up {stops:.0f} times"
    if pages := _grown(before.swapped_pages, after.swapped_pages):
        found[SWAPPED] = f"{pages:.0f} pages went to or came from the swap"
    share = others(before, after)
    if share is not None and share > MOST_BUSY:
        found[BUSY] = f"others took {share:.0%} of the CPU"
    return found


def others(before: Conditions, after: Conditions) -> float | None:
    """Share of all cores' time that other processes took between two moments, 0 to 1; None where not known."""
    passed = (after.at_s - before.at_s) * after.cores
    if before.busy_s is None or after.busy_s is None or passed <= 0:
        return None
    taken = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    return min(1.0, max(0.0, taken / passed))


def _held(before: State | None, after: State | None) -> str:
    """By what, and for how long; empty where by nothing, or where that is not counted."""
    if before is None or after is None:
        return ""
    grown = {
        "its power limit": _grown(before.held_by_power_ns, after.held_by_power_ns),
        "heat": _grown(before.held_by_heat_ns, after.held_by_heat_ns),
    }
    return " and ".join(f"by {why} for {ns / 1e6:.3g} ms" for why, ns in grown.items() if ns)


def _grown(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else max(0.0, after - before)


def _busy_s(path: Path) -> float | None:
    """All of /proc/stat's first line but idle and waiting for disks; guests are part of user (proc(5))."""
    words = (_text(path) or "").partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return None
    user, nice, system, _idle, _waiting, irq, soft, stolen = map(int, words[1:9])
    return (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _quota_stops(root: Path) -> int | None:
    """``nr_throttled`` of this process's control group: version 2, else version 1 (cgroups(7))."""
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folders = [root / "sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):
            folders = [root / "sys/fs/cgroup" / name for name in ("cpu", "cpu,cpuacct")]
        else:
            continue
        for folder in folders:
            # In a container the path may be the host's, and the group itself lies at the top.
            for place in (folder / path.strip("/"), folder):
                if (stops := _field(place / "cpu.stat", "nr_throttled")) is not None:
                    return stops
    return None


def _cpu_mhz(root: Path) -> float | None:
    clocks_khz = [int(text) for text in _texts(root, "cpufreq/scaling_cur_freq") if text.isdigit()]
    if clocks_khz:
        return sum(clocks_khz) / len(clocks_khz) / 1000
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    told = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(told) / len(told) if told else None


def _texts(root: Path, name: str) -> list[str]:
    found = (_text(cpu / name) for cpu in sorted((root / _CPUS).glob("cpu[0-9]*")))
    return [text for text in found if text]


def _total(values: Iterable[str | int | None]) -> int | None:
    known = [int(value) for value in values if value is not None]
    return sum(known) if known else None


def _field(path: Path, name: str) -> int | None:
    """The number behind a name in a file of ``name number`` lines."""
    for line in (_text(path) or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return int(words[1])
    return None


def _first_number(path: Path) -> float | None:
    words = (_text(path) or "").split()
    return float(words[0]) if words else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:  # not on this machine, or not for us
        return None
