"""The benchmark of the engine with both tails: what it writes where the engine runs, and where it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import tails
from bench.tails import KERNEL, NATIVE, main, run
from bench.turns import Wrong
from convcut_trt.backends import probe
from convcut_trt.backends.base import BuildOptions, BuiltEngine
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.errors import BackendMissing, BuildError, EngineMismatch
from tests.gpu.fake_trt import plan
from tests.gpu.machine import GPU, Machine, machine


def built(self: TensorRT, typed_onnx: Path, options: BuildOptions, *progress: Any) -> BuiltEngine:
    """An engine of the fake TensorRT; its network says nothing of its types, so one gate fails."""
    content = plan(typed_onnx.read_bytes(), options.batch)
    return BuiltEngine(content, self.flavour, "1.7", ((8, 9),), (), None, "", 0.1, None)


@pytest.fixture
def rtx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine with a fake TensorRT-RTX, on which building works."""
    monkeypatch.setattr(tails, "gpu", lambda: GPU)
    monkeypatch.setattr(TensorRT, "build", built)
    monkeypatch.setattr(tails, "BATCHES", ((1, 1, 1),))
    with machine(tmp_path, "1.7.1.116", rtx=True) as found:
        monkeypatch.setattr("convcut_trt.gpu.kernels.missing", lambda: None)
        yield found


def result(folder: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((folder / "tails.fake-gpu.json").read_text())
    part: dict[str, Any] = whole["parts"]["tensorrt-rtx"]
    return part


def test_both_engines_are_built_judged_and_timed_in_pairs(rtx: Machine, tmp_path: Path) -> None:
    with pytest.raises(Wrong, match="computed"):
        run(tmp_path, "tensorrt-rtx", 2, ["x"])
    found = result(tmp_path)
    assert found["outcome"] == "runs, and fails at computed"
    assert [engine["engine"] for engine in found["engines"]] == [NATIVE, KERNEL]
    for engine in found["engines"]:
        assert engine["failed"] == ["computed"]
        assert "fidelity, median" in {gate["name"] for gate in engine["gates"]}
    (row,) = found["timings"]
    assert row["batch"] == 1 and len(row["rounds"][KERNEL]) == len(row["rounds"][NATIVE])
    assert row["kernel_is"][1] <= row["kernel_is"][0] <= row["kernel_is"][2]
    assert [tried["target"] for tried in found["ahead"]] == ["sm_90", "sm_89"]
    assert {tried["outcome"] for tried in found["ahead"]} == {"built, and runs here"}
    page = (tmp_path / "tails.fake-gpu.md").read_text()
    assert "times as fast" in page and "Built ahead of time for sm_90" in page
    assert str(tmp_path) not in page + json.dumps(found)
    rtx.check()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EngineMismatch("x is not valid here", log="Unsupported SM: 0x900"), "Unsupported SM"),
        (BuildError("the builder refused", log="no kernel"), "no kernel"),
    ],
)
def test_where_it_does_not_run_the_result_is_what_the_library_said(
    error: Exception, said: str, rtx: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(tails, "make", refused)
    monkeypatch.setattr(TensorRT, "open", refused)
    page = run(tmp_path, "tensorrt-rtx", 2, ["x"]).read_text()
    found = result(tmp_path)
    assert found["outcome"].startswith("does not run here") and str(error) in found["outcome"]
    assert said in found["said"] and said in page
    assert all(str(error) in tried["outcome"] for tried in found["ahead"])


def test_what_is_not_installed_is_not_measured(
    rtx: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRT, "can_run", lambda self: "tensorrt is not installed")
    run(tmp_path, "tensorrt-rtx", 2, ["x"])
    assert result(tmp_path)["outcome"] == "not measured: tensorrt is not installed"


def test_a_process_that_dies_leaves_that(
    rtx: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any) -> Any:
        raise SystemExit(139)

    monkeypatch.setattr(tails, "make", dies)
    with pytest.raises(SystemExit):
        run(tmp_path, "tensorrt-rtx", 2, ["x"])
    assert "not finished" in result(tmp_path)["outcome"]


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if not isinstance(probe.gpu(), str):
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendMissing, match="nothing can be measured"):
        main(["--out", str(tmp_path)])
