"""``--tail``: an engine that ends at the map with the kernel behind it, and which of the two is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from convcut_trt import engine as engines
from convcut_trt import tails
from convcut_trt.errors import BackendMissing, EngineMismatch, InputError
from convcut_trt.manifest import STAND_IN, EngineManifest
from convcut_trt.measuring.measure import Timings
from tests.building import make
from tests.gpu.machine import Machine, machine


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Machine]:
    """A fake GPU on which TensorRT 10.3 builds."""
    with (
        machine(tmp_path) as found,
        mock.patch(
            "convcut_trt.backends.tensorrt.TensorRT.build", lambda _, *args: found.build(*args)
        ),
    ):
        yield found
        found.check()


def on_device(folder: Path, tail: str) -> EngineManifest:
    return make(folder, backend="tensorrt", tail=tail)


def test_an_engine_that_ends_at_the_map_answers_as_one_that_does_not(
    tmp_path: Path, device: Machine
) -> None:
    native = on_device(tmp_path / "native", "native")
    kernel = on_device(tmp_path / "kernel", "kernel")
    assert (native.tail, native.outputs) == ("native", ("logits", "probabilities", "map"))
    assert (kernel.tail, kernel.outputs) == ("kernel", ("map",))
    assert native.verified
    assert kernel.verified
    assert {gate["name"] for gate in kernel.gates} == {gate["name"] for gate in native.gates}
    faces, expected = kernel.spec.witness_faces(kernel.path.parent)
    for manifest in (native, kernel):
        with engines.load(manifest.path) as opened:
            np.testing.assert_allclose(opened.infer(faces)["probabilities"], expected, atol=0.003)


@pytest.mark.parametrize(("native_ms", "kept"), [(2.0, "kernel"), (0.9, "native"), (1.0, "native")])
def test_auto_keeps_the_kernel_only_where_it_measured_faster(
    tmp_path: Path, device: Machine, native_ms: float, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(workshop: object, built: object) -> list[Timings]:
        noise = np.random.default_rng(0).normal(1, 0.01, (2, 30))
        rounds = {"native tail": native_ms * noise[0], "kernel tail": noise[1]}
        return [Timings(2, rounds), Timings(1, rounds)]

    monkeypatch.setattr(tails, "time_engines", timed)
    manifest = on_device(tmp_path, "auto")
    assert manifest.tail == kept
    assert manifest.verdicts[-1].startswith(f"{kept} tail: kept; kernel tail")
    assert "native tail (" in manifest.verdicts[-1]


def test_auto_says_why_it_did_not_try(tmp_path: Path, device: Machine) -> None:
    with mock.patch("convcut_trt.gpu.kernels.missing", lambda: "no NVRTC"):
        manifest = on_device(tmp_path, "auto")
        assert manifest.tail == "native"
        assert "no NVRTC" in manifest.verdicts[-1]
        with pytest.raises(BackendMissing, match="no NVRTC"):
            on_device(tmp_path, "kernel")


def test_a_cpu_has_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave out --tail kernel"):
        make(tmp_path, tail="kernel")
    assert make(tmp_path, tail="auto").tail == "native"
    with pytest.raises(InputError, match="choose from native, kernel, auto"):
        make(tmp_path, tail="fused")


def test_an_engine_for_another_machine_may_end_at_the_map(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    rtx: dict[str, Any] = {"backend": "tensorrt-rtx", "targets": ("rtx4060ti",)}
    kernel = make(tmp_path / "kernel", tail="kernel", **rtx)
    assert (kernel.tail, kernel.outputs, kernel.verified_on) == ("kernel", ("map",), STAND_IN)
    native = make(tmp_path / "auto", tail="auto", **rtx)
    assert native.tail == "native"
    assert "not measured: no such device" in native.verdicts[-1]
    assert (kernel.operations or 0) < (native.operations or 0)


@pytest.mark.parametrize(
    ("version", "capability", "said"),
    [
        ("10.3.0", (8, 7), "built for sm_89 with TensorRT 10.3.0; here: sm_87, TensorRT 10.3.0"),
        ("10.13.3", (8, 9), "built for sm_89 with TensorRT 10.3.0; here: sm_89, TensorRT 10.13.3"),
    ],
)
def test_an_engine_of_another_gpu_or_version_says_what_to_build(
    tmp_path: Path, device: Machine, version: str, capability: tuple[int, int], said: str
) -> None:
    manifest = on_device(tmp_path, "native")
    device.trt.__version__ = version
    from convcut_trt.backends.probe import Gpu

    with (
        mock.patch("convcut_trt.backends.probe.gpu", lambda: Gpu("other", capability, "13.0")),
        pytest.raises(EngineMismatch, match=said) as caught,
    ):
        engines.load(manifest.path)
    assert "run: convcut-trt build conv-cut-mini --precision fp16 --backend tensorrt" in str(
        caught.value
    )
