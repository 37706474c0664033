"""The tail kernel by nvcc for every architecture: registers, spills and shared memory from its own report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convcut_trt.kernels.tail import ATTENTIONS, DTYPES, LAYOUTS, Attention
from tests.kernels.host import random_tail
from tests.kernels.ptxas import ARCHITECTURES, checked_kernels

NAMES = {
    f"tail_{kind}_{layout}_{attention}"
    for kind in DTYPES.values()
    for layout in LAYOUTS
    for attention in ATTENTIONS
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_registers_spills_and_shared_memory(nvcc: str, architecture: int, tmp_path: Path) -> None:
    assert checked_kernels(nvcc, "tail.cu", architecture, tmp_path) == NAMES


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_one_kernel_alone(nvcc: str, attention: Attention, tmp_path: Path) -> None:
    tail = random_tail(np.random.default_rng(0), attention, (256, 3, 3))
    launch = tail.launch(1, "float16", "nhwc")
    defines = (f"-D{define}" for define in launch.defines)
    assert checked_kernels(nvcc, "tail.cu", 80, tmp_path, *defines) == {launch.name}
