"""INT8 from the published ranges, BF16, and ``--precision auto``: what is kept, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt import auto, fields
from convcut_trt.errors import GateFailed
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import conditions, measure
from convcut_trt.precision.int8 import PLACEMENTS, places
from convcut_trt.precision.typed import form_of
from tests import models
from tests.building import ZOO, check_published, contents, make

BUSY = {"busy": "others took 60% of the CPU"}
RANGES = ZOO.onnx.with_suffix(".ranges.json")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that nobody else uses."""
    monkeypatch.setattr(conditions, "flags", lambda before, after: {})


def gate(manifest: EngineManifest, name: str) -> dict[str, Any]:
    """A gate of a manifest."""
    return next(dict(found) for found in manifest.gates if found["name"] == name)


def test_int8_on_a_cpu_from_the_published_ranges(tmp_path: Path) -> None:
    manifest = make(tmp_path, precision="int8")
    check_published(manifest, tmp_path)
    assert manifest.path.name == "conv-cut-mini.int8.onnxruntime.json"
    assert (manifest.placement, manifest.mlp) == ("pw", "linear")
    assert manifest.sha256["ranges"] == fields.sha256(RANGES)
    assert gate(manifest, "stored")["value"] == gate(manifest, "computed")["value"] == 1
    assert manifest.precision["computed"]["int8"] > 0.6
    assert manifest.precision["text"].endswith("in int8, the rest fp32")
    (verdict,) = manifest.verdicts
    assert verdict.startswith(("int8 (pw): within budget: ", "int8 (pw): not worth it here: "))
    assert {"fp16", "fp32"} < set(verdict.replace(",", " ").split())
    assert verdict.endswith("at batch 1")


def test_int8_that_the_cpu_computes_in_fp32_is_refused(tmp_path: Path) -> None:
    # Its convolutions are dequantised first: nothing is won, so it is not what was asked for.
    with pytest.raises(GateFailed, match="failed at computed") as caught:
        make(tmp_path, precision="int8", mlp="conv")
    assert "--mlp linear" in caught.value.log


