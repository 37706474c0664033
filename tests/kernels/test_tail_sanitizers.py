"""The tail kernel under the sanitizers, and bugs planted in it that they and the shim must find."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.host import HERE, KERNELS, compile_host

pytestmark = pytest.mark.slow

MEMORY = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREADS = ("-O1", "-g", "-fsanitize=thread")
PLAIN = ("-O0",)


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("flags", [MEMORY, THREADS], ids=["memory", "threads"])
def test_the_kernel_is_clean(tmp_path: Path, flags: tuple[str, ...]) -> None:
    found = run(compile_host(HERE / "host_tail.cpp", tmp_path / "host_tail", *flags))
    assert found.returncode == 0, found.stderr[-4000:]
    assert found.stdout == "80 runs\n"


def planted(folder: Path, marker: str, old: str, new: str, flags: tuple[str, ...]) -> Path:
    """A program around a copy of the kernel in which, behind ``marker``, ``old`` became ``new``."""
    source = (KERNELS / "tail.cuh").read_text()
    place = source.index(old, source.index(marker))
    changed = source[:place] + new + source[place + len(old) :]
    shutil.copyfile(HERE / "host_tail.cpp", folder / "host_tail.cpp")
    (folder / "tail.cuh").write_text(changed)
    return compile_host(folder / "host_tail.cpp", folder / "planted", *flags, kernels=folder)


@pytest.mark.parametrize(
    ("marker", "attention"),
    [
        ("if (fresh) stage<layout>", 0),
        ("if (i > j) scores[n]", 2),
        ("attend_channels(y, width, parameters.score, out);", 1),
        ("mean[n] /= powers;", 3),
        ("logits[face * shape.classes + row] = sum;", 0),
    ],
    ids=["map", "scores", "channels", "batch", "logits"],
)
def test_a_missing_barrier_is_found(tmp_path: Path, marker: str, attention: int) -> None:
    program = planted(tmp_path, marker, "__syncthreads();", "", THREADS)
    found = run(program, str(attention))
    assert found.returncode != 0
    assert "data race" in found.stderr


@pytest.mark.parametrize(
    ("marker", "old", "new", "attention"),
    [
        ("sum += parameters.head_bias", "[row]", "[row + 1]", 0),
        ("__device__ void stage", "n < count * shape.positions", "n <= count * shape.positions", 0),
        ("logits = sum +", "shape.classes;", "shape.classes - 1;", 1),
    ],
    ids=["parameters", "map", "shared memory"],
)
def test_a_step_out_of_bounds_is_found(
    tmp_path: Path, marker: str, old: str, new: str, attention: int
) -> None:
    found = run(planted(tmp_path, marker, old, new, MEMORY), str(attention))
    assert found.returncode != 0
    assert "heap-buffer-overflow" in found.stderr


@pytest.mark.parametrize(
    ("marker", "old", "new", "attention"),
    [
        ("y = out;", "y = out;", "y = out; if (thread >= 32) return;", 1),
        (
            "for (int row =",
            "const float sum =",
            "if (row == 1) __syncthreads();\nconst float sum =",
            0,
        ),
        (
            "float sum = 0;",
            "return warp_sum(sum);",
            "return threadIdx.x % 32 ? 0 : warp_sum(sum);",
            0,
        ),
    ],
    ids=["threads that left", "a branch of one warp", "a shuffle of one lane"],
)
def test_a_divergent_barrier_is_found(
    tmp_path: Path, marker: str, old: str, new: str, attention: int
) -> None:
    found = run(planted(tmp_path, marker, old, new, PLAIN), str(attention))
    assert found.returncode == 1
    assert found.stdout.startswith("divergent barrier: thread")
