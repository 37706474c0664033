"""What `make gpu` benches, above a fake GPU: engines are built, a result is written, and the report shows it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench import on_gpu
from bench.on_gpu import main, run
from bench.peers import entrant
from bench.report import report
from bench.results import read_results
from convcut_trt.backends import probe
from convcut_trt.backends.base import BuildOptions, BuiltEngine, Layer
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.errors import BackendMissing, BuildError
from convcut_trt.gates import judged
from convcut_trt.measuring import conditions, latency, provenance, timed, versus
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.results import IDLE, ON_GPU, STEADY, WHOLE
from tests.bench.report_results import H200
from tests.bench.test_report import Page
from tests.bench.test_report_benches import section, svgs
from tests.building import FACES
from tests.gpu.fake_trt import plan
from tests.gpu.machine import GPU, Machine, machine

RESULT = "bench.fake-gpu.tensorrt.json"


def built(self: TensorRT, typed_onnx: Path, options: BuildOptions, *progress: Any) -> BuiltEngine:
    """An engine of the fake TensorRT, which computes all in what the weights are stored in."""
    content = typed_onnx.read_bytes()
    weights = onnx.load_from_string(content).graph.initializer
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights)
    layers = (Layer("all", "Conv", "fp16" if half else "fp32", 1),)
    engine = plan(content, options.batch)
    return BuiltEngine(engine, self.flavour, "10.3.0", ((8, 9),), layers, None, "", 0.1, None)


def twin(engine: Entrant) -> Entrant:
    """A peer that is the engine itself."""
    asked = engine.subject.asked
    return entrant(
        engine, "torch", asked, f"{asked} on the GPU", engine.open, versions={}, sha256={}
    )


def absent(engine: Entrant) -> Entrant:
    """A peer that is not installed."""
    raise BackendMissing("trtexec is not installed")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A fake GPU on which building works, called an H200 where results are written; everything is short."""
    monkeypatch.setattr(on_gpu, "gpu", lambda: GPU)
    monkeypatch.setattr(on_gpu, "PEERS", {"torch": twin, "trtexec": absent})
    monkeypatch.setattr(TensorRT, "build", built)
    monkeypatch.setattr(judged, "bundled", lambda *arguments: FACES)
    monkeypatch.setattr(provenance, "machine", lambda: H200)
    monkeypatch.setattr(conditions, "flags", lambda before, after: {})
    monkeypatch.setattr(timed, "WARM_UP_S", 0.01)
    monkeypatch.setattr(latency, "_CHUNK", 2)
    monkeypatch.setattr(versus, "until_quiet", lambda: None)
    # slow among a test run's many objects
    monkeypatch.setattr(gc, "collect", lambda *generation: 0)
    with machine(tmp_path) as found:
        yield found
        found.check()


def test_both_precisions_are_benched_and_the_report_shows_them(
    gpu: Machine, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    out.mkdir()
    assert run(out, "tensorrt", 0.02) == 0
    assert [path.name for path in out.iterdir()] == [RESULT]
    (found,) = read_results(out).benches
    assert found.result.complete and str(tmp_path) not in (out / RESULT).read_text()
    names = {one.subject.asked: one.subject.name for one in found.result.measured[:2]}
    assert set(names) == {"fp32", "fp16"}
    for one in found.result.measured[:2]:
        assert one.subject.flavour == "tensorrt" and not one.not_measured
        ways = {(series.way, series.batch) for series in one.series}
        assert {(way, batch) for way in (STEADY, ON_GPU) for batch in (1, 4, 16)} <= ways
        assert {(IDLE, 1), (WHOLE, 1)} <= ways
    assert [one.subject.name for one in found.result.measured[2:]] == ["torch fp32", "torch fp16"]
    assert found.result.skipped == {"trtexec": "trtexec is not installed"}
    compared = {(pair.name, pair.other) for pair in found.result.compared}
    assert (names["fp32"], names["fp16"]) in compared and (names["fp16"], "torch fp16") in compared

    text = report(out, None)
    rows = Page(section(text, "devices-measured")).rows
    shown = {row[2]: row for row in rows if row[0] == H200.device}
    for name in names.values():
        assert shown[name][3] == ON_GPU and shown[name][8].endswith("(estimate)")
    roofline = section(text, "rooflines")
    (plot,) = svgs(roofline)
    assert plot.count('class="mark') == 2
    assert sum(row[0] in names.values() for row in Page(roofline).rows) == 2 * 3


def test_without_its_tensorrt_nothing_is_wrong(
    gpu: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(TensorRT, "can_run", lambda self: "tensorrt is not installed")
    out = tmp_path / "results"
    assert main(["--out", str(out), "--backend", "tensorrt", "--quick"]) == 0
    assert capsys.readouterr().out == "no bench of tensorrt: tensorrt is not installed\n"
    assert not list(out.iterdir())


def test_a_gpu_that_it_has_no_engines_for_is_said(
    gpu: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuses(*arguments: Any) -> Any:
        raise BuildError("Unsupported SM: 0x900")

    monkeypatch.setattr(TensorRT, "build", refuses)
    assert run(tmp_path, "tensorrt", 0.02) == 0
    shown = capsys.readouterr()
    assert "no bench of tensorrt: it has no engine for Fake GPU" in shown.out
    assert "Unsupported SM" in shown.err
    assert not (tmp_path / RESULT).exists()


def test_an_engine_that_fails_its_gates_fails_the_part_and_the_other_is_benched(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slovenly(*arguments: Any) -> BuiltEngine:
        """Asked for FP16 it computes in FP32."""
        return replace(built(*arguments), layers=(Layer("all", "Conv", "fp32", 1),))

    monkeypatch.setattr(TensorRT, "build", slovenly)
    assert run(tmp_path, "tensorrt", 0.02) == 1
    (found,) = read_results(tmp_path).benches
    assert [one.subject.asked for one in found.result.measured] == ["fp32", "fp32"]


def test_an_interruption_ends_it(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(TensorRT, "build", interrupted)
    assert run(tmp_path, "tensorrt", 0.02) == 130
    assert len(calls) == 1


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not isinstance(probe.gpu(), str):
        pytest.skip("there is a GPU here")
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no bench of tensorrt-rtx: ")
