"""What the files of a Jetson say: board, JetPack, power mode, clocks and heat. It changes nothing.

``root`` stands for ``/``. What a file does not say, or only to root, is None.

Where these files lie on JetPack 5, 6 and 7 was read in https://github.com/rbonghi/jetson_stats.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

# The longest beginning of an L4T version that is listed says the JetPack.
_JETPACKS = {
    "32": "4",
    "35": "5",
    "36.2": "6.0",
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.2": "6.1",
    "36.4.3": "6.2",
    "36.4": "6.2.1",
    "36.5": "6.2.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}
_DEVFREQ = "sys/class/devfreq"
# Thor, Orin on JetPack 6 and 7, Orin on JetPack 5, Xavier.
_GPU_CLOCKS = ("gpu-gpc-0", "*.gpu", "*.ga10b", "*.gv11b")
# Thor; the others, where only root may read it.
_MEMORY_CLOCKS = (f"{_DEVFREQ}/bwmgr/cur_freq", "sys/kernel/debug/bpmp/debug/clk/emc/rate")
# Rails of the INA3221 that make up the module: Orin Nano and NX, AGX Orin, AGX Thor. What AGX Orin's memory takes,
# VDDQ_VDD2_1V8AO, is part of VIN_SYS_5V0; Thor's VIN takes in the carrier board.
_RAILS = (
    ("VDD_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)


@dataclass(frozen=True)
class Board:
    """A Jetson.

    Attributes:
        model: As the device tree calls it.
        l4t: Version of Jetson Linux, for example ``36.4.3``; None where it is not written down.
        jetpack: The JetPack it belongs to; None where that is not known.
    """

    model: str
    l4t: str | None
    jetpack: str | None


def board(root: Path = Path("/")) -> Board | None:
    """The Jetson this is, None where it is none."""
    compatible = _text(root / "proc/device-tree/compatible") or ""
    release = _text(root / "etc/nv_tegra_release") or ""
    if "nvidia,tegra" not in compatible and not release:
        return None
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release)
    l4t = ".".join(found.groups()) if found else None
    return Board(
        model=_text(root / "proc/device-tree/model") or "NVIDIA Jetson",
        l4t=l4t,
        jetpack=None if l4t is None else _jetpack(l4t),
    )


def _jetpack(l4t: str) -> str | None:
    known = [begin for begin in _JETPACKS if f"{l4t}.".startswith(f"{begin}.")]
    return _JETPACKS[max(known, key=len)] if known else None


def power_mode(root: Path) -> str | None:
    """The nvpmodel mode, for example ``MAXN_SUPER``; its number where the table has no name for it."""
    mode = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if mode is None:
        return None
    number = int(mode.group(1))
    table = _text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"^\s*<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)", table, re.MULTILINE)
    return name.group(1) if name else f"mode {number}"


def sm_mhz(root: Path) -> float | None:
    """Clock of the GPU."""
    for pattern in _GPU_CLOCKS:
        for folder in _matches(root / _DEVFREQ, pattern):
            if (hertz := _number(folder / "cur_freq")) is not None:
                return hertz / 1e6
    return None


def memory_mhz(root: Path) -> float | None:
    """Clock of the memory controller (EMC)."""
    for path in _MEMORY_CLOCKS:
        if hertz := _number(root / path):
            return hertz / 1e6
    return None


def temperature_c(root: Path) -> float | None:
    """The GPU's sensor; while the GPU is switched off, which it is when idle, it has no answer."""
    for zone in _matches(root / "sys/class/thermal", "thermal_zone*"):
        if (_text(zone / "type") or "").lower() in ("gpu-thermal", "gpu-therm"):
            millidegrees = _number(zone / "temp")
            return None if millidegrees is None else millidegrees / 1000
    return None


def power_w(root: Path) -> float | None:
    """What the module takes: the sum of its ``power_rails``; None where one of them cannot be read."""
    watts = _rails(root)
    rails = _of_module(watts)
    return sum(watts[name] for name in rails) if rails else None


def power_rails(root: Path) -> tuple[str, ...]:
    """The rails that ``power_w`` adds up, as the board calls them; empty where their sum is not known to be all."""
    return _of_module(_rails(root))


def _of_module(found: Container[str]) -> tuple[str, ...]:
    return next((rails for rails in _RAILS if all(name in found for name in rails)), ())


def _rails(root: Path) -> dict[str, float]:
    """Watts of every rail that can be read."""
    found = {}
    for sensor in _matches(root / "sys/class/hwmon", "hwmon*"):
        for label in _matches(sensor, "in*_label"):
            channel = label.name[len("in") : -len("_label")]
            millivolts = _number(sensor / f"in{channel}_input")
            milliamperes = _number(sensor / f"curr{channel}_input")
            if millivolts is not None and milliamperes is not None:
                found[_text(label) or ""] = millivolts * milliamperes / 1e6
    return found


def throttle(root: Path) -> tuple[str, ...] | None:
    """The thermal alarms that are on; empty where none is, None where there are none to read."""
    states = {
        name: _number(device / "cur_state")
        for device in _matches(root / "sys/class/thermal", "cooling_device*")
        if (name := _text(device / "type") or "").endswith("-alert")
    }
    return tuple(name for name, state in states.items() if state) if states else None


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(folder.glob(pattern)))


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip("\0\n ")
    except OSError:  # missing, not for us, or a sensor that is switched off
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
