"""The benchmark of the kernels, whole, on a fake GPU that computes: checks, turns, files, targets, failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import about, floors, kernels, kernels_page, turns
from bench.__main__ import PARTS
from bench.__main__ import main as bench_main
from bench.floors import Ceilings, tail_floor
from bench.inputs import Expected, random_map, random_tail
from bench.kernel_plan import FACES, TAIL, Form, Plan
from bench.kernels import run
from bench.kernels_page import MET, NOT_MEASURED, NOT_MET, markdown, targets
from bench.tails import BACKENDS
from bench.turns import IN_GRAPH, WAITED, WAYS, Effort, Wrong
from convcut_trt import preprocess
from convcut_trt.errors import BackendMissing, CudaError
from convcut_trt.gpu import driver, nvrtc
from convcut_trt.kernels.tail import ATTENTIONS
from tests.gpu.fake_context import Device
from tests.gpu.fake_cuda import FakeCuda

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("cuda.bindings.nvrtc")

EFFORT = Effort(rounds=2, slot_s=1e-4, most=1, runs=1)
PLAN = Plan(
    forms=(Form(8, 2, 0, "channel"), Form(8, 2, 4, "spatial")),
    batches=(1, 2),
    frame=(512, 480),
    formats=("rgb8", "nv12"),
    faces=(1, 2),
    seconds={TAIL: 60.0, FACES: 60.0},
    compile_s=60.0,
    warm_up_s=0.0,
    effort=EFFORT,
)

FEW = replace(PLAN, forms=PLAN.forms[:1], batches=(1,), formats=("rgb8",), faces=(1,))


class HostTorch:
    """torch on this CPU, in the place of TorchGpu."""

    def __init__(self, stream: int) -> None:
        self.stream = stream

    def __enter__(self) -> HostTorch:
        self._no_grad = torch.no_grad()
        self._no_grad.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._no_grad.__exit__(None, None, None)

    def tensor(self, array: Any) -> Any:
        return torch.from_numpy(array)

    def capture(self, call: Callable[[], object], runs: int) -> Callable[[], object]:
        return lambda: [call() for _ in range(runs)]

    def compiled(self, module: Callable[..., Any], mode: str) -> Callable[..., Any]:
        return module

    def tidy(self) -> None: ...


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A fake GPU in the driver's place."""
    fake = FakeCuda(Device(name="Fake H200", multiprocessors=4))
    monkeypatch.setattr(driver, "load_driver", lambda: fake)
    monkeypatch.setattr("bench.torch_side.TorchGpu", HostTorch)
    monkeypatch.setattr(floors, "COPY_BYTES", 1 << 16)
    # The fake runs the kernels' own source on the host, whatever image it is given.
    monkeypatch.setattr(nvrtc, "compile_kernel", lambda *arguments: b"cubin")
    return fake


