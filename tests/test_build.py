"""The build, with real backends: what is published, and that nothing is where a gate failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convcut_trt import build, fields, gates, home, inspection, request
from convcut_trt.errors import GateFailed, InputError
from convcut_trt.home import Model
from convcut_trt.manifest import STAND_IN, EngineManifest, manifests
from convcut_trt.spec import OUTPUTS
from tests import models
from tests.building import FACES, ZOO, check_published, contents, make

# Of the bundled network, by batch; they belong to this version of the builder.
RTX_VERSION = "1.7.1.116"
RTX_OPERATIONS = {(1, 1, 1): 39, (1, 4, 16): 39, (4, 4, 4): 39}
CPU_PRECISIONS = ("fp32", "fp16", "int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_of_onnxruntime(tmp_path: Path, precision: str) -> None:
    manifest = make(tmp_path, precision=precision)
    check_published(manifest, tmp_path)
    assert manifest.path.name == f"conv-cut-mini.{precision}.onnxruntime.json"
    assert manifest.engine == manifest.typed_onnx
    assert manifest.precision["asked"] == precision
    assert manifest.precision["text"] == f"{precision} stored, fp32 computed"
    assert manifest.precision["stored"][precision] > 0.95
    assert manifest.precision["computed"] == {"fp32": 1.0}
    assert (manifest.flavour, manifest.target, manifest.compute_capability) == (
        "onnxruntime",
        "",
        "",
    )
    assert manifest.verified
    assert manifest.verified_on.startswith("onnxruntime-cpu (")
    assert manifest.batch == (1, 2, 2)
    assert manifest.outputs == OUTPUTS
    assert (manifest.tail, manifest.mlp, manifest.placement) == ("native", "conv", "")
    assert set(manifest.versions) >= {"builder", "convcut_trt", "python", "onnx", "onnxruntime"}
    assert manifest.sha256["onnx"] == ZOO.spec.onnx_sha256 == fields.sha256(ZOO.onnx)
    assert manifest.sha256["ranges"] is None
    assert manifest.budgets == gates.budgets(precision)
    assert manifest.build["seconds"] > 0
    names = [gate["name"] for gate in manifest.gates]
    assert len(set(names)) == len(names) >= 7
    assert {gate["verdict"] for gate in manifest.gates} <= {"pass", "not run", "not shown"}
    model = home.find_model(ZOO.onnx)
    assert manifest.spec == model.spec


@pytest.mark.parametrize("batch", RTX_OPERATIONS)
def test_an_engine_of_tensorrt_rtx(tmp_path: Path, batch: tuple[int, int, int]) -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx")
    manifest = make(tmp_path, backend="tensorrt-rtx", targets=("rtx4060ti",), batch=batch)
    check_published(manifest, tmp_path)
    assert manifest.path.name == "conv-cut-mini.fp16.tensorrt-rtx.sm89.json"
    assert manifest.engine.suffix == ".engine"
    assert (manifest.target, manifest.compute_capability) == ("rtx4060ti", "8.9")
    assert manifest.precision["text"] == "fp16 stored, fp16 computed"
    assert manifest.precision["computed"]["fp16"] > 0.99
    assert manifest.versions["builder"] == trt.__version__
    assert manifest.verified_on == STAND_IN
    assert not manifest.verified
    verdicts = {gate["name"]: gate["verdict"] for gate in manifest.gates}
    assert verdicts["fidelity"] == "not run"
    assert verdicts["computed"] == verdicts["stored"] == "pass"
    if trt.__version__ == RTX_VERSION:
        assert manifest.operations == RTX_OPERATIONS[batch]


def test_auto_takes_rtx_for_a_target(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert request.choose_backend("auto", ("rtx4060ti",)).flavour == "tensorrt-rtx"


def test_fp32_is_stored_as_it_was(tmp_path: Path) -> None:
    manifest = make(tmp_path, precision="fp32")
    faces = FACES.faces
    given = models.run(onnx.load(manifest.engine), faces)
    np.testing.assert_array_equal(given["map"], models.run(models.network("zoo"), faces)["map"])


def misled(folder: Path) -> Model:
    """A model whose spec has other answers than its network: what a wrong export would look like."""
    spec = replace(
        ZOO.spec,
        witnesses=tuple(
            replace(witness, probabilities=witness.probabilities[::-1])
            for witness in ZOO.spec.witnesses
        ),
    )
    return models.write(folder, models.network("zoo"), spec)


def test_a_failed_gate_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match="failed at witnesses: nothing was published") as caught:
        make(tmp_path / "out", misled(tmp_path / "model"))
    assert caught.value.exit_code == 1
    head, witnesses, *_, cause = caught.value.log.splitlines()
    assert head.startswith("gate ")
    assert witnesses.split()[:4:3] == ["witnesses", "fail"]
    assert cause == (
        "likeliest cause: conv-cut-mini.onnx itself answers otherwise than the trained model: its export or the "
        "preprocessing went wrong, so export it again"
    )
    assert not contents(tmp_path / "out")


def test_a_failed_gate_leaves_the_former_engine_and_a_report(tmp_path: Path) -> None:
    former = make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(GateFailed, match=r"see .*onnxruntime\.failed\.json") as caught:
        make(tmp_path, budgets={"loss_median": 1e-9})
    assert contents(tmp_path) == before
    report = inspection.describe(tmp_path / "conv-cut-mini.fp16.onnxruntime.failed.json")
    assert report["kind"] == "report of a failed build"
    assert report["failed"] == ["loss, median"]
    assert report["budgets"]["loss_median"] == 1e-9
    assert report["cause"] in caught.value.log
    make(tmp_path)
    assert former.path.is_file()
    assert not list(tmp_path.glob("*.failed.json"))  # it would belong to no engine any more


def test_the_users_budgets_are_recorded(tmp_path: Path) -> None:
    manifest = make(tmp_path, budgets={"witnesses": 0.5})
    assert manifest.budgets["witnesses"] == 0.5
    found = {gate["name"]: gate["budget"] for gate in manifest.gates}
    assert found["witnesses"] == 0.5


def test_a_network_that_needs_fp32(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.scaled(models.network("zoo")), ZOO.spec)
    with pytest.raises(GateFailed, match="failed at .*largest activation"):
        make(tmp_path / "out", model)
    assert make(tmp_path / "out", model, precision="fp32", budgets={"largest_activation": 1e9})


def test_two_precisions_share_a_folder(tmp_path: Path) -> None:
    made = [make(tmp_path, precision=precision) for precision in CPU_PRECISIONS]
    for manifest in made:
        assert EngineManifest.read(manifest.path) == manifest
        manifest.check_files()
    assert manifests(tmp_path) == sorted(manifest.path for manifest in made)


def test_into_the_folder_of_the_model_itself(tmp_path: Path) -> None:
    model = models.write(tmp_path, models.network("zoo"), ZOO.spec)
    content = model.onnx.read_bytes()
    for _ in range(2):
        manifest = make(tmp_path, model)
        assert model.onnx.read_bytes() == content
        assert home.find_model(tmp_path).spec == model.spec
        manifest.check_files()
        assert len(manifest.spec.witness_faces(tmp_path)[0]) == len(ZOO.spec.witnesses)


def test_a_network_of_a_fixed_batch(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.of_batch(models.network("zoo"), 3), ZOO.spec)
    with pytest.raises(InputError, match="fixed batch of 3: build with --batch 3:3:3"):
        make(tmp_path / "out", model)
    assert make(tmp_path / "out", model, batch=(3, 3, 3)).batch == (3, 3, 3)


def test_progress_names_the_phases(tmp_path: Path) -> None:
    told: list[str] = []
    asked = request.Request("fp16", tmp_path, "onnxruntime", batch=(1, 2, 2), judged=FACES)
    build.build(ZOO, asked, lambda phase, done, total: told.append(phase))
    assert told[0] == "typed graph, fp16"
    assert {"reference", "witnesses", "typed graph as written", "engine"} < set(told)


def test_nothing_is_left_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    make(tmp_path / "out")
    with pytest.raises(GateFailed):
        make(tmp_path / "out", budgets={"loss_median": 1e-9})
    assert not list(folder.iterdir())