@pytest.mark.parametrize(
    "placement",
    ["pw", "pw+dw", *(pytest.param(part, marks=pytest.mark.slow) for part in ("fc1", "fc2"))],
)
def test_int8_for_a_gpu_that_is_not_here(tmp_path: Path, placement: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    manifest = make(
        tmp_path,
        precision="int8",
        placement=placement,
        backend="tensorrt-rtx",
        targets=("rtx4060ti",),
    )
    check_published(manifest, tmp_path)
    assert (manifest.placement, manifest.mlp) == (placement, "conv")
    assert gate(manifest, "computed")["value"] == 1
    assert manifest.precision["text"].endswith("in int8, the rest fp16")
    assert gate(manifest, "fidelity")["verdict"] == "not run"
    assert manifest.verdicts == (f"int8 ({placement}): not measured: no such device",)


def test_bf16_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    manifest = make(
        tmp_path, precision="bf16", backend="tensorrt-rtx", targets=("rtx4060ti",), mlp="linear"
    )
    check_published(manifest, tmp_path)
    assert manifest.precision["text"] == "bf16 stored, bf16 computed"
    assert manifest.mlp == "linear"


def test_auto_measures_on_a_cpu_and_keeps_one(tmp_path: Path) -> None:
    manifest = make(tmp_path, precision="auto")
    check_published(manifest, tmp_path)
    said = dict(verdict.split(": ", 1) for verdict in manifest.verdicts)
    assert set(said) == {"fp16", "fp32", "bf16", *(f"int8 ({name})" for name in PLACEMENTS)}
    assert (
        said["bf16"] == "not built: onnxruntime has no bf16 kernels for a CPU: choose fp16 or int8"
    )
    kept = [name for name, verdict in said.items() if verdict.startswith("kept, ")]
    assert len(kept) == 1
    assert kept[0].split()[0] == manifest.precision["asked"]
    assert manifest.precision["requested"] == "auto"
    for name in ("fp16", "fp32", "int8 (pw)", "int8 (fc1)", "int8 (fc2)"):
        assert "ms at batch 1" in said[name] or " at batch 1" in said[name]


def test_auto_for_a_gpu_that_is_not_here_keeps_fp16(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    manifest = make(tmp_path, precision="auto", backend="tensorrt-rtx", targets=("rtx4060ti",))
    assert manifest.precision["asked"] == "fp16"
    kept, *others = manifest.verdicts
    assert kept == "fp16: kept, within budget, not measured: no such device"
    assert len(others) == 1 + len(PLACEMENTS)
    assert all("not measured: no such device" in verdict for verdict in others)


def test_auto_without_ranges_says_so(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.network("zoo"), ZOO.spec)
    manifest = make(tmp_path / "out", model, precision="auto")
    assert "int8: not built: the model has no ranges, `convcut-trt calibrate` makes them" in (
        manifest.verdicts
    )


def test_auto_goes_on_where_a_placement_is_not_possible(tmp_path: Path) -> None:
    values = json.loads(RANGES.read_text("utf-8"))
    pointwise = {place.source for place in places(models.network("zoo"), "pw")}
    kept = {name: ends for name, ends in values["tensors"].items() if name in pointwise}
    path = tmp_path / "pointwise.ranges.json"
    path.write_text(json.dumps({**values, "tensors": kept}))
    manifest = make(tmp_path / "out", precision="auto", ranges=path)
    said = dict(verdict.split(": ", 1) for verdict in manifest.verdicts)
    assert "lack the tensor" in said["int8 (pw+dw)"]
    assert "ms" in said["int8 (pw)"]


def test_auto_leaves_out_what_fails_its_gates(tmp_path: Path) -> None:
    manifest = make(tmp_path, precision="auto", budgets={"stored": 0.999999, "witnesses": 1e-3})
    said = dict(verdict.split(": ", 1) for verdict in manifest.verdicts)
    assert all(said[f"int8 ({name})"].startswith("failed at witnesses") for name in PLACEMENTS)
    assert manifest.precision["asked"] in ("fp16", "fp32")


def test_auto_publishes_nothing_where_all_fail(tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match="in fp16 failed at witnesses: nothing was") as caught:
        make(tmp_path, precision="auto", budgets={"witnesses": 1e-12})
    assert "int8 (fc2): failed at witnesses" in caught.value.log
    assert not contents(tmp_path)
    report = json.loads((tmp_path / "conv-cut-mini.fp16.onnxruntime.failed.json").read_text())
    assert len(report["verdicts"]) == 3 + len(PLACEMENTS)


def test_the_fastest_is_kept_only_where_it_is_shown_to_be() -> None:
    rounds = {"fp16": [2.0, 2.1, 1.9] * 5, "fp32": [1.9, 2.2, 2.0] * 5, "int8 (fc2)": [1.0] * 15}
    timings = [measure.Timings(4, {k: np.array(v) for k, v in rounds.items()})]
    assert auto.fastest(timings, ["fp16", "fp32"]) == "fp16"
    assert auto.fastest(timings, ["fp16", "fp32", "int8 (fc2)"]) == "int8 (fc2)"
    assert auto.verdict("int8 (fc2)", timings, ["fp16"]) == (
        "within budget: 1.00 ms, 2.00x fp16 (1.95 to 2.05) at batch 4"
    )
    nearly = {"fp32": np.full(9, 1.0), "int8 (pw)": np.full(9, 0.99)}
    same = [measure.Timings(4, nearly)]
    assert same[0].ratio("int8 (pw)", "fp32").low > 1  # shown to be faster, by less than matters
    assert auto.fastest(same, ["fp32", "int8 (pw)"]) == "fp32"
    assert auto.verdict("int8 (pw)", same, ["fp32"]).startswith("not worth it here: 0.99 ms, 1.01x")
    slow = [measure.Timings(4, {"fp16": np.array([1.0] * 9), "int8 (pw)": np.array([2.0] * 9)})]
    assert auto.verdict("int8 (pw)", slow, ["fp16"]).startswith("not worth it here: 2.00 ms, 0.50x")


def test_on_a_flagged_machine_the_first_is_kept_and_the_verdict_says_why() -> None:
    times = {"fp16": np.full(9, 2.0), "int8 (fc2)": np.full(9, 1.0)}
    quiet, busy = (measure.Timings(batch, times, of) for batch, of in ((1, {}), (4, BUSY)))
    assert auto.fastest([busy, quiet], times) == "fp16"
    assert auto.fastest([quiet, busy], times) == "int8 (fc2)"
    assert auto.verdict("int8 (fc2)", [busy, quiet], ["fp16"]) == (
        "within budget: 1.00 ms, 2.00x fp16 (2.00 to 2.00) at batch 4, inconclusive: busy, others took 60% of the "
        "CPU; 1.00 ms, 2.00x fp16 (2.00 to 2.00) at batch 1"
    )


def test_auto_on_a_busy_machine_still_ends_with_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "flags", lambda before, after: BUSY)
    monkeypatch.setattr(auto, "SECONDS_EACH", 0.005)
    two = [form_of(precision, True, None, None) for precision in ("fp16", "fp32")]
    monkeypatch.setattr(auto, "forms", lambda backend, mlp, *, has_ranges: (two, {}))
    manifest = make(tmp_path, precision="auto")
    check_published(manifest, tmp_path)
    assert manifest.precision["asked"] == "fp16"
    kept, other = manifest.verdicts
    assert kept.startswith("fp16: kept, within budget: ")
    assert other.startswith("fp32: within budget: ")
    for line in (kept, other):
        assert line.endswith(" at batch 1, inconclusive: busy, others took 60% of the CPU")
