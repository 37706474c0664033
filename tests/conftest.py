"""Settings shared by all tests."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# What tests import plainly reports to nobody either, see convcut_trt.optional.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Ignored where the suite was started in the background by a shell, and by all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, and no deadline: CI machines are shared and slow at times.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """One core for each worker of pytest-xdist: libraries that start a thread a core would fight over them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def gpu_present() -> bool:
    """Ask the driver itself: nvidia-smi is not on every Jetson, and torch is not needed to know."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0:
        return False
    return bool(driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the gpu tests where there is no GPU, but let `-m gpu` fail loudly there."""
    if "gpu" in config.option.markexpr or gpu_present():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the zoo model's FP16 engine for onnxruntime; tests copy what they change."""
    from convcut_trt.build import build
    from convcut_trt.gates.judged import bundled
    from convcut_trt.home import find_model
    from convcut_trt.request import Request

    folder, model = tmp_path_factory.mktemp("engines"), find_model("conv-cut-mini")
    request = Request("fp16", folder, backend="onnxruntime", judged=bundled(model.spec.size, 4))
    build(model, request, lambda phase, done, total: None)
    return folder


@pytest.fixture
def own_engines(engines: Path, tmp_path: Path) -> Path:
    """A copy of the engine folder that a test may damage."""
    return Path(shutil.copytree(engines, tmp_path / "own engines"))


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that times its engines does so in a moment: how well is measured elsewhere."""
    from convcut_trt import auto

    monkeypatch.setattr(auto, "SECONDS_EACH", 0.005)
    monkeypatch.setattr(auto, "LEAST", 3)


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, which makes an environment in seconds from what it has downloaded before.

    pip evaluates the markers of requirements for the Python that runs it; uv does for the target, and it knows the
    oldest versions.
    """
    tools = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv>=0.8"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index here")
    assert done.returncode == 0, done.stderr
    return tools / "bin" / "uv"
