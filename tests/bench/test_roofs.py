"""The validation of estimates: what it lays over what, what it fits, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bench import cpu_roofs, estimates, roofs, roofs_page
from bench.cpu_roofs import copies, speeds
from bench.estimates import typed_model
from bench.layer_times import Timed, owners_of
from bench.probe import STAGES, network
from bench.roofs import errors, main
from convcut_trt.errors import InputError
from convcut_trt.measuring import provenance
from convcut_trt.measuring.roofline import ERRORS, Speed
from convcut_trt.measuring.work import ON_CPU, PRODUCTS, Work, layers

WORK = [
    Work(name, kind, "fp32", 0, 0, 4, 4)
    for name, kind in (
        ("/block 0/conv_dw", "depthwise"),
        ("/block 0/norm in", "layout"),
        ("/block 0/norm", "norm"),
        ("/block 0/norm out", "layout"),
        ("/block 0/fc1 conv", "gemm"),
        ("/block 0/gelu node", "gelu"),
        ("/block 0/fc2 conv", "gemm"),
    )
]
NAMES = {layer.name: at for at, layer in enumerate(WORK)}


@pytest.mark.parametrize(
    ("kernels", "owners"),
    [
        (
            [
                ("/block 0/conv_dw_nchwc", "Conv"),
                ("ReorderOutput", "ReorderOutput"),
                ("/block 0/norm", "LayerNormalization"),
                ("ReorderInput_token_7", "ReorderInput"),
                ("/block 0/fc1 conv_nchwc", "Conv"),
                ("/block 0/gelu node", "Gelu"),
                ("/block 0/fc2 conv_nchwc", "Conv"),
                ("ReorderOutput_token_9", "ReorderOutput"),
            ],
            [0, 1, 2, 3, 4, 5, 6, 6],
        ),
        (
            [
                ("/block 0/fc1 conv", "Conv"),
                ("Mul_85", "Mul"),
                ("Sqrt_81", "Sqrt"),
                ("Erf_83", "Erf"),
                ("fused /block 0/fc2 conv", "FusedConv"),
                ("InsertedPrecisionFreeCast_/block 0/conv_dw", "Cast"),
            ],
            [4, 5, 5, 5, 6, 0],
        ),
    ],
)
def test_kernels_are_laid_over_the_layers(
    kernels: list[tuple[str, str]], owners: list[int]
) -> None:
    assert owners_of(kernels, WORK, NAMES) == owners


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_profile_covers_the_probe(precision: str) -> None:
    typed = typed_model(network(), precision)
    timed = Timed(typed, layers(typed, 1, ON_CPU), 1)
    seconds = timed.run(2)
    times = timed.close()
    assert len(seconds) == 2 and times.shape == (2, len(timed.work))
    for layer, time in zip(timed.work, times.min(axis=0), strict=True):
        if layer.multiply_adds > 10**6:
            assert time > 0, layer.name
    assert times.sum(axis=1).min() > 0.5e6 * min(seconds)


def test_the_probe_has_sizes_of_no_recipe() -> None:
    onnx.checker.check_model(network())
    assert not {channels for channels, _ in STAGES} & {24, 48, 96, 128, 256, 512, 1024}


def test_overhead_and_share_are_told_apart() -> None:
    work = [Work(str(n), "gelu", "fp32", 0, 0, 4, 4) for n in range(4)]
    floors = np.array([1.0, 10.0, 40.0, 100.0])
    found = speeds(work, floors, 7 + floors / 0.25)
    assert found["gelu"].share == pytest.approx(0.25)
    assert found["gelu"].overhead_us == pytest.approx(7)
    alone = speeds(work[:1], floors[:1], np.array([5.0]))
    assert alone["gelu"] == Speed(1.0, 4.0)


def test_a_copy_has_a_speed_with_any_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_roofs, "COPIES_MB", (0.1, 1.0))
    for threads in (1, 2):
        assert all(speed > 0 for speed in copies(threads, 2).values())


def test_the_largest_factor_is_stated_rounded_up() -> None:
    found = [("fp32", 1.101), ("int8", 1.3), ("fp32", 1.05), ("int8", 1.311)]
    parts = {str(n): {"precision": of, "factor": factor} for n, (of, factor) in enumerate(found)}
    report: dict[str, Any] = {"parts": parts}
    assert errors(report) == {"fp32": 1.11, "int8": 1.32}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "PASSES", 2)
    monkeypatch.setattr(estimates, "_PASS_S", 0.01)
    monkeypatch.setattr(cpu_roofs, "COPIES_MB", (2.0, 8.0))
    monkeypatch.setattr(cpu_roofs, "SIZE", 128)


@pytest.mark.usefixtures("quick")
def test_a_run_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conv-cut-mini", "--precision", "fp32", "int8", "-o", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "roofs.json").read_text())
    parts = report["parts"]
    assert set(parts) == {f"conv-cut-mini, {kind}, 1 thread" for kind in ("fp32", "int8")}
    for form in parts.values():
        assert len(form["passes"]) == 2 and form["factor"] >= 1
        for one in form["passes"]:
            assert one["floor_ms"] > 0 and one["estimate_ms"] > 0
            assert one["samples_ms"]
        for row in (*form["layers"], *form["kinds"]):
            assert row["factor"] >= 1 and row["share"] > estimates.SHARE and row["bytes"] > 0
            assert (row["multiply_adds"] > 0) == (row["kind"] in PRODUCTS)
        assert form["threads"] == 1 and form["machine"]["processor"] == provenance.processor()
        assert form["machine"]["physical_cores"] >= 1
    page = (tmp_path / "roofs.md").read_text()
    assert "conv-cut-mini, 1 thread" in page and "estimate, ms" in page and "BF16" in page
    assert str(tmp_path) not in page + json.dumps(report)


@pytest.mark.usefixtures("quick")
def test_threads_are_parts_of_their_own(tmp_path: Path) -> None:
    given = ["conv-cut-mini", "--precision", "fp32", "--threads", "1", "2", "-o", str(tmp_path)]
    assert main(given) == 0
    parts = json.loads((tmp_path / "roofs.json").read_text())["parts"]
    assert {name: part["threads"] for name, part in parts.items()} == {
        "conv-cut-mini, fp32, 1 thread": 1,
        "conv-cut-mini, fp32, 2 threads": 2,
    }
    assert parts["conv-cut-mini, fp32, 2 threads"]["command"].endswith("--threads 2")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["conv-cut-mini", "-o", "nowhere"], "does not exist"),
        (["no-such-network"], "no-such-network"),
    ],
)
def test_what_cannot_be_measured(given: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        main(given)


def test_the_committed_page_is_of_the_committed_result() -> None:
    report = json.loads((roofs.RESULTS / roofs.NAME).read_text())
    page = (roofs.RESULTS / "roofs.md").read_text()
    assert page == roofs_page.markdown(report, errors(report))
    tried = {(part["network"], part["precision"]) for part in report["parts"].values()}
    for name in ("conv-cut-mini", "conv-cut-edge", "conv-cut"):
        assert {(f"{name}, 1 thread", precision) for precision in roofs.PRECISIONS} <= tried
    assert errors(report) == ERRORS
