"""The preprocessing kernel by nvcc for every architecture: registers, spills and shared memory by its report."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from convcut_trt.frames import FORMATS
from tests.kernels.host import KERNELS
from tests.kernels.ptxas import ARCHITECTURES, checked_kernels


# One of them always, Jetson Orin.
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, marks=[] if a == 87 else [pytest.mark.slow]) for a in ARCHITECTURES],
)
def test_registers_and_spills(nvcc: str, architecture: int, tmp_path: Path) -> None:
    names = checked_kernels(nvcc, "preprocess.cu", architecture, tmp_path)
    assert names == {f"preprocess_{format}" for format in FORMATS}


def test_weights_are_never_fused(nvcc: str, tmp_path: Path) -> None:
    """A fused multiply-add rounds once, where Pillow rounds twice: products of doubles are kept apart."""
    output = tmp_path / "preprocess.ptx"
    options = ("-std=c++17", "-arch=compute_80", "-ptx", "--use_fast_math")
    subprocess.run([nvcc, *options, "-o", str(output), str(KERNELS / "preprocess.cu")], check=True)
    doubles = set(re.findall(r"\b[a-z.]+\.f64\b", output.read_text()))
    assert {"mul.rn.f64", "div.rn.f64"} <= doubles
    assert not {name for name in doubles if "fma" in name or "approx" in name}, doubles
