"""Joules: from counters and sensors, divided by what was done meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from convcut_trt.measuring import energy, jetson
from convcut_trt.measuring.energy import Counter, Sensor, meter, per_inference
from tests.machines import FULL, H200_GPU, ORIN_NANO, Cuda, Nvml, files, loader
from tests.models import quiet
from tests.timing import Clock

RAPL = {
    "sys/class/powercap/intel-rapl:0/energy_uj": "262143000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "5\n",
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(energy, "time", own)
    return own


class Device:
    """Takes 10 W, and 60 W while it works."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.used, self.working = clock, 0.0, False
        self.since = 0.0

    def watts(self) -> float:
        """Now; asking takes a millisecond."""
        self.clock.now += 1e-3
        return 60.0 if self.working else 10.0

    def joules(self) -> float:
        """All so far."""
        self.used += (self.clock.now - self.since) * (60.0 if self.working else 10.0)
        self.since = self.clock.now
        return self.used

    def call(self) -> None:
        """5 ms of work."""
        if not self.working:
            self.joules()
            self.working = True
        self.clock.now += 0.005


@pytest.mark.parametrize("kind", ["counter", "sensor"])
def test_an_inference_costs_power_times_time(clock: Clock, kind: str) -> None:
    device = Device(clock)
    found = (
        Counter("a board", 10.0, device.joules)
        if kind == "counter"
        else Sensor("a module", 10.0, device.watts)
    )
    told: list[tuple[str, int, int]] = []
    cost = per_inference(found, device.call, 4, 1.0, lambda *args: told.append(args))
    assert cost is not None
    assert cost.of in ("a board", "a module")
    assert cost.seconds == pytest.approx(
        10, rel=0.01
    )  # the meter's window, not the second asked for
    assert cost.inferences == pytest.approx(4 * 2000, rel=0.03)
    assert cost.joules == pytest.approx(60 * 0.005 / 4, rel=0.03)
    assert cost.watts == pytest.approx(60, rel=0.02)
    assert cost.idle_watts == pytest.approx(10, rel=0.02)
    assert told[-1][1] <= told[-1][2] == 100


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_meter_that_fails_gives_no_figure(clock: Clock, at: int) -> None:
    asked = []

    def read() -> float | None:
        asked.append(1)
        return None if len(asked) == at else float(len(asked))

    def call() -> None:
        clock.now += 0.01

    assert per_inference(Counter("x", 1.0, read), call, 1, 1.0, quiet) is None


def test_a_sensor_that_fails_gives_no_figure(clock: Clock) -> None:
    def call() -> None:
        clock.now += 0.01

    asked = []

    def read() -> float | None:
        asked.append(1)
        return None if len(asked) == 30 else 5.0

    assert per_inference(Sensor("x", 1.0, read), call, 1, 1.0, quiet) is None


def test_a_counter_that_starts_anew() -> None:
    values = iter([90.0, 20.0])
    counter = Counter("x", 1.0, lambda: next(values), wraps=100.0)
    counter.start()
    assert counter.joules() == 30


