"""Joules: from counters and sensors, divided by what was done meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from convcut_trt.measuring import energy
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
