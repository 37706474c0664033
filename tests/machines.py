"""Machines that are not here: the files of two Jetsons, and libraries as NVIDIA's driver brings them."""

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal:        7801856 kB\nMemFree:  100 kB\nMemAvailable:    5242880 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 612000000\n"
    "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51000\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "48500\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/thermal/cooling_device2/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device2/cur_state": "1\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1200\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr2_input": "400\n",
}
"""Jetson Orin Nano 8 GB on JetPack 6.2, as root sees it."""

THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "proc/meminfo": "MemTotal:      128790092 kB\nMemAvailable:  104857600 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n",
    "var/lib/nvpmodel/status": "pmode:0001\n",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n",
    "sys/class/devfreq/bwmgr/cur_freq": "4266000000\n",
    "sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "55000\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/cooling_device0/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
}
"""Jetson AGX Thor on JetPack 7.0, its GPU idle: the sensor of the GPU has no answer."""


def files(root: Path, texts: Mapping[str, str]) -> Path:
    """Writes such a machine's files under ``root`` and returns it."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class Cuda:
    """libcuda with these GPUs: name, (major, minor), integrated, bytes, PCI bus id."""

    def __init__(
        self,
        *gpus: tuple[str, tuple[int, int], bool, int, str],
        version: int = 13000,
        status: int = 0,
    ) -> None:
        self._gpus, self._version, self._status = gpus, version, status

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._gpus)
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = self._version
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self._gpus[device.value][0].encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:  # noqa: N802
        _, (major, minor), integrated, _, _ = self._gpus[device.value]
        value._obj.value = {18: int(integrated), 75: major, 76: minor}[number]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:  # noqa: N802
        size._obj.value = self._gpus[device.value][3]
        return 0

    def cuDeviceGetPCIBusId(self, text: Any, size: int, device: Any) -> int:  # noqa: N802
        text.value = self._gpus[device.value][4].encode()
        return 0


class Nvml:
    """libnvidia-ml. It has the functions of ``numbers`` alone, and answers what they say.

    Args:
        buses: PCI bus id of each GPU; the GPU at place n adds n to each number.
        numbers: By the name of a function, its answer; by (name, argument) where it takes one.
    """

    def __init__(self, buses: list[str], numbers: Mapping[Any, int], driver: str = "") -> None:
        self._buses, self._numbers, self._driver = buses, numbers, driver
        self.open = 0

    def __getattr__(self, function: str) -> Callable[..., int]:
        if function not in {key if isinstance(key, str) else key[0] for key in self._numbers}:
            raise AttributeError(function)

        def call(handle: Any, *arguments: Any) -> int:
            *extra, answer = arguments
            key = (function, *extra) if extra else function
            if key not in self._numbers:
                return 3  # NVML_ERROR_NOT_SUPPORTED
            value = self._numbers[key] + handle.value - 1
            if isinstance(answer._obj, ctypes.Structure):
                answer._obj.free = value
            else:
                answer._obj.value = value
            return 0

        return call

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.open += 1
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = self._driver.encode()
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: bytes, handle: Any) -> int:  # noqa: N802
        if bus.decode() not in self._buses:
            return 6  # NVML_ERROR_NOT_FOUND
        return self.nvmlDeviceGetHandleByIndex_v2(self._buses.index(bus.decode()), handle)

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index + 1  # a null pointer reads as None
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._buses)
        return 0


def loader(cuda: Any = None, nvml: Any = None) -> Callable[[str], Any]:
    """What opens these libraries, and no other."""

    def load(name: str) -> Any:
        library = {"libcuda.so.1": cuda, "libnvidia-ml.so.1": nvml}.get(name)
        if library is None:
            raise OSError(f"{name}: cannot open shared object file")
        return library

    return load


ORIN_GPU = ("Orin", (8, 7), True, 7_989_100_544, "0000:00:00.0")
THOR_GPU = ("NVIDIA Thor", (11, 0), True, 131_881_054_208, "0000:01:00.0")
H200_GPU = ("NVIDIA H200", (9, 0), False, 150_754_820_096, "0000:04:00.0")
RTX_GPU = ("NVIDIA GeForce RTX 4060 Ti", (8, 9), False, 17_179_869_184, "0000:03:00.0")

FULL = {
    "nvmlDeviceGetMemoryInfo": 2**30,
    ("nvmlDeviceGetClockInfo", 1): 1980,
    ("nvmlDeviceGetClockInfo", 2): 3201,
    ("nvmlDeviceGetTemperature", 0): 41,
    "nvmlDeviceGetPowerUsage": 118_000,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x1,
}
"""What NVML says of a discrete GPU that idles."""
