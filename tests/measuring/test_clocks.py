"""The state of a GPU, read from the files of a Jetson and from NVML: what is there, and what is not."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.backends import probe
from convcut_trt.measuring import clocks, jetson
from convcut_trt.measuring.clocks import State
from tests import machines
from tests.machines import FULL, H200_GPU, ORIN_GPU, ORIN_NANO, RTX_GPU, THOR, THOR_GPU, Cuda, Nvml

BUS = H200_GPU[4]


def test_an_orin_nano_on_jetpack_6_is_read_from_its_files(tmp_path: Path) -> None:
    root = machines.files(tmp_path, ORIN_NANO)
    assert clocks.read(root=root, load=machines.loader(Cuda(ORIN_GPU))) == State(
        sm_mhz=1020,
        memory_mhz=3199,
        temperature_c=48.5,
        power_w=6.0,
        throttle=("gpu-throttle-alert",),
        power_mode="MAXN_SUPER",
        source="sysfs",
    )


def test_a_thor_on_jetpack_7_takes_from_nvml_what_its_files_leave_out(tmp_path: Path) -> None:
    root = machines.files(tmp_path, THOR)
    few = {("nvmlDeviceGetClockInfo", 1): 300, ("nvmlDeviceGetTemperature", 0): 44}
    library = Nvml([THOR_GPU[4]], few)
    state = clocks.read(root=root, load=machines.loader(Cuda(THOR_GPU), library))
    assert state == State(
        sm_mhz=1575,
        memory_mhz=4266,
        temperature_c=44,
        throttle=(),
        power_mode="120W",
        source="sysfs, NVML",
    )
    assert library.open == 0


def test_what_only_root_may_read_is_none(tmp_path: Path) -> None:
    for_root = "sys/kernel/debug/bpmp/debug/clk/emc/rate"
    root = machines.files(tmp_path, {k: v for k, v in ORIN_NANO.items() if k != for_root})
    state = clocks.read(root=root, load=machines.loader(Cuda(ORIN_GPU)))
    assert state is not None
    assert state.memory_mhz is None
    assert state.sm_mhz == 1020


def test_a_discrete_gpu_is_read_through_nvml_alone(tmp_path: Path) -> None:
    root = machines.files(tmp_path, ORIN_NANO)  # a Jetson with a GPU in its slot
    library = Nvml([BUS], FULL)
    assert clocks.read(root=root, load=machines.loader(Cuda(H200_GPU), library)) == State(
        sm_mhz=1980,
        memory_mhz=3201,
        temperature_c=41,
        power_w=118.0,
        throttle=(),
        power_mode="power limit 700 W",
        source="NVML",
    )
    assert library.open == 0


def test_cuda_and_nvml_may_count_the_gpus_in_different_orders(tmp_path: Path) -> None:
    library = Nvml([RTX_GPU[4], BUS], FULL)
    load = machines.loader(Cuda(H200_GPU, RTX_GPU), library)
    gpus = probe.gpus(load)
    assert not isinstance(gpus, str)
    states = [clocks.read(gpu, root=tmp_path, load=load) for gpu in gpus]
    assert [state and state.temperature_c for state in states] == [42, 41]


class Violations(Nvml):
    """One that also counts for how long a policy held the clocks down: nanoseconds by policy."""

    def __init__(self, lasted: dict[int, int]) -> None:
        super().__init__([BUS], {})
        self._lasted = lasted

    def nvmlDeviceGetViolationStatus(self, handle: Any, policy: int, answer: Any) -> int:  # noqa: N802
        """As nvml.h has it: nvmlPerfPolicyType_t, and nvmlViolationTime_t with two numbers of 64 bits."""
        if policy not in self._lasted:
            return 3  # NVML_ERROR_NOT_SUPPORTED
        assert ctypes.sizeof(answer._obj) == 16
        numbers = (ctypes.c_uint64 * 2).from_buffer(answer._obj)
        numbers[0], numbers[1] = 1_700_000_000_000_000, self._lasted[policy]
        return 0


@pytest.mark.parametrize(
    ("lasted", "power", "heat"),
    [({0: 5_000_000, 1: 7}, 5_000_000, 7), ({0: 0}, 0, None), ({1: 2**40}, None, 2**40)],
)
def test_how_long_clocks_were_held_down(
    tmp_path: Path, lasted: dict[int, int], power: int | None, heat: int | None
) -> None:
    state = clocks.read(root=tmp_path, load=machines.loader(Cuda(H200_GPU), Violations(lasted)))
    assert state == State(held_by_power_ns=power, held_by_heat_ns=heat, source="NVML")


@pytest.mark.parametrize("function", ["ClocksEventReasons", "ClocksThrottleReasons"])
@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x4, ("software power cap",)),
        (0x61, ("software thermal slowdown", "hardware thermal slowdown")),
    ],
)
def test_throttle_reasons_under_the_new_name_and_the_old(
    tmp_path: Path, function: str, bits: int, reasons: tuple[str, ...]
) -> None:
    library = Nvml([BUS], {f"nvmlDeviceGetCurrent{function}": bits})
    state = clocks.read(root=tmp_path, load=machines.loader(Cuda(H200_GPU), library))
    assert state == State(throttle=reasons, source="NVML")


@pytest.mark.parametrize(
    ("cuda", "nvml"),
    [
        (None, None),
        (None, Nvml([BUS], FULL)),
        (Cuda(), Nvml([BUS], FULL)),
        (Cuda(H200_GPU, status=100), Nvml([BUS], FULL)),
        (Cuda(H200_GPU), None),
        (Cuda(H200_GPU), object()),
        (Cuda(H200_GPU), Nvml([], FULL)),
        (Cuda(H200_GPU), Nvml(["0000:07:00.0", "0000:08:00.0"], FULL)),
        (Cuda(H200_GPU), Nvml([BUS], {})),
        (Cuda(H200_GPU), Nvml([BUS], {("nvmlDeviceGetClockInfo", 1): 0})),  # no clock is 0 MHz
        (Cuda(ORIN_GPU), None),
    ],
)
def test_nothing_to_read_is_none(tmp_path: Path, cuda: object, nvml: object) -> None:
    assert clocks.read(root=tmp_path, load=machines.loader(cuda, nvml)) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("pmode:0000", "15W"),
        ("pmode:0001 fmode:quiet", "25W"),
        ("pmode:0007", "mode 7"),
        ("", None),
        ("pmode:", None),
    ],
)
def test_power_modes(tmp_path: Path, status: str, expected: str | None) -> None:
    root = machines.files(tmp_path, {**ORIN_NANO, "var/lib/nvpmodel/status": status})
    assert jetson.power_mode(root) == expected


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack"),
    [
        ("# R36 (release), REVISION: 3.0, GCID: 1", "36.3.0", "6.0"),
        ("# R36 (release), REVISION: 4.0, GCID: 1", "36.4.0", "6.1"),
        ("# R36 (release), REVISION: 4.7, GCID: 1", "36.4.7", "6.2.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0", "7.2"),
        ("# R35 (release), REVISION: 6.4, GCID: 1", "35.6.4", "5"),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "99.1.0", None),
        ("# R36 (release), REVISION: 40.0, GCID: 1", "36.40.0", None),
        ("nonsense", None, None),
        ("", None, None),
    ],
)
def test_jetson_linux_and_jetpack(
    tmp_path: Path, release: str, l4t: str | None, jetpack: str | None
) -> None:
    root = machines.files(tmp_path, {**ORIN_NANO, "etc/nv_tegra_release": release})
    board = jetson.board(root)
    assert board is not None
    assert board.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (board.l4t, board.jetpack) == (l4t, jetpack)


def test_another_arm_board_is_no_jetson(tmp_path: Path) -> None:
    texts = {
        "proc/device-tree/model": "Raspberry Pi 5\0",
        "proc/device-tree/compatible": "raspberrypi,5\0",
    }
    assert jetson.board(machines.files(tmp_path, texts)) is None


@pytest.mark.gpu
def test_the_gpu_of_this_machine_says_how_fast_it_runs() -> None:
    state = clocks.read()
    assert state is not None
    assert state.sm_mhz
    assert state.source