def test_a_cpu_with_rapl(tmp_path: Path) -> None:
    with meter(True, root=files(tmp_path, RAPL), load=loader()) as found:
        assert found is not None
        assert "RAPL" in found.of
        found.start()
        (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("1671150\n")
        assert found.joules() == pytest.approx(2.0)


def several_packages() -> dict[str, str]:
    return {**RAPL, "sys/class/powercap/intel-rapl:1/energy_uj": "7\n"}


@pytest.mark.parametrize(
    "texts", [dict, several_packages, lambda: {"sys/class/powercap/intel-rapl:0/energy_uj": ""}]
)
def test_without_a_counter_that_can_be_read(
    tmp_path: Path, texts: Callable[[], dict[str, str]]
) -> None:
    with meter(True, root=files(tmp_path, texts()), load=loader()) as found:
        assert found is None


def test_a_gpu_counts_millijoules(tmp_path: Path) -> None:
    numbers = {**FULL, "nvmlDeviceGetTotalEnergyConsumption": 5_000_000}
    nvml = Nvml(["0000:04:00.0"], numbers)
    with meter(False, root=tmp_path, load=loader(Cuda(H200_GPU), nvml)) as found:
        assert found is not None
        assert found.of == "the GPU's board"
        found.start()
        numbers["nvmlDeviceGetTotalEnergyConsumption"] += 1500
        assert found.joules() == pytest.approx(1.5)
        assert nvml.open == 1
    assert nvml.open == 0


def test_a_gpu_without_the_counter(tmp_path: Path) -> None:
    nvml = Nvml(["0000:04:00.0"], FULL)
    with meter(False, root=tmp_path, load=loader(Cuda(H200_GPU), nvml)) as found:
        assert found is None
    assert nvml.open == 0


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_jetson_measures_its_module(tmp_path: Path, on_cpu: bool) -> None:
    with meter(on_cpu, root=files(tmp_path, ORIN_NANO), load=loader()) as found:
        assert isinstance(found, Sensor)
        assert found.window_s == 30
        found.start()
        assert found.joules() == pytest.approx(0, abs=0.1)


def rails(*chips: dict[str, float]) -> dict[str, str]:
    """Files of power monitors, each a chip with the watts of its rails, at 5 V."""
    texts = {}
    for chip, watts in enumerate(chips):
        folder = f"sys/class/hwmon/hwmon{chip + 3}"
        for channel, (name, value) in enumerate(watts.items(), 1):
            texts[f"{folder}/in{channel}_label"] = f"{name}\n"
            texts[f"{folder}/in{channel}_input"] = "5000\n"
            texts[f"{folder}/curr{channel}_input"] = f"{value * 200:.0f}\n"
        # the driver adds up shunt voltages too, which are no rail
        texts[f"{folder}/in7_label"] = "sum of shunt voltages\n"
        texts[f"{folder}/in7_input"] = "9000\n"
    return texts


AGX_ORIN = rails(
    {"VDD_GPU_SOC": 10.0, "VDD_CPU_CV": 4.0, "VIN_SYS_5V0": 5.0},
    {"NC": 0.0, "VDDQ_VDD2_1V8AO": 1.5},
)
THOR = rails({"VDD_GPU": 20.0, "VDD_CPU_SOC_MSS": 6.5, "VIN_SYS_5V0": 6.0}, {"VIN": 50.0})


@pytest.mark.parametrize(
    ("texts", "of", "watts"),
    [
        (ORIN_NANO, "the module (VDD_IN)", 6.0),
        # the memory's rail is part of VIN_SYS_5V0
        (AGX_ORIN, "the module (VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0)", 19.0),
        # VIN has the carrier board in it
        (THOR, "the module (VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0)", 32.5),
        (rails({"VDD_IN": 15.0, "VDD_GPU_SOC": 9.0}), "the module (VDD_IN)", 15.0),
    ],
)
def test_the_rails_of_a_module_are_added_up_and_named(
    clock: Clock, tmp_path: Path, texts: dict[str, str], of: str, watts: float
) -> None:
    def call() -> None:
        clock.now += 0.05

    with meter(False, root=files(tmp_path, texts), load=loader()) as found:
        assert found is not None
        cost = per_inference(found, call, 1, 1.0, quiet)
    assert cost is not None
    assert cost.of == of
    assert cost.watts == pytest.approx(watts)
    assert jetson.power_w(tmp_path) == pytest.approx(watts)


@pytest.mark.parametrize(
    "missing", ["in1_label", "in2_input", "curr3_input"], ids=lambda name: f"without {name}"
)
def test_a_part_of_a_module_is_not_taken_for_the_whole(tmp_path: Path, missing: str) -> None:
    texts = {k: v for k, v in AGX_ORIN.items() if not k.endswith(f"hwmon3/{missing}")}
    with meter(True, root=files(tmp_path, texts), load=loader()) as found:
        assert found is None
    assert jetson.power_w(tmp_path) is None


@pytest.mark.gpu
def test_the_gpu_of_this_machine_uses_energy() -> None:
    import time

    with meter(False) as found:
        if found is None:
            pytest.skip("this GPU counts no energy: it is older than Volta")
        found.start()
        time.sleep(1)
        joules = found.joules()
    assert joules is not None
    assert joules > 0.5