def result(folder: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((folder / "kernels.fake-h200.json").read_text())
    return whole


def test_both_parts_are_measured_checked_and_written(gpu: FakeCuda, tmp_path: Path) -> None:
    for part in (FACES, TAIL):
        page = run(tmp_path, part, PLAN, ["python", "-m", "bench.kernels"], seed=3)
    whole = result(tmp_path)
    assert page.read_text() == markdown(whole)
    assert str(Path.cwd()) not in page.read_text() + json.dumps(whole)
    tail, preprocessing = (whole["parts"][part] for part in (TAIL, FACES))
    assert (tail["seed"], tail["copy_gb_per_s"] > 0, len(tail["rows"])) == (3, True, 4)
    assert [row["batch"] for row in tail["rows"]] == [1, 2, 1, 2]
    assert len(preprocessing["rows"]) == 4
    for row in (*tail["rows"], *preprocessing["rows"]):
        assert not row["wrong"]
        assert {"kernel", "empty kernel"} <= set(row["methods"])
        for name, method in row["methods"].items():
            assert "reason" not in method, (name, method)
            ways = {way for way in WAYS if way in method}
            assert WAITED in ways
            assert (IN_GRAPH in ways) == ("numpy" not in name and "overhead" not in name)
            figures = method[WAITED]
            assert 0 < figures["p50"] <= figures["p90"] <= figures["p99"]
            assert figures["of"] >= EFFORT.rounds
            assert len(figures["samples"]) <= 12
        for ways_of in row["kernel_is"].values():
            for value, low, high in ways_of.values():
                assert 0 <= low <= value <= high  # of few rounds the ends lie far apart
    assert {name for row in preprocessing["rows"] for name in row["methods"]} == {
        "kernel",
        "empty kernel",
        "numpy twin, CPU",
        "torch eager, interpolate with antialias",
    }
    assert {name for row in tail["rows"] if row["batch"] == 1 for name in row["methods"]} == {
        "kernel",
        "empty kernel",
        "torch eager",
        "torch.compile, default",
        "torch.compile, reduce-overhead",
        "native, softmax + MatMul",
        "native, Mul + ReduceSum",
    }
    assert tail["rows"][0]["methods"]["kernel"]["error"] <= 1e-5
    gpu.check()
    assert gpu.leaks() == {}


def test_a_part_that_is_measured_again_leaves_the_other(gpu: FakeCuda, tmp_path: Path) -> None:
    run(tmp_path, FACES, FEW, ["first"], seed=1)
    run(tmp_path, TAIL, FEW, ["first"], seed=1)
    run(tmp_path, TAIL, FEW, ["second"], seed=2)
    parts = result(tmp_path)["parts"]
    assert (parts[FACES]["command"], parts[TAIL]["command"]) == ("first", "second")


def test_without_torch_the_kernels_are_measured_all_the_same(
    gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(stream: int) -> Any:
        raise BackendMissing("torch sees no GPU")

    monkeypatch.setattr("bench.torch_side.TorchGpu", missing)
    for part in (FACES, TAIL):
        run(tmp_path, part, FEW, ["x"], seed=3)
    for part in result(tmp_path)["parts"].values():
        for row in part["rows"]:
            assert WAITED in row["methods"]["kernel"]
            assert "torch sees no GPU" in row["methods"]["torch"]["reason"]


def test_what_the_time_does_not_suffice_for_is_told(gpu: FakeCuda, tmp_path: Path) -> None:
    plan = replace(PLAN, seconds={TAIL: -1.0, FACES: -1.0})
    for part in (TAIL, FACES):
        run(tmp_path, part, plan, ["x"], seed=3)
    rows = [row for part in result(tmp_path)["parts"].values() for row in part["rows"]]
    assert len(rows) == 4 + 4
    assert all("time was used up" in row["reason"] for row in rows)
    page = (tmp_path / "kernels.fake-h200.md").read_text()
    assert "time was used up" in page
    assert {target.verdict for target in targets(result(tmp_path))} == {NOT_MEASURED}


@pytest.mark.parametrize("part", [TAIL, FACES])
def test_a_kernel_that_answers_wrong_fails_the_run_and_keeps_the_rest(
    part: str, gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.inputs.KERNEL_ERROR", 0.0)
    monkeypatch.setattr("bench.kernel_methods.KERNEL_ERROR", 0.0)

    def off_by_one(*arguments: Any) -> Any:
        return preprocess.faces(*arguments) ^ 1

    monkeypatch.setattr(kernels, "faces", off_by_one)
    with pytest.raises(Wrong, match="kernel"):
        run(tmp_path, part, FEW, ["x"], seed=3)
    for row in result(tmp_path)["parts"][part]["rows"]:
        assert "kernel" in row["wrong"]
        assert WAITED in row["methods"]["empty kernel"]


def test_outputs_that_nobody_writes_are_seen(
    gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.kernel_methods.KernelTail.call", lambda self: None)
    with pytest.raises(Wrong, match="nan"):
        run(tmp_path, TAIL, FEW, ["x"], seed=3)


def test_a_lost_context_ends_the_part_and_keeps_what_was_measured(
    gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    honest = turns.compare

    def once(*arguments: Any) -> Any:
        if measured:
            gpu.fail(1, "cuLaunchKernel", gpu.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
        measured.append(1)
        return honest(*arguments)

    monkeypatch.setattr(kernels, "compare", once)
    with pytest.raises(CudaError) as caught:
        run(tmp_path, FACES, PLAN, ["x"], seed=3)
    assert caught.value.fatal
    assert len(result(tmp_path)["parts"][FACES]["rows"]) == 1


def test_a_rival_that_fails_is_left_out_with_its_reason(
    gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: HostTorch, module: Any, mode: str) -> Any:
        def run(x: Any) -> Any:
            raise RuntimeError("no compiler in /usr/bin/cc")

        return run

    monkeypatch.setattr(HostTorch, "compiled", refused)
    run(tmp_path, TAIL, FEW, ["x"], seed=3)
    row = result(tmp_path)["parts"][TAIL]["rows"][0]
    assert row["methods"]["torch.compile, default"] == {"reason": "RuntimeError: no compiler in cc"}
    assert WAITED in row["methods"]["torch eager"]


@pytest.mark.parametrize("attention", [a for a in ATTENTIONS if a != "batch"])
@pytest.mark.parametrize("units", [0, 5])
def test_every_form_in_torch_computes_the_tail(attention: Any, units: int) -> None:
    from bench.torch_tails import WithProbabilities, exported, trained

    random = np.random.default_rng(0)
    tail = random_tail(random, 12, 3, units, attention, 7)
    map = random_map(random, tail, 3)
    expected = Expected(tail, map)
    for module in (trained(tail), exported(tail, as_sum=False), exported(tail, as_sum=True)):
        with torch.no_grad():
            both = WithProbabilities(module, tail.temperature)(torch.from_numpy(map))
        logits, probabilities = (values.numpy() for values in both)
        assert expected.error(logits, probabilities, 1e-5) <= 1e-5
        with pytest.raises(Wrong):
            expected.error(logits + 0.1, probabilities, 1e-5)
        with pytest.raises(Wrong):
            expected.error(logits, np.full_like(probabilities, np.nan), 1e-5)


def test_the_floor_is_that_of_the_header_comment() -> None:
    tail = random_tail(np.random.default_rng(0), 256, 3, 0, "channel", 8)
    h200 = Ceilings((9, 0), 132, 1980.0, 4.8e6)
    floor = tail_floor(tail, 1, 2, h200)
    assert floor["arithmetic_us"] == pytest.approx(2.07, abs=0.02)
    assert 0.001 < floor["bandwidth_us"] < 0.004
    assert tail_floor(tail, 133, 2, h200)["arithmetic_us"] == pytest.approx(
        2 * floor["arithmetic_us"], rel=1e-3
    )
    assert tail_floor(tail, 1, 2, Ceilings((9, 0), 132, None, 4.8e6))["arithmetic_us"] is None


def row(**changes: Any) -> dict[str, Any]:
    ways = {WAITED: [1.3, 1.2, 1.4], "back to back": [1.0, 0.9, 1.1]}
    kernel_is = {
        "empty kernel": ways,
        "torch eager": {way: [20.0, 12.0, 25.0] for way in ways},
        "torch.compile, default": {way: [4.0, 3.5, 4.5] for way in ways},
        "torch.compile, reduce-overhead": {way: [3.2, 2.9, 3.5] for way in ways},
    }
    plain = {"channels": 32, "side": 3, "units": 0, "attention": "channel", "batch": 1}
    return {**plain, "kernel_is": kernel_is, "methods": {}, **changes}


def test_a_target_is_met_where_the_whole_interval_of_the_worst_row_meets_it() -> None:
    assert kernel_at_most(row()) == MET
    assert kernel_at_most(row(), row(side=2, kernel_is=empty([1.5, 1.4, 1.51]))) == NOT_MET
    assert kernel_at_most(row(attention="spatial")) == NOT_MEASURED
    assert kernel_at_most(row(batch=2)) == NOT_MEASURED
    # The slower mode of torch.compile is no excuse for the faster one.
    compiled = [t for t in targets(whole(row())) if "torch.compile" in t.name]
    assert compiled[0].verdict == NOT_MET and "reduce-overhead" in compiled[0].figure
    eager = [t for t in targets(whole(row())) if "torch eager" in t.name]
    assert eager[0].verdict == MET


def empty(values: list[float]) -> dict[str, Any]:
    return {"empty kernel": {WAITED: values}}


def whole(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"device": "NVIDIA H200", "parts": {TAIL: {"rows": list(rows)}}}


def kernel_at_most(*rows: dict[str, Any]) -> str:
    return targets(whole(*rows))[0].verdict


@pytest.mark.parametrize(
    ("device", "p90", "verdict"),
    [
        ("NVIDIA H200", 9.0, MET),
        ("NVIDIA H200", 20.5, NOT_MET),
        ("NVIDIA GeForce RTX 4060 Ti", 9.0, NOT_MEASURED),
    ],
)
def test_the_target_of_preprocessing_is_for_one_gpu(device: str, p90: float, verdict: str) -> None:
    eight = [
        {"format": format, "faces": 8, "methods": {"kernel": {IN_GRAPH: {"p90": figure}}}}
        for format, figure in (("rgb8", 1.0), ("nv12", p90))
    ]
    found = targets({"device": device, "parts": {FACES: {"rows": eight}}})
    assert (found[-1].verdict, {target.verdict for target in found[:-1]}) == (
        verdict,
        {NOT_MEASURED},
    )


def test_an_error_is_told_without_the_folders_of_its_machine() -> None:
    assert turns.one_line(OSError("cannot open /home/me/x.so\nfor a reason")) == (
        "OSError: cannot open x.so for a reason"
    )
    assert len(turns.one_line(ValueError("x " * 1000))) <= 300
    assert about.slug("NVIDIA GeForce RTX 4060 Ti") == "nvidia-geforce-rtx-4060-ti"


def test_every_part_runs_though_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def part(arguments: list[str], limit_s: float) -> str:
        ran.append(arguments)
        return "exit code 2" if "tail" in arguments else ""

    monkeypatch.setattr("bench.__main__.run_part", part)
    assert bench_main(["--out", str(tmp_path), "--quick"]) == 1
    assert len(ran) == len(PARTS)
    assert all(("--quick" in words) != ("--faces" in words) for words in ran)
    benched = [words[words.index("--backend") + 1] for words in ran if words[0] == "bench.on_gpu"]
    assert sorted(benched) == sorted(BACKENDS)
    assert capsys.readouterr().out.count("done") == len(PARTS) - 1
    monkeypatch.setattr("bench.__main__.run_part", lambda arguments, limit_s: "")
    assert bench_main(["--out", str(tmp_path)]) == 0


def test_a_part_without_a_gpu_says_so_and_fails(tmp_path: Path) -> None:
    from bench.__main__ import run_part
    from convcut_trt.backends import probe

    if not isinstance(probe.gpu(), str):
        pytest.skip("there is a GPU here")
    for _, arguments, _ in PARTS[1:3]:
        command = [arguments[0], "--out", str(tmp_path), *arguments[1:]]
        assert run_part(command, 60) == "exit code 2"
    assert not list(tmp_path.glob("*.json"))
    assert run_part(["bench.kernels"], 0.01) == "ended after 0 s"


def test_a_part_that_takes_too_long_may_write_what_it_has(tmp_path: Path) -> None:
    from bench.__main__ import run_part

    kept = tmp_path / "kept"
    lines = (
        "import time, pathlib",
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()",
        "try: time.sleep(60)",
        f"except KeyboardInterrupt: pathlib.Path({str(kept)!r}).touch()",
    )
    assert run_part(["timeit", "-n", "1", "-r", "1", *lines], 2) == "ended after 2 s"
    assert (tmp_path / "begun").exists() and kept.exists()


def test_a_part_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import __main__ as module

    monkeypatch.setattr(module, "GRACE_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    start = time.monotonic()
    assert module.run_part(["timeit", "-n", "1", "-r", "1", deaf], 1) == "ended after 1 s"
    assert time.monotonic() - start < 30


def test_the_page_shows_every_method_that_was_measured(gpu: FakeCuda, tmp_path: Path) -> None:
    page = run(tmp_path, TAIL, FEW, ["x"], seed=3).read_text()
    for name in result(tmp_path)["parts"][TAIL]["rows"][0]["methods"]:
        assert name in page
    assert kernels_page.NOT_MEASURED in page and "| floor |" in page
