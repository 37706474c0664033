"""``verify``: the gates again, on this device, and what becomes of the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from convcut_trt import backends, build, cli, engine, verify
from convcut_trt.errors import EngineMismatch, GateFailed, InputError, ManifestError
from convcut_trt.manifest import STAND_IN, EngineManifest
from tests import models
from tests.building import FACES, ZOO, make


def again(manifest: EngineManifest, **options: Any) -> EngineManifest:
    """Verifies an engine with few pictures."""
    model = verify.find_original(manifest, None)
    return verify.verify(manifest, model, FACES, models.quiet, **options)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_sound_engine_passes_again(tmp_path: Path, precision: str) -> None:
    built = make(tmp_path, precision=precision)
    checked = again(built)
    assert EngineManifest.read(built.path) == checked
    assert [gate["name"] for gate in checked.gates] == [gate["name"] for gate in built.gates]
    for before, after in zip(built.gates, checked.gates, strict=True):
        assert before["verdict"] == after["verdict"]
        if before["value"] is not None:
            assert after["value"] == pytest.approx(before["value"], rel=0.05, abs=1e-6)
    assert checked.verified
    assert checked.precision == built.precision


def test_an_engine_checked_by_a_stand_in_becomes_verified(tmp_path: Path) -> None:
    built = replace(make(tmp_path), verified_on=STAND_IN)
    built.write(built.path)
    with pytest.raises(EngineMismatch, match="was checked on .* only"):
        engine.load(built.path, require_verified=True)
    again(EngineManifest.read(built.path))
    with engine.load(built.path, require_verified=True) as opened:
        assert opened.verified


def _damage(manifest: EngineManifest) -> None:
    """Another engine under the same manifest, as if this device computed something else."""
    model = onnx.load(manifest.engine)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.raw_data = bytes(reversed(weight.raw_data))
    onnx.save(model, manifest.engine)


def test_an_engine_that_was_changed_is_refused(tmp_path: Path) -> None:
    built = make(tmp_path)
    _damage(built)
    with pytest.raises(ManifestError, match="is not the file that"):
        again(built)
    with pytest.raises(ManifestError, match="is not the file that"):
        again(built, trust=True)  # the typed ONNX is what the gates compare with


def test_an_engine_that_fails_is_opened_no_more(tmp_path: Path) -> None:
    built = make(tmp_path)
    strict = replace(built, budgets={**built.budgets, "loss_median": 1e-9})
    with pytest.raises(GateFailed, match="failed at loss, median on onnxruntime-cpu"):
        again(strict)
    assert EngineManifest.read(built.path).failed == ("loss, median",)
    with pytest.raises(EngineMismatch, match="failed at loss, median when it was verified on"):
        engine.load(built.path)
    again(built)
    engine.load(built.path).close()


def test_an_engine_of_an_absent_gpu_cannot_be_verified(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    built = make(tmp_path, backend="tensorrt-rtx", targets=("rtx4060ti",))
    with pytest.raises(EngineMismatch, match="so nothing of it can be verified here"):
        again(built)
    assert EngineManifest.read(built.path) == built


def test_the_model_it_was_built_from_is_asked_for(tmp_path: Path) -> None:
    other = replace(ZOO.spec, name="mine")
    network = models.changed(
        models.network("zoo"), lambda model: models.edit(model, *_halved(model))
    )
    model = models.write(tmp_path / "model", network, other)
    built = make(tmp_path / "out", model, budgets={"witnesses": 1.0})
    with pytest.raises(InputError, match="give the mine.onnx it was built from with --model"):
        verify.find_original(built, None)
    with pytest.raises(InputError, match="was not built from"):
        verify.find_original(built, ZOO.onnx)
    assert verify.find_original(built, model.onnx) == model


def _halved(model: onnx.ModelProto) -> tuple[str, Any]:
    def halve(values: Any) -> None:
        values *= 0.5

    return next(t.name for t in model.graph.initializer if len(t.dims) == 4), halve


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = make(tmp_path)
    few = ["--gate-pictures", "4"]
    assert cli.main(["verify", str(built.engine), *few]) == 0
    assert "verified on onnxruntime-cpu" in capsys.readouterr().out
    assert cli.main(["verify", str(built.path), *few, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] is True
    assert told["judged_on"] == "4 bundled pictures"
    assert cli.main(["verify", str(tmp_path / "none.json"), *few]) == 2
    assert "does not exist" in capsys.readouterr().err
    strict = replace(EngineManifest.read(built.path), budgets={**built.budgets, "loss_p99": 1e-9})
    strict.write(built.path)
    assert cli.main(["verify", str(built.path), *few, "--json"]) == 1
    failed = json.loads(capsys.readouterr().out)
    assert failed["verified"] is False
    assert "loss, 99 %" in failed["reason"]
    assert build.here(backends.get("onnxruntime")) == told["verified_on"]
