"""Layers of engines on a GPU, above a fake one: what is told is laid over the layers, what is not told is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench import gpu_layers, gpu_roofs, layers_page
from bench.gpu_layers import main, run
from bench.kernels_page import NOT_MEASURED
from bench.report import report
from convcut_trt.backends import probe
from convcut_trt.backends.base import BuildOptions, BuiltEngine
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.backends.trt_profile import operation_times
from convcut_trt.devices import Device, known
from convcut_trt.errors import BackendMissing, BuildError, CudaError, InputError
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.measuring import clocks, provenance
from tests.bench.report_results import CPU, H200
from tests.bench.test_report import EVIL, Page
from tests.bench.test_report_benches import section
from tests.gpu.fake_trt import plan
from tests.gpu.machine import GPU, VERSIONS, Machine, machine

RESULT = "layers.fake-gpu.json"
ANCHOR = "layers-on-gpus-measured-and-estimated"
DATASHEET = "NVIDIA H200, SXM"
FUSED = slice(20, 26)
BOTH = pytest.mark.parametrize(
    "gpu", [VERSIONS[0], VERSIONS[-1]], ids=["tensorrt", "tensorrt-rtx"], indirect=True
)


def built(self: TensorRT, typed_onnx: Path, options: BuildOptions, *progress: Any) -> BuiltEngine:
    """An engine of the fake TensorRT that fuses six nodes and begins with a change of layout."""
    content = typed_onnx.read_bytes()
    nodes = onnx.load_from_string(content).graph.node[FUSED]
    engine = plan(content, options.batch, fused=(tuple(node.name for node in nodes), ()))
    return BuiltEngine(engine, self.flavour, "10.3.0", ((8, 9),), (), None, "", 0.1, None)


@pytest.fixture
def gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Machine]:
    """A fake GPU on which building works, called an H200 where roofs are looked up; everything is short."""

    def no_torch(*arguments: Any) -> Any:
        raise BackendMissing("torch sees no GPU")

    monkeypatch.setattr(gpu_layers, "gpu", lambda: GPU)
    monkeypatch.setattr(gpu_layers, "QUICK_CASES", ((DEFAULT_MODEL, "fp16"),))
    monkeypatch.setattr(gpu_layers, "BATCHES", (1, 4))
    monkeypatch.setattr(gpu_layers, "QUICK_RUNS", 3)
    monkeypatch.setattr(gpu_layers, "WARM_UP_S", 0.01)
    monkeypatch.setattr(TensorRT, "build", built)
    monkeypatch.setattr(provenance, "machine", lambda: H200)
    monkeypatch.setattr(clocks, "read", lambda *arguments: None)
    monkeypatch.setattr(gpu_roofs, "measured_device", no_torch)
    with machine(tmp_path, *getattr(request, "param", VERSIONS[0])) as found:
        yield found
        found.check()


def measure(gpu: Machine, out: Path, code: int = 0) -> dict[str, Any]:
    """Runs it, and reads what it wrote of this backend."""
    out.mkdir()
    assert run(out, gpu.flavour, quick=True, command=["x"]) == code
    assert sorted(path.name for path in out.iterdir()) == [RESULT, RESULT.replace("json", "md")]
    whole = json.loads((out / RESULT).read_text())
    assert whole["device"] == GPU.name
    part: dict[str, Any] = whole["parts"][gpu.flavour]
    return part


@BOTH
def test_all_time_and_all_layers_are_accounted_for(gpu: Machine, tmp_path: Path) -> None:
    part = measure(gpu, tmp_path / "out")
    assert part["outcome"] == "1 engines measured"
    assert [row["batch"] for row in part["cases"]] == [1, 4]
    for row in part["cases"]:
        assert row["told"] >= row["reported"] > row["layers"]
        assert row["measured_ms"] > 0 and len(row["samples_ms"]) == 3
        assert "Reformatting CopyNode for Network Input images" in {
            one["operation"] for one in row["strangers"]
        }
        (against,) = row["against"]
        assert against["roofs"] == DATASHEET
        assert against["range_ms"][0] < against["estimate_ms"] < against["range_ms"][1]
        small, groups = against["small"], against["groups"]
        lost = sum(one["measured_us"] for one in row["strangers"])
        told = sum(group["measured_us"] for group in groups) + small["measured_us"] + lost
        assert told == pytest.approx(row["told_us"], rel=0.01)
        absent = sum(one["estimate_us"] for one in against["absent"])
        estimated = sum(group["estimate_us"] for group in groups) + small["estimate_us"] + absent
        assert estimated == pytest.approx(1000 * against["estimate_ms"], rel=0.01)
        assert all(group["share"] > 0.02 and group["factor"] >= 1 for group in groups)
        assert against["layer_factor"] == max(group["factor"] for group in groups)
    assert str(tmp_path) not in json.dumps(part)


def test_what_is_fused_is_one_group_of_several_layers(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.attribution.SHARE", 0.0)
    part = measure(gpu, tmp_path / "out")
    for row in part["cases"]:
        groups = row["against"][0]["groups"]
        (fused,) = (g for g in groups if any(name.startswith("__myl_") for name in g["operations"]))
        assert len(fused["layers"]) > 1
        assert row["against"][0]["small"]["groups"] == 0
        # what a layer takes in, here a cast or a GELU, is an operation of its own and belongs to it
        assert any(len(g["operations"]) > len(g["layers"]) for g in groups)


@pytest.mark.parametrize("which", ["gpu_times", "operation_times"])
def test_a_wrong_answer_has_no_times(
    which: str, gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = getattr(gpu_layers, which)

    def wrong(*arguments: Any) -> Any:
        times, answers = real(*arguments)
        return times, 1 - answers

    monkeypatch.setattr(gpu_layers, which, wrong)
    part = measure(gpu, tmp_path / "out", code=1)
    (row,) = part["cases"]
    assert "answered wrong" in row["outcome"] and "measured_ms" not in row
    assert part["outcome"] == "0 engines measured"
    assert "answered wrong" in (tmp_path / "out" / RESULT).with_suffix(".md").read_text()
    assert "answered wrong" in Page(section(report(tmp_path / "out", None), ANCHOR)).text


@BOTH
def test_where_the_profiler_says_nothing_that_is_the_result(gpu: Machine, tmp_path: Path) -> None:
    gpu.trt.tells = False
    part = measure(gpu, tmp_path / "out")
    for row in part["cases"]:
        assert (row["told"], row["told_us"], row["said"]) == (0, None, "nothing")
        assert row["against"][0]["factor"] >= 1 and "groups" not in row["against"][0]
    whole, layer = layers_page.targets(part)
    assert whole.verdict in (layers_page.KEPT, layers_page.MISSED)
    assert layer.verdict == NOT_MEASURED
    text = Page(section(report(tmp_path / "out", None), ANCHOR)).text
    assert "of single operations TensorRT told nothing" in text


def test_a_profiler_that_refuses_is_quoted(gpu: Machine, tmp_path: Path) -> None:
    gpu.cuda.fail(name="report_to_profiler")
    first, second = measure(gpu, tmp_path / "out")["cases"]
    assert first["told"] == 0 and "tell the times of its operations" in first["said"]
    assert second["told"] > 0


def test_a_lost_gpu_ends_it_and_what_was_measured_is_kept(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def lost(*arguments: Any) -> Any:
        calls.append(arguments[1])
        if len(calls) > 1:
            raise CudaError("the GPU is lost", "CUDA_ERROR_ILLEGAL_ADDRESS", True)
        return operation_times(*arguments)

    monkeypatch.setattr(gpu_layers, "operation_times", lost)
    with pytest.raises(CudaError, match="the GPU is lost"):
        run(tmp_path, gpu.flavour, quick=True, command=["x"])
    part = json.loads((tmp_path / RESULT).read_text())["parts"][gpu.flavour]
    assert [row["batch"] for row in part["cases"]] == [1]
    assert "not finished" in part["outcome"]


def test_an_engine_that_is_not_for_this_gpu_is_a_result(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*arguments: Any) -> Any:
        raise BuildError(f"Unsupported SM: 0x900 {EVIL}")

    monkeypatch.setattr(TensorRT, "build", refuses)
    (row,) = measure(gpu, tmp_path / "out")["cases"]
    assert row["outcome"].startswith("not measured: BuildError: Unsupported SM")
    shown = section(report(tmp_path / "out", None), ANCHOR)
    assert "Unsupported SM" in shown and "script" not in Page(shown).tags
    assert Page(shown).text.count(NOT_MEASURED) >= 2


def test_a_gpu_without_a_datasheet_is_held_against_its_own_roofs(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(name: str, compute_capability: tuple[int, int]) -> Device:
        return Device("", name, compute_capability, (), "", "a copy", known()["h200"].variants)

    monkeypatch.setattr(gpu_roofs, "measured_device", own)
    monkeypatch.setattr(provenance, "machine", lambda: CPU)
    part = measure(gpu, tmp_path / "out")
    assert part["missing"] == ["there are no datasheet figures of Fake GPU"]
    (roof,) = part["roofs"]
    for row in part["cases"]:
        (against,) = row["against"]
        assert against["roofs"] == roof["name"] and against["groups"]


def test_without_any_roofs_the_times_are_kept(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "machine", lambda: CPU)
    part = measure(gpu, tmp_path / "out")
    assert len(part["missing"]) == 2 and part["roofs"] == []
    assert all(row["told"] and row["against"] == [] for row in part["cases"])
    assert all(target.verdict == NOT_MEASURED for target in layers_page.targets(part))
    report(tmp_path / "out", None)


def test_a_large_network_has_random_weights(
    gpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def random(network: str, folder: Path) -> Any:
        asked.append(network)
        return find_model(DEFAULT_MODEL)

    monkeypatch.setattr(gpu_layers, "QUICK_CASES", (("conv-cut-edge", "int8"),))
    monkeypatch.setattr(gpu_layers, "_random", random)
    rows = measure(gpu, tmp_path / "out")["cases"]
    assert asked == ["conv-cut-edge"] and [row["precision"] for row in rows] == ["int8", "int8"]


def test_backends_stand_beside_each_other_in_the_report(gpu: Machine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    part = measure(gpu, out)
    whole = json.loads((out / RESULT).read_text())
    other = "tensorrt-rtx" if gpu.flavour == "tensorrt" else "tensorrt"
    whole["parts"][other] = {**part, "cases": []}
    (out / RESULT).write_text(json.dumps(whole))
    page = Page(section(report(out, None), ANCHOR))
    verdicts = {(row[0], row[1]): row[4] for row in page.rows if row[0].startswith("Fake GPU, ")}
    assert len(verdicts) == 4
    for (where, _), verdict in verdicts.items():
        assert (verdict == NOT_MEASURED) == (where == f"Fake GPU, {other}")
    rows = [row for row in page.rows if row[:2] == [DEFAULT_MODEL, "fp16"]]
    assert [row[2:4] for row in rows] == [["1", DATASHEET], ["4", DATASHEET]]
    assert "Reformatting CopyNode" in page.text
    assert f"## {other}: " in layers_page.markdown(whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.pop("cases"),
        lambda part: part.update(cases=[{"told": 3}]),
        lambda part: part["cases"][0].update(against=7),
        lambda part: part["cases"][0]["against"][0].update(groups=[{}]),
        lambda part: part["cases"][0].update(told_us=0.0),
    ],
)
def test_a_damaged_file_is_named(
    change: Callable[[dict[str, Any]], Any], tmp_path: Path, damaged: dict[str, Any]
) -> None:
    change(damaged["parts"]["tensorrt"])
    (tmp_path / "layers.x.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match=r"layers\.x\.json is not as this version writes it"):
        report(tmp_path, None)


@pytest.fixture
def damaged() -> dict[str, Any]:
    """A sound file, to be changed."""
    group = {
        "layers": ["a", "b", "c"],
        "operations": ["x"],
        "share": 0.9,
        "measured_us": 9.0,
        "estimate_us": 3.0,
        "factor": 3.0,
        "limited_by": "memory",
        "roof": "memory",
        "of_roof": 0.2,
    }
    against = {
        "roofs": "H200, SXM",
        "estimate_ms": 0.006,
        "range_ms": [0.002, 0.02],
        "factor": 1.5,
        "limited_by": "memory",
        "roof": "memory",
        "of_roof": 0.2,
        "groups": [group],
        "layer_factor": 3.0,
        "absent": [],
    }
    case = {
        "network": "conv-cut-mini",
        "precision": "fp16",
        "batch": 1,
        "outcome": "measured",
        "measured_ms": 0.009,
        "layers": 3,
        "reported": 2,
        "told": 2,
        "told_us": 10.0,
        "strangers": [{"operation": "y", "measured_us": 1.0}],
        "against": [against],
    }
    part = {
        "command": "python -m bench.gpu_layers",
        "commit": "0123456789abcdef",
        "date": "2026-01-02T00:00:00Z",
        "versions": {},
        "backend": {"tensorrt": "10.13"},
        "machine": {"processor": "A CPU", "cores": 8},
        "outcome": "1 engines measured",
        "roofs": [],
        "missing": [],
        "cases": [case],
    }
    return {"schema": 1, "device": "NVIDIA H200", "parts": {"tensorrt": part}}


def test_limits_are_kept_to_the_edge_and_missed_beyond(
    tmp_path: Path, damaged: dict[str, Any]
) -> None:
    part = damaged["parts"]["tensorrt"]
    (tmp_path / "layers.x.json").write_text(json.dumps(damaged))
    page = Page(section(report(tmp_path, None), ANCHOR))
    assert [row[4] for row in page.rows if row[0] == "NVIDIA H200, tensorrt"] == ["kept", "kept"]
    assert "a, b and 1 more" in page.text and "1 us (10.0 %)" in page.text
    assert "20 % of the memory roof, limited by memory" in page.text
    part["cases"][0]["against"][0] |= {"factor": 2.01, "layer_factor": 3.01}
    assert [target.verdict for target in layers_page.targets(part)] == ["missed", "missed"]


def test_without_results_both_targets_are_not_measured(tmp_path: Path) -> None:
    page = Page(section(report(tmp_path, None), ANCHOR))
    assert [row[4] for row in page.rows[1:]] == [NOT_MEASURED, NOT_MEASURED]
    assert "make gpu" in page.text


@BOTH
def test_without_its_tensorrt_nothing_is_wrong(
    gpu: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(TensorRT, "can_run", lambda self: "it is not installed")
    out = tmp_path / "out"
    assert main(["--out", str(out), "--backend", gpu.flavour, "--quick"]) == 0
    assert capsys.readouterr().out == f"no layer times of {gpu.flavour}: it is not installed\n"
    assert not list(out.iterdir())


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not isinstance(probe.gpu(), str):
        pytest.skip("there is a GPU here")
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no layer times of tensorrt-rtx: ")
    assert not list(tmp_path.iterdir())
