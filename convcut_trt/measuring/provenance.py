"""Where a result comes from: commit, versions and machine, without a path or the machine's own name."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import convcut_trt
from convcut_trt.backends import probe
from convcut_trt.backends.probe import Loader
from convcut_trt.measuring import jetson, nvml

_LIBRARIES = (
    "numpy",
    "pillow",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "torch",
    "triton",
)


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    Attributes:
        device: What computes: the GPU, the Jetson, else the processor.
        processor: Model of the CPU.
        cores: Logical processors.
        memory_bytes: Of the CPU.
        gpu: Its name; None without.
        compute_capability: As ``8.9``.
        gpu_memory_bytes: All of it.
        driver: NVIDIA's.
        cuda: Newest CUDA that the driver knows.
        jetpack: On a Jetson.
        system: Of the machine, for example ``Linux x86_64``.
    """

    device: str
    processor: str
    cores: int
    memory_bytes: int | None
    gpu: str | None
    compute_capability: str | None
    gpu_memory_bytes: int | None
    driver: str | None
    cuda: str | None
    jetpack: str | None
    system: str


def commit() -> str | None:
    """Of the checkout this package lies in, ``-dirty`` where it has changes; None in an installed one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    except OSError:  # there is no git
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Of this package, Python, and the libraries that are there."""
    found = {"convcut_trt": convcut_trt.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(*, root: Path = Path("/"), load: Loader = ctypes.CDLL) -> Machine:
    """The machine.

    Args:
        root: Stands for ``/``.
        load: Opens a shared library.
    """
    found = probe.gpus(load)
    gpu = None if isinstance(found, str) else found[0]
    board = jetson.board(root)
    with nvml.opened(load) as library:
        driver = library.driver() if library else None
    return Machine(
        device=board.model if board else gpu.name if gpu else processor(root),
        processor=processor(root),
        cores=os.cpu_count() or 1,
        memory_bytes=_memory(root),
        gpu=gpu.name if gpu else None,
        compute_capability=".".join(map(str, gpu.compute_capability)) if gpu else None,
        gpu_memory_bytes=gpu.memory_bytes if gpu else None,
        driver=driver,
        cuda=gpu.cuda if gpu else None,
        jetpack=board.jetpack if board else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def processor(root: Path = Path("/")) -> str:
    """As /proc/cpuinfo calls it. Those of ARM have no name there: then what kind it is, for example ``aarch64``."""
    return _entry(root / "proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory(root: Path) -> int | None:
    text = _entry(root / "proc/meminfo", "MemTotal")
    return None if text is None else int(text.split()[0]) * 1024


def _entry(path: Path, name: str) -> str | None:
    """What stands behind a name in a file of ``name: value`` lines, the first time."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
