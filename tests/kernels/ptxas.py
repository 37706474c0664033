"""Holds kernels to their limits by what nvcc's own assembler reports of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.kernels.host import KERNELS

# CUDA 12.6 ends at 90; 110 and 120 came with 13.
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 110, 120)
_REPORT = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, "
    r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def checked_kernels(
    nvcc: str, source: str, architecture: int, folder: Path, *options: str
) -> set[str]:
    """Compiles a source of the package for one architecture, checks every kernel in it, and returns their names."""
    known = subprocess.run(
        [nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout.split()
    if f"compute_{architecture}" not in known:
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    flags = (
        "-std=c++17",
        f"-arch=sm_{architecture}",
        "-cubin",
        "-Werror=all-warnings",
        "-Xptxas=-v",
    )
    output = str(folder / "kernels.cubin")
    compiled = subprocess.run(
        [nvcc, *flags, *options, "-o", output, str(KERNELS / source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    kernels = _REPORT.findall(compiled.stderr)
    for name, stack, stores, loads, registers, rest in kernels:
        assert int(registers) <= 64, name
        assert stack == stores == loads == "0", name
        # All of it is dynamic: what launch() says is the whole, and its test holds that below 48 KB.
        assert "smem" not in rest, name
    return {kernel[0] for kernel in kernels}
