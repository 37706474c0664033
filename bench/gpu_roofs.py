"""What bounds this GPU, measured: matrix products and a copy, through torch.

A product of square matrices in each type stands for its peak, a copy of more than any cache holds for the
bandwidth. FP32 is without TF32, FP16 adds up in FP32, INT8 in INT32, as in the engines. Each is repeated for a
while, and the median counts: what can be sustained, not what a datasheet promises.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.benchmark import Timer

from convcut_trt.devices import Device, Figures
from convcut_trt.errors import BackendMissing

SIZE = 8192
COPY_BYTES = 1 << 29
_SECONDS = 0.3


def measured_device(name: str, compute_capability: tuple[int, int]) -> Device:
    """This GPU with measured figures in place of a datasheet's; those of power, clock and lanes are 0.

    Args:
        name: Of the GPU.
        compute_capability: (major, minor).

    Raises:
        BackendMissing: torch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise BackendMissing(
            "the roofs of this GPU are not measured, since torch sees none: install the build of torch for its CUDA"
        )
    about = torch.cuda.get_device_properties(0)
    found = peaks("cuda", SIZE, COPY_BYTES)
    torch.cuda.empty_cache()  # the engines need the memory
    figures = Figures(
        variant="measured here",
        bandwidth_gb_s=found["memory"],
        fp32_tflops=found["fp32"],
        fp16_tflops=found["fp16"],
        fp16_fp16_tflops=found["fp16"],
        int8_tops=found["int8"],
        l2_mb=about.L2_cache_size / 1e6,
        memory_gb=about.total_memory / 1e9,
        power_w=0.0,
        sms=about.multi_processor_count,
        cuda_cores=0,
        clock_mhz=0.0,
        sources={},
        doubtful={},
    )
    source = f"products of {SIZE} x {SIZE} and a copy of {COPY_BYTES >> 20} MiB by torch"
    return Device("", name, compute_capability, (), "", source, (figures,))


def peaks(device: str, size: int, copy_bytes: int) -> dict[str, float]:
    """Measures the peaks of a device.

    Args:
        device: Of torch.
        size: Rows and columns of the matrices.
        copy_bytes: Of what is copied, which is read and written.

    Returns:
        ``fp32``, ``fp16``, ``int8``: 1e12 operations a second, a multiply-add is two. ``memory``: 1e9 bytes
        a second.
    """
    operations = 2 * size**3
    random = torch.Generator(device).manual_seed(0)
    single = torch.randn(size, size, device=device, generator=random)
    half = single.half()
    integers = (single * 30).clamp(-127, 127).to(torch.int8)
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "fp32": operations / _seconds("torch.mm(a, a)", a=single) / 1e12,
        "fp16": operations / _seconds("torch.mm(a, a)", a=half) / 1e12,
        # the second one by columns, which is how INT8 cores take it
        "int8": operations / _seconds("torch._int_mm(a, a.t())", a=integers) / 1e12,
        "memory": 2 * copy_bytes / _seconds("b.copy_(a)", a=source, b=target) / 1e9,
    }


def _seconds(statement: str, **tensors: torch.Tensor) -> float:
    """Median of a statement, waited for in blocks that are long beside the waiting."""
    names: dict[str, Any] = {"torch": torch, **tensors}
    return float(Timer(statement, globals=names).blocked_autorange(min_run_time=_SECONDS).median)
