"""The exported files: what every backend needs of the graph, and the answers of the trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.errors import ConvcutError, InputError, SpecError
from convcut_trt.fields import sha256
from convcut_trt.home import find_model
from convcut_trt.spec import ModelSpec
from export import checkpoint, to_onnx
from export.__main__ import main as lab
from export.deploy import normalised
from export.recipe import Recipe
from export.synthetic import render_set
from export.to_onnx import export, trained
from tests.export import tiny

CLASSES = [f"class {number}" for number in range(8)]


def saved(plan: Recipe, folder: Path) -> Path:
    """A checkpoint of a shaken network, as a run would leave it."""
    path = folder / "model.safetensors"
    note = {
        "schema": checkpoint.SCHEMA,
        "recipe": plan.model_dump(mode="json"),
        "classes": CLASSES,
        "temperature": 1.3,
        "progress": {"best_epoch": 3, "best_accuracy": 0.5},
    }
    checkpoint.write(path, tiny.network(plan).state_dict(), note)
    return path


def random_faces(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)


def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(folder / "tiny.onnx", providers=["CPUExecutionProvider"])


KINDS: dict[str, dict[str, Any]] = {
    "spatial grey": {},
    "channel projection": {"network.attention": "channel", "network.projection": 12},
    "channel colour": {"network.attention": "channel"} | tiny.COLOUR,
    "none, cut in a block": {"network.attention": "none", "network.cut": "stage2.block0.norm"},
}


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint, ONNX, spec and witnesses of one kind of network."""
    folder = tmp_path_factory.mktemp("exported")
    export(saved(tiny.recipe(**KINDS[request.param]), folder), folder, margin=0.1)
    return folder


def test_the_graph_is_one_that_every_backend_reads(exported: Path) -> None:
    model = onnx.load(exported / "tiny.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    domains = [entry.domain for entry in model.opset_import]
    assert len(domains) == len(set(domains))
    assert 18 <= next(entry.version for entry in model.opset_import if not entry.domain) <= 20
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["logits", "probabilities", "map"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    images = model.graph.input[0].type.tensor_type
    assert images.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in images.shape.dim][1:] == [32, 32, 3]
    first = [node.op_type for node in model.graph.node if "images" in node.input]
    assert first == ["Cast"]


@torch.no_grad()
@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_map_is_that_of_torch(exported: Path, number: int) -> None:
    model, plan, _ = trained(exported / "model.safetensors")
    for faces in (random_faces(number), render_set(number, 11, 32)[0]):
        logits, probabilities, feature_map = session(exported).run(None, {"images": faces})
        x = normalised(torch.from_numpy(faces), plan.input)
        reference = model.trunk_map(x).numpy()
        for one, other in zip(feature_map, reference, strict=True):
            assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)
        np.testing.assert_allclose(logits, model(x).numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_the_spec_belongs_to_the_file_and_says_where_it_comes_from(exported: Path) -> None:
    spec = find_model(exported).spec
    assert spec == ModelSpec.read(exported / "tiny.spec.json")
    assert spec.onnx_sha256 == sha256(exported / "tiny.onnx")
    assert list(spec.classes) == CLASSES
    assert (spec.size, spec.margin, spec.map_shape) == (32, 0.1, (16, 3, 3))
    provenance = spec.provenance
    assert provenance["checkpoint_sha256"] == sha256(exported / "model.safetensors")
    assert provenance["error_against_torch"] <= 1e-5
    assert all(rewrite["error"] <= 1e-5 for rewrite in provenance["rewrites"])
    with (exported / "tiny.onnx").open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(SpecError):
        find_model(exported)
    with (exported / "tiny.onnx").open("r+b") as file:
        file.write(byte)


@torch.no_grad()
def test_the_witnesses_replay_through_the_whole_path(exported: Path) -> None:
    spec = ModelSpec.read(exported / "tiny.spec.json")
    assert len(spec.witnesses) == 16
    faces, answers = spec.witness_faces(exported)
    model, plan, _ = trained(exported / "model.safetensors")
    ours = model(normalised(torch.from_numpy(faces), plan.input)).div(1.3).softmax(1).numpy()
    np.testing.assert_allclose(answers, ours, atol=1e-6)
    replayed = session(exported).run(["probabilities"], {"images": faces})[0]
    assert np.abs(replayed - answers).max() < 1e-4
    assert np.ptp(answers, axis=0).max() > 1e-3


def test_channel_attention_needs_no_matrix_product(tmp_path: Path) -> None:
    plan = tiny.recipe(**{"network.attention": "channel", "network.projection": 12})
    export(saved(plan, tmp_path), tmp_path)
    nodes = onnx.load(tmp_path / "tiny.onnx").graph.node
    assert not [node.op_type for node in nodes if node.op_type == "MatMul"]
    assert [node.op_type for node in nodes].count("Gemm") == 2  # projection and head


def test_batch_attention_is_not_exported(tmp_path: Path) -> None:
    path = saved(tiny.recipe(**{"network.attention": "batch"}), tmp_path)
    with pytest.raises(InputError, match="neighbours"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_when_the_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tiny.recipe(), tmp_path)
    monkeypatch.setattr(to_onnx, "TOLERANCE", 0.0)
    with pytest.raises(ConvcutError, match="nothing was written"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_spec_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tiny.recipe(), tmp_path)

    def full(path: Path, content: bytes) -> None:
        raise InputError(f"{path} could not be written")

    monkeypatch.setattr(to_onnx, "write_file", full)
    with pytest.raises(InputError, match="could not be written"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out" / "tiny.spec.json").exists()


def test_the_verb_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tiny.recipe(**{"network.attention": "none"}), tmp_path)
    command = ["export", str(path), "-o", str(tmp_path / "out")]
    assert lab([*command, "--data", "synthetic:8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["onnx"]).is_file() and Path(report["spec"]).is_file()
    assert report["checked_faces"] == 16 + 16 + 8
    assert lab(command) == 0
    assert "fold_input" in capsys.readouterr().err


def test_a_margin_out_of_range_is_refused(run: Path, tmp_path: Path) -> None:
    for margin in (-0.1, 3.0, float("nan")):
        with pytest.raises(InputError, match="margin"):
            export(run / "model.safetensors", tmp_path / "out", margin=margin)
    assert not (tmp_path / "out").exists()


def test_data_without_a_validation_split_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        folder = tmp_path / "faces" / "train" / f"class{number}"
        folder.mkdir(parents=True)
        Image.fromarray(random_faces(1)[0]).save(folder / "face.png")
    command = ["export", str(run / "model.safetensors"), "-o", str(tmp_path / "out")]
    assert lab([*command, "--data", str(tmp_path / "faces")]) == 2
    assert "no validation split" in capsys.readouterr().err


def test_a_state_is_no_model(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the model.safetensors"):
        export(run / "state.safetensors", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="-o"):
        export(run / "model.safetensors", tmp_path / "file")
