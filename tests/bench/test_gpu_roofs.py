"""Roofs measured through torch: here on the CPU, which is slower and answers the same calls."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bench import gpu_roofs
from bench.gpu_roofs import measured_device, peaks
from convcut_trt.errors import BackendMissing
from convcut_trt.home import find_model
from convcut_trt.measuring.roofline import estimate_for


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_roofs, "_SECONDS", 0.001)


def test_a_product_of_each_type_and_a_copy_have_a_speed() -> None:
    found = peaks("cpu", 64, 1 << 20)
    assert found.keys() == {"fp32", "fp16", "int8", "memory"}
    assert all(0 < value < 1e5 for value in found.values())


def test_a_gpu_that_is_not_in_the_table_gets_estimates_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speeds = {"fp32": 10.0, "fp16": 80.0, "int8": 160.0, "memory": 300.0}
    properties = SimpleNamespace(
        L2_cache_size=4 << 20, total_memory=8 << 30, multi_processor_count=8
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(gpu_roofs, "peaks", lambda *arguments: speeds)
    device = measured_device("New GPU", (13, 0))
    guess = estimate_for(device, find_model("conv-cut-mini").onnx, 1, device.figures().variant)
    assert guess.name == "New GPU, measured here"
    monkeypatch.setattr(
        gpu_roofs, "peaks", lambda *arguments: {k: v / 4 for k, v in speeds.items()}
    )
    slower = estimate_for(measured_device("New GPU", (13, 0)), find_model("conv-cut-mini").onnx)
    assert slower.floor_ms > 2 * guess.floor_ms > 0


def test_where_torch_sees_no_gpu_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendMissing, match="torch sees none"):
        measured_device("GPU", (8, 9))
