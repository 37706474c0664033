"""Will a build on the device find its memory? Asked before it starts.

On a Jetson the GPU takes its memory from the same as all programs. A builder that finds none left is
not refused there: the kernel kills it, or the camera's process. A GPU with memory of its own refuses,
and TensorRT then skips what did not fit, so nothing has to be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convcut_trt.errors import InputError

WORKSPACE_MIB = 512
"""Cap on the builder's scratch memory where the GPU shares the machine's. Without one it is all there is.
TensorRT-RTX takes 186 MB for the paper's network in fp32 at batch 16, 96 MB in fp16."""

# A builder that has loaded its kernels: TensorRT 10.13 on a Jetson says "now: CPU 1459" MiB
# (https://github.com/OE4T/meta-tegra/issues/2120), and its CUDA context comes on top.
_BUILDER_MIB = 1536
# TensorRT's guide says "at least two copies of the weights" in host memory while it builds. Measured
# with TensorRT-RTX 1.7, networks of 2 to 197 MiB in fp32 and fp16: 3.2 to 3.6 times the file. On the
# GPU, which RTX does not use to build: what is timed, and the engine; an estimate.
_HOST_COPIES, _GPU_COPIES = 4, 2
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """What is free, in MiB: ``available`` without pushing anything out, and ``swap`` on a disk."""

    available: int
    swap: int


def free_memory(proc: Path = Path("/proc")) -> Memory | None:
    """What Linux has free; None where it does not tell."""
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
        swaps = (proc / "swaps").read_text("ascii").splitlines()[1:]
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        # zram, which JetPack sets up, is the same memory once more. Fields: name, type, size, used.
        disks = [line.split() for line in swaps if not line.startswith("/dev/zram")]
        return Memory(available // _KIB, sum(int(d[2]) - int(d[3]) for d in disks) // _KIB)
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def workspace(typed_onnx: Path, asked: int | None, shared: bool) -> int | None:
    """The cap on the builder's scratch memory, once a build was found to fit where memory is shared.

    Args:
        typed_onnx: What is built.
        asked: By the user, MiB; None is no wish.
        shared: Whether the GPU takes its memory from the machine's.

    Raises:
        InputError: Too little is free.
    """
    if not shared:
        return asked
    cap = asked or WORKSPACE_MIB
    check(typed_onnx, cap, free_memory())
    return cap


def check(typed_onnx: Path, workspace_mib: int, memory: Memory | None) -> None:
    """Refuses a build that shares its memory and would most likely not find enough.

    An estimate: the builder with its kernels, copies of the weights, and the workspace. What the host
    holds of it may go to swap, what the GPU holds may not.

    Args:
        typed_onnx: What is built; nearly all of the file are weights.
        workspace_mib: Cap on the builder's scratch memory.
        memory: What is free; None checks nothing.

    Raises:
        InputError: Too little is free.
    """
    if memory is None:
        return
    weights = typed_onnx.stat().st_size / (1 << 20)
    gpu = round(weights * _GPU_COPIES) + workspace_mib
    total = _BUILDER_MIB + round(weights * _HOST_COPIES) + gpu
    if gpu <= memory.available and total <= memory.available + memory.swap:
        return
    smaller = max(64, workspace_mib // 2)
    cap = f", cap the scratch memory with --workspace {smaller}" if smaller < workspace_mib else ""
    raise InputError(
        f"building {typed_onnx.name} needs about {total} MiB of the memory that the GPU shares with all "
        f"programs, and {memory.available} MiB are free with {memory.swap} MiB of swap on a disk: "
        f"close other programs{cap}, or add swap (for all but {gpu} MiB)"
    )
