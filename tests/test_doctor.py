"""What doctor says of machines that are not here, and which known problems it finds on them."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from convcut_trt import combinations, doctor
from convcut_trt.backends.probe import Gpu
from convcut_trt.combinations import Combination
from convcut_trt.errors import BackendMissing
from convcut_trt.manifest import EngineManifest
from tests import machines
from tests.building import make
from tests.gpu.machine import Machine, machine
from tests.machines import FULL, H200_GPU, ORIN_GPU, ORIN_NANO, RTX_GPU, THOR, THOR_GPU, Cuda, Nvml

GPU: dict[str, Any] = {"driver": None, "cuda": None, "problem": None, "board": None, "devices": []}


def gpu(capability: str, cuda: str = "13.0", l4t: str | None = None) -> dict[str, Any]:
    """The part of a report about one GPU."""
    board = {"model": "Jetson", "l4t": l4t, "jetpack": None}
    device = {"compute_capability": capability}
    return {**GPU, "cuda": cuda, "board": l4t and board, "devices": [device]}


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    report = doctor.examine(tmp_path, root=tmp_path, load=machines.loader())
    assert report["gpu"] == {**GPU, "problem": "no NVIDIA driver here"}
    assert report["healthy"]
    assert report["runs"] == "onnxruntime"
    assert json.loads(json.dumps(report))["backends"]["onnxruntime"] == "runs here"
    said = doctor.text(report)
    assert "none: no NVIDIA driver here" in said
    assert "known problems" not in said


def test_an_orin_nano_on_jetpack_6(tmp_path: Path) -> None:
    root = machines.files(tmp_path / "root", ORIN_NANO)
    load = machines.loader(Cuda(ORIN_GPU, version=12060), Nvml([], {}, driver="540.4.0"))
    report = doctor.examine(tmp_path, root=root, load=load)
    found = report["gpu"]
    assert (found["driver"], found["cuda"], found["problem"]) == ("540.4.0", "12.6", None)
    assert (found["board"]["l4t"], found["board"]["jetpack"]) == ("36.4.3", "6.2")
    (device,) = found["devices"]
    assert device["name"] == "Orin"
    assert device["compute_capability"] == "8.7"
    assert device["integrated"]
    assert device["memory_bytes"] == ORIN_GPU[3]
    assert device["memory_free_bytes"] == 5 * 2**30
    assert device["state"]["power_mode"] == "MAXN_SUPER"
    said = doctor.text(report)
    for part in ("5.0 of 7.4 GiB free", "GPU 1020 MHz", "gpu-throttle-alert", "JetPack", "540.4.0"):
        assert part in said


def test_a_thor_on_jetpack_7_whose_nvml_says_little(tmp_path: Path) -> None:
    root = machines.files(tmp_path / "root", THOR)
    load = machines.loader(Cuda(THOR_GPU), Nvml([THOR_GPU[4]], {}, driver="580.00"))
    report = doctor.examine(tmp_path, root=root, load=load)
    (device,) = report["gpu"]["devices"]
    assert report["gpu"]["board"]["jetpack"] == "7.0"
    assert device["memory_free_bytes"] == 100 * 2**30
    assert device["state"]["sm_mhz"] == 1575
    assert device["state"]["power_w"] is None


def test_two_gpus_each_with_its_own_memory(tmp_path: Path) -> None:
    library = Nvml([RTX_GPU[4], H200_GPU[4]], FULL, driver="580.95.05")
    load = machines.loader(Cuda(H200_GPU, RTX_GPU), library)
    report = doctor.examine(tmp_path, root=tmp_path, load=load)
    devices = report["gpu"]["devices"]
    assert [device["name"] for device in devices] == [H200_GPU[0], RTX_GPU[0]]
    assert [device["memory_free_bytes"] - 2**30 for device in devices] == [1, 0]
    assert not any(device["integrated"] for device in devices)
    assert library.open == 0


def test_the_memory_of_the_machine_is_not_that_of_a_gpu_with_its_own(tmp_path: Path) -> None:
    root = machines.files(tmp_path / "root", ORIN_NANO)
    report = doctor.examine(tmp_path, root=root, load=machines.loader(Cuda(RTX_GPU)))
    (device,) = report["gpu"]["devices"]
    assert device["memory_free_bytes"] is None
    assert "16.0 GiB" in doctor.text(report)


@pytest.mark.parametrize(
    ("device", "missing", "expected"),
    [
        (RTX_GPU, ["tensorrt", "tensorrt-rtx"], "[rtx]"),
        (RTX_GPU, ["tensorrt"], "convcut-trt build"),
        (ORIN_GPU, ["tensorrt"], "JetPack"),
        (H200_GPU, ["tensorrt"], "[jetson]"),
        (H200_GPU, ["onnxruntime", "tensorrt"], "[ort]"),
    ],
)
def test_what_to_install_next(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: Any,
    missing: list[str],
    expected: str,
) -> None:
    monkeypatch.setattr(
        doctor, "_backend", lambda name: "missing: it" if name in missing else "runs here"
    )
    report = doctor.examine(tmp_path, root=tmp_path, load=machines.loader(Cuda(device)))
    assert expected in report["next"]


def test_a_library_that_does_not_load_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tensorrt"
    package.mkdir()
    why = "libnvdla_compiler.so: cannot open shared object file: No such file or directory"
    (package / "__init__.py").write_text(f"raise ImportError({why!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    report = doctor.examine(tmp_path, root=tmp_path, load=machines.loader())
    assert why in report["versions"]["tensorrt"]
    assert any("nvidia-l4t-dla-compiler" in problem["fix"] for problem in report["problems"])
    assert report["healthy"]
    assert "known problems here" in doctor.text(report)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Machine]:
    """A fake GPU on which TensorRT 10.3 builds."""
    builder = "convcut_trt.backends.tensorrt.TensorRT.build"
    with machine(tmp_path) as found, mock.patch(builder, lambda _, *given: found.build(*given)):
        yield found
        found.check()


def engine_here(manifest: EngineManifest) -> str:
    """What is said of an engine that is alone in its folder."""
    folder = manifest.path.parent
    report = doctor.examine(folder, root=folder / "root", load=machines.loader())
    (state,) = report["engines"].values()
    assert report["healthy"] is not state.startswith("broken")
    return str(state)


@pytest.mark.parametrize("tail", ["native", "kernel"])
def test_the_witnesses_of_an_engine_are_replayed_on_its_gpu(
    tmp_path: Path, device: Machine, tail: str
) -> None:
    manifest = make(tmp_path / "engines", backend="tensorrt", tail=tail)
    assert engine_here(manifest).startswith("runs here, 16 witnesses within")
    failed = ({**manifest.gates[0], "verdict": "fail"},)
    replace(manifest, gates=failed).write(manifest.path)
    assert engine_here(manifest).startswith(f"broken: failed at {failed[0]['name']}")


def test_a_sound_engine_that_cannot_run_here_is_not_broken(tmp_path: Path, device: Machine) -> None:
    manifest = make(tmp_path / "engines", backend="tensorrt", tail="kernel")
    other = Gpu("other", (8, 7), "13.0")
    with mock.patch("convcut_trt.backends.probe.gpu", lambda: other):
        assert "does not run here: it was built for sm_89" in engine_here(manifest)
    lacking = mock.Mock(side_effect=BackendMissing("no NVRTC: pip install nvidia-cuda-nvrtc"))
    with mock.patch("convcut_trt.gpu.nvrtc.compile_kernel", lacking):
        assert engine_here(manifest) == f"does not run here: {lacking.side_effect}"
    device.trt.__version__ = "10.13.3"
    assert "here: sm_89, TensorRT 10.13.3" in engine_here(manifest)


@pytest.mark.parametrize(
    ("versions", "here", "fix"),
    [
        ({"cuda.bindings": "13.5.0"}, gpu("8.9", cuda="12.8"), "driver to 580"),
        ({"cuda.bindings": "13.0.1"}, gpu("8.7", "12.6", "36.4.3"), "convcut-trt[cuda12]"),
        ({"tensorrt": "10.16.2.10 in /usr/lib"}, gpu("8.7", "13.2", "39.2.0"), "--precision fp16"),
        ({"tensorrt_rtx": "1.7.1.116 in /x"}, gpu("9.0"), "--backend tensorrt"),
        (
            {"tensorrt": "10.9.0 in /home/me/venv/lib/python3.10/site-packages/tensorrt"},
            gpu("8.7", "12.6", "36.4.3"),
            "--system-site-packages",
        ),
        ({}, gpu("8.7", "12.2", "36.3.0"), "JetPack 6.2"),
        ({}, gpu("8.7", "11.4", "35.4.1"), "JetPack 6.2"),
        ({}, gpu("7.2", "11.4", "35.4.1"), "--backend onnxruntime"),
        ({"tensorrt": "11.4.1 in /usr/lib"}, gpu("8.7", "12.6", "36.4.7"), "JetPack 7.2.2"),
        ({"tensorrt": "11.3.0 in /usr/lib"}, gpu("11.0", "13.0", "38.4.0"), "TensorRT 10"),
    ],
)
def test_a_known_bad_combination_is_found(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], here: dict[str, Any], fix: str
) -> None:
    monkeypatch.setattr(combinations, "installed", frozenset)
    found = doctor.problems(versions, here)
    assert [fix in problem["fix"] for problem in found] == [True]
    assert found[0]["source"].startswith("https://")


@pytest.mark.parametrize(
    ("versions", "here"),
    [
        ({"cuda.bindings": "13.5.0"}, gpu("8.9")),
        ({"cuda.bindings": "12.9.2"}, gpu("8.7", "12.6", "36.4.3")),
        ({"cuda.bindings": "not installed"}, gpu("8.9", cuda="12.8")),
        ({"tensorrt": "10.16.2.10 in /usr/lib"}, gpu("11.0", "13.2", "39.2.0")),
        ({"tensorrt": "10.3.0 in /usr/lib/python3.10/dist-packages/tensorrt"}, gpu("8.7", "12.6")),
        ({"tensorrt_rtx": "1.7.1.116 in /x"}, gpu("8.9")),
        ({"tensorrt": "11.4.1 in /usr/lib"}, gpu("8.7", "13.2", "39.2.0")),
        ({"tensorrt": "11.4.1 in /x"}, gpu("9.0")),
        ({"tensorrt": "10.13.3 in /x", "tensorrt_rtx": "1.7.1 in /x"}, gpu("12.0")),
        ({"tensorrt": "not installed"}, GPU),
    ],
)
def test_a_good_combination_is_not_accused(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], here: dict[str, Any]
) -> None:
    monkeypatch.setattr(combinations, "installed", frozenset)
    assert doctor.problems(versions, here) == []


@pytest.mark.parametrize(
    ("installed", "fixes"),
    [
        ({"onnxruntime"}, 0),
        ({"onnxruntime_gpu"}, 0),
        ({"onnxruntime", "onnxruntime_gpu"}, 1),
        ({"tensorrt_rtx_cu13"}, 1),
    ],
)
def test_packages_that_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], fixes: int
) -> None:
    monkeypatch.setattr(combinations, "installed", lambda: frozenset(installed))
    assert len(doctor.problems({}, gpu("8.9", cuda="12.8"))) == fixes


def test_two_gpus_of_one_kind_are_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combinations, "installed", frozenset)
    two = {**gpu("9.0"), "devices": gpu("9.0")["devices"] * 2}
    assert len(doctor.problems({"tensorrt_rtx": "1.7.1 in /x"}, two)) == 1


def test_the_packages_of_the_table_are_looked_up_here() -> None:
    assert "onnxruntime" in combinations.installed()
    assert "numpy" not in combinations.installed()


@pytest.mark.parametrize("row", combinations.known(), ids=lambda row: row.what[:40])
def test_every_row_of_the_table_can_be_checked(row: Combination) -> None:
    facts = {"cuda", "l4t", "installed", "compute_capability"}
    facts |= {f"{name}{end}" for name in doctor._LIBRARIES for end in ("", "_folder", "_error")}
    assert set(row.when) <= facts
    for name, must in row.when.items():
        for one in [must] if isinstance(must, str) else must:
            if name != "installed" and not name.endswith(("_folder", "_error")):
                assert all(re.fullmatch(r"(>=|<|==)[\d.]+", part) for part in one.split(","))
    assert all(source.startswith("https://") for source in row.source.split("; "))
    assert row.fix
