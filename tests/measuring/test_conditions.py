"""The machine around a measurement: what is read of it, and what makes a verdict inconclusive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.measuring import conditions
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.conditions import Conditions, flags, others
from tests import machines
from tests.machines import FULL, H200_GPU, ORIN_GPU, ORIN_NANO, Cuda, Nvml, files, loader

CPU = {
    "proc/loadavg": "1.52 0.97 0.80 2/91 4242\n",
    "proc/stat": "cpu  1000 100 500 90000 400 0 50 350 7 0\ncpu0 500 50 250 45000 200 0 25 175 0 0\n",
    "proc/vmstat": "nr_free_pages 100\npswpin 12\npswpout 30\n",
    "proc/cpuinfo": "processor : 0\nmodel name : A CPU\ncpu MHz : 2400.0\n\nprocessor : 1\ncpu MHz : 2600.0\n",
    "proc/self/cgroup": "0::/user.slice/a.scope\n",
    "sys/fs/cgroup/user.slice/a.scope/cpu.stat": "usage_usec 12\nnr_periods 5\nnr_throttled 3\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2\n",
    "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n",
}


def read(root: Path, texts: Mapping[str, str], load: Any = None) -> Conditions:
    return conditions.read(root=files(root, texts), load=load or loader())


def test_a_cpu(tmp_path: Path) -> None:
    found = read(tmp_path, CPU)
    assert found.gpu is None
    assert found.governor == "powersave"
    assert found.cpu_mhz == 2500
    assert found.load == 1.52
    assert (found.thermal_events, found.quota_stops, found.swapped_pages) == (7, 3, 42)
    # all but idle and waiting, in ticks of a hundredth of a second; guests count as user already
    assert found.busy_s == pytest.approx((1000 + 100 + 500 + 50 + 350) / 100)


def test_the_clock_of_the_moment_counts(tmp_path: Path) -> None:
    clocks = {
        f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": f"{khz}\n"
        for n, khz in enumerate((1_200_000, 1_800_000))
    }
    assert read(tmp_path, {**CPU, **clocks}).cpu_mhz == 1500


@pytest.mark.parametrize(
    ("group", "place"),
    [
        ("4:memory:/a\n3:cpu,cpuacct:/b\n", "cpu,cpuacct/b"),
        ("3:cpu:/b\n", "cpu/b"),
        ("3:cpu:/docker/of the host\n", "cpu"),
        ("0::/\n", ""),
    ],
)
def test_the_control_group_is_found(tmp_path: Path, group: str, place: str) -> None:
    texts = {"proc/self/cgroup": group, f"sys/fs/cgroup/{place}/cpu.stat": "nr_throttled 9\n"}
    assert read(tmp_path, texts).quota_stops == 9


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, {})
    assert (found.gpu, found.governor, found.cpu_mhz, found.load) == (None,) * 4
    assert (found.thermal_events, found.quota_stops, found.swapped_pages, found.busy_s) == (
        None,
        None,
        None,
        None,
    )
    assert flags(found, found) == {}
    assert others(found, found) is None


def test_a_jetson_tells_of_its_gpu_and_mode(tmp_path: Path) -> None:
    found = read(tmp_path, {**CPU, **ORIN_NANO}, loader(Cuda(ORIN_GPU)))
    assert found.gpu is not None
    assert found.gpu.power_mode == "MAXN_SUPER"
    assert flags(found, found) == {"throttled": "the GPU says gpu-throttle-alert"}


@pytest.mark.parametrize(
    ("bits", "flagged"),
    [(0x1, False), (0x2, False), (0x100, False), (0x8, True), (0x4, True), (0x42, True)],
)
def test_reasons_that_a_user_chose_are_no_fault(tmp_path: Path, bits: int, flagged: bool) -> None:
    numbers = {**FULL, "nvmlDeviceGetCurrentClocksEventReasons": bits}
    found = read(tmp_path, CPU, loader(Cuda(H200_GPU), Nvml(["0000:04:00.0"], numbers)))
    assert ("throttled" in flags(found, found)) == flagged


QUIET = Conditions(
    at_s=100.0,
    cores=2,
    load=0.1,
    thermal_events=7,
    quota_stops=3,
    swapped_pages=42,
    busy_s=50.0,
    own_s=20.0,
)
LATER = replace(QUIET, at_s=110.0, busy_s=60.0, own_s=30.0)


@pytest.mark.parametrize(
    ("changes", "flag", "shown"),
    [
        ({}, None, ""),
        ({"thermal_events": 8}, "throttled", "slowed down by heat"),
        ({"quota_stops": 5}, "throttled", "used up 2 times"),
        ({"swapped_pages": 50}, "swapped", "8 pages"),
        ({"busy_s": 66.0}, "busy", "others took 30%"),
        ({"busy_s": 64.0}, None, ""),
        ({"gpu": State(throttle=("hardware slowdown",), source="NVML")}, "throttled", "hardware"),
        ({"thermal_events": None, "swapped_pages": None, "busy_s": None}, None, ""),
    ],
)
def test_what_was_wrong_in_between(changes: dict[str, Any], flag: str | None, shown: str) -> None:
    found = flags(QUIET, replace(LATER, **changes))
    assert list(found) == ([] if flag is None else [flag])
    assert flag is None or shown in found[flag]


def test_throttling_before_counts_too() -> None:
    hot = replace(QUIET, gpu=State(throttle=("hardware thermal slowdown",), source="NVML"))
    assert list(flags(hot, LATER)) == ["throttled"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"power": 10}, {"power": 10}, ""),
        ({"power": 10}, {"power": 2_500_010}, "by its power limit for 2.5 ms"),
        ({"heat": 0}, {"heat": 10**9}, "by heat for 1e+03 ms"),
        ({"power": 0, "heat": 0}, {"power": 10**6, "heat": 10**6}, "limit for 1 ms and by heat"),
        ({}, {"power": 10**9}, ""),
        ({"heat": 10**9}, {}, ""),
    ],
)
def test_a_gpu_that_was_held_down_in_between(
    before: dict[str, int], after: dict[str, int], said: str
) -> None:
    """Whatever the reasons of the two moments are: those of an idle GPU are none."""

    def state(counted: dict[str, int]) -> State:
        names = {f"held_by_{what}_ns": value for what, value in counted.items()}
        return State(throttle=(), source="NVML", **names)  # type: ignore[arg-type]

    found = flags(replace(QUIET, gpu=state(before)), replace(LATER, gpu=state(after)))
    assert list(found) == (["throttled"] if said else [])
    assert said in found.get("throttled", "")


def test_its_own_work_is_not_that_of_others() -> None:
    assert others(QUIET, LATER) == 0
    assert others(QUIET, replace(LATER, busy_s=65.0)) == pytest.approx(0.25)
    # ticks of the kernel and of the process are counted apart
    assert others(QUIET, replace(LATER, own_s=31.0)) == 0


def test_here() -> None:
    found = conditions.read(load=machines.loader())
    assert found.cores >= 1
    assert found.own_s > 0
