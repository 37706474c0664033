"""The build, with real backends: what is published, and that nothing is where something is wrong."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convcut_trt import build, fields, gates, home, publish
from convcut_trt.errors import BackendMissing, GateFailed, InputError, SpecError
from convcut_trt.home import Model
from convcut_trt.manifest import STAND_IN, EngineManifest
from convcut_trt.spec import OUTPUTS
from tests import models

ROOT = Path(__file__).parents[1]
ZOO = models.zoo()
FACES = list(build.bundled_faces(ZOO.spec.size)[:4])
# Of the bundled network, by batch; they belong to this version of the builder.
RTX_VERSION = "1.7.1.116"
RTX_OPERATIONS = {(1, 1, 1): 39, (1, 4, 16): 39, (4, 4, 4): 39}


def make(folder: Path, model: Model = ZOO, **changes: Any) -> EngineManifest:
    """Builds with onnxruntime for a small batch and few pictures, unless told otherwise."""
    request = {"precision": "fp16", "backend": "onnxruntime", "batch": (1, 2, 2), "faces": FACES}
    return build.build(model, build.Request(output=folder, **{**request, **changes}), models.quiet)


def manifests(folder: Path) -> list[Path]:
    """The engines in a folder: what has a manifest."""
    found = folder.glob("*.json") if folder.is_dir() else ()
    return [path for path in found if not path.name.endswith(".spec.json")]


def check_published(manifest: EngineManifest, folder: Path) -> None:
    """Everything that a robot needs lies in the folder, and nothing else."""
    assert EngineManifest.read(manifest.path) == manifest
    manifest.check_files()
    names = {manifest.path.name, *map(str, manifest.files.values())}
    assert {path.name for path in folder.iterdir()} == {*names, "witnesses"}
    faces, _ = manifest.spec.witness_faces(folder)
    assert len(faces) == len(ZOO.spec.witnesses)
    typed = onnx.load(manifest.typed_onnx)
    assert typed.ir_version <= 10
    assert len({entry.domain for entry in typed.opset_import}) == len(typed.opset_import)
    assert tuple(output.name for output in typed.graph.output) == OUTPUTS


@pytest.mark.parametrize("precision", build.PRECISIONS)
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
    assert {gate["verdict"] for gate in manifest.gates} <= {"pass", "not run"}
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
    assert build.choose_backend("auto", ("rtx4060ti",)).flavour == "tensorrt-rtx"


def test_fp32_is_stored_as_it_was(tmp_path: Path) -> None:
    manifest = make(tmp_path, precision="fp32")
    faces = np.stack(FACES)
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
    assert [line.split()[0] for line in caught.value.log.splitlines()][:2] == ["gate", "witnesses"]
    assert "fail" in caught.value.log.splitlines()[1]
    assert not list((tmp_path / "out").iterdir())


def test_a_failed_gate_leaves_the_former_engine(tmp_path: Path) -> None:
    former = make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(GateFailed):
        make(tmp_path, budgets={"loss_median": 1e-9})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    check_published(former, tmp_path)


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


# Kills this process at a phase of the build, or when a certain file is about to appear.
KILLED = """
import os, signal, sys
from pathlib import Path
from convcut_trt import build, home

phase, suffix, folder, flavour, *targets = sys.argv[1:]

def step(name, done, total):
    if name == phase:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    if event == "os.rename" and suffix and str(arguments[1]).endswith(suffix):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
model = home.find_model("conv-cut-mini")
faces = build.bundled_faces(model.spec.size)[:4]
request = build.Request(
    "fp16", Path(folder), flavour, tuple(targets), (1, 2, 2), faces=faces
)
build.build(model, request, step)
"""


def build_and_be_killed(folder: Path, scratch: Path, phase: str, suffix: str, *backend: str) -> int:
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, phase, suffix, str(folder), *backend]
    return subprocess.run(command, env=environment, check=False, timeout=120).returncode


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_build_that_is_killed_leaves_the_former_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder, backend = tmp_path / "out", ("tensorrt-rtx", "rtx4060ti")
    former = make(folder, backend="tensorrt-rtx", targets=("rtx4060ti",))
    code = build_and_be_killed(folder, tmp_path / "tmp", "Building engine", "", *backend)
    assert code == -signal.SIGKILL
    check_published(former, folder)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("suffix", [".onnxruntime.onnx", ".onnxruntime.json"])
def test_a_build_that_is_killed_while_staging_leaves_the_former_engine(
    tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "out"
    former = make(folder)
    code = build_and_be_killed(folder, tmp_path / "tmp", "", suffix, "onnxruntime")
    assert code == -signal.SIGKILL
    (left,) = folder.glob(".publishing-*")
    shutil.rmtree(left)
    check_published(former, folder)
    check_published(make(folder), folder)  # the next build is not disturbed


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("file", ["onnx", "json"])
def test_a_build_that_is_killed_while_renaming_leaves_none(tmp_path: Path, file: str) -> None:
    """A former manifest must not live on with the files of another engine."""
    folder = tmp_path / "out"
    make(folder)
    last = f"out/conv-cut-mini.fp16.onnxruntime.{file}"
    code = build_and_be_killed(folder, tmp_path / "tmp", "", last, "onnxruntime")
    assert code == -signal.SIGKILL
    assert not manifests(folder)


@pytest.mark.parametrize("suffix", [".fp16.onnxruntime.onnx", "runtime.json"])
def test_a_full_disk_leaves_the_former_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    former = make(tmp_path)
    write = fields.write_file

    def full(path: Path, content: bytes) -> None:
        if path.name.endswith(suffix):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(fields, "write_file", full)
    monkeypatch.setattr(publish, "write_file", full)
    with pytest.raises(InputError, match=r"could not be written \(No space left .*free some space"):
        make(tmp_path)
    check_published(former, tmp_path)


def test_witnesses_of_another_engine_outlive_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = make(tmp_path, precision="fp32")
    stays = {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="could not be written"):
        make(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()} == stays
    check_published(former, tmp_path)


def test_two_precisions_share_a_folder(tmp_path: Path) -> None:
    made = [make(tmp_path, precision=precision) for precision in build.PRECISIONS]
    for manifest in made:
        assert EngineManifest.read(manifest.path) == manifest
        manifest.check_files()
    assert len(manifests(tmp_path)) == len(build.PRECISIONS)


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "fp8"}, "precision 'fp8' is not known: choose from fp32, fp16"),
        ({"precision": ""}, "precision '' is not known"),
        ({"backend": "onnxruntme"}, "Did you mean onnxruntime?"),
        ({"targets": ("rtx4060ti",)}, "onnxruntime engines run on any CPU: leave out --target"),
        ({"targets": ("rtx4060tie",)}, "no device named 'rtx4060tie'. Did you mean rtx4060ti"),
        ({"batch": (2, 1, 4)}, "batch 2:1:4 is not MIN:OPT:MAX"),
        ({"batch": (0, 1, 1)}, "batch 0:1:1 is not"),
        ({"budgets": {"speed": 1.0}}, "--budget speed is not known for fp16"),
        ({"budgets": {"witnesses": -1.0}}, "give a positive number"),
        ({"faces": []}, "there are no pictures to hold the engine to"),
        ({"faces": [np.zeros((8, 8, 4), np.uint8)]}, "has 3 channels"),
        ({"faces": [np.zeros((8, 8, 3), np.float32)]}, "this is float32"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(tmp_path / "out", **changes)
    assert not manifests(tmp_path / "out")


@pytest.mark.parametrize(
    ("flavour", "module", "said"),
    [
        ("tensorrt-rtx", "tensorrt_rtx", r"pip install 'convcut-trt\[rtx\]'"),
        ("tensorrt", "tensorrt", "take tensorrt from JetPack"),
        ("onnxruntime", "onnxruntime", r"pip install 'convcut-trt\[ort\]'"),
    ],
)
def test_a_backend_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, module: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendMissing, match=f"{module} is not installed: .*{said}"):
        make(tmp_path, backend=flavour)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be created .*: choose another with -o"):
        make(tmp_path / "file" / "engines")


@pytest.mark.parametrize(
    "change", [{"size": 64}, {"map_shape": (256, 2, 2)}, {"classes": ("a", "b", "c")}]
)
def test_a_spec_that_says_other_shapes(tmp_path: Path, change: dict[str, Any]) -> None:
    spec = replace(ZOO.spec, **change)
    if "classes" in change:
        witnesses = (replace(w, probabilities=w.probabilities[:3]) for w in spec.witnesses)
        spec = replace(spec, witnesses=tuple(witnesses))
    model = models.write(tmp_path / "model", models.network("zoo"), spec)
    with pytest.raises(
        SpecError, match=r"conv-cut-mini\.onnx computes .*, its spec says .*: export"
    ):
        make(tmp_path / "out", model)


@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.3, 0.999999])
def test_a_truncated_onnx(tmp_path: Path, kept: float) -> None:
    model = models.write(tmp_path / "model", models.network("zoo"), ZOO.spec)
    content = model.onnx.read_bytes()
    model.onnx.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(SpecError, match="does not belong to"):
        home.find_model(model.onnx)
    with pytest.raises(InputError, match="is no ONNX file, or was cut off .*: export or copy it"):
        make(tmp_path / "out", model)


@pytest.mark.parametrize("content", [b"hello", bytes(range(256)) * 40, b"PK\x03\x04" * 99])
def test_what_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no ONNX file"):
        build.read_onnx(path)


def test_another_network(tmp_path: Path) -> None:
    path = tmp_path / "resnet.onnx"
    onnx.save(models.another_network(), path)
    with pytest.raises(InputError, match="is not a Conv-cut model"):
        build.read_onnx(path)


def _second_way_round(model: onnx.ModelProto) -> None:
    # The logits depend on a tensor in front of the map too.
    head = next(node for node in model.graph.node if "logits" in node.output)
    before = models.convolutions(model)[-1].input[0]
    axes = models.constant(model, "places", [2, 3], "int64")
    place = list(model.graph.node).index(head)
    made = onnx.helper.make_node("ReduceMean", [before, axes], ["bypass"], keepdims=0)
    added = onnx.helper.make_node("Add", [head.input[0], "bypass"], ["both"])
    model.graph.node.insert(place, made)
    model.graph.node.insert(place + 1, added)
    head.input[0] = "both"


def test_a_tail_that_sees_more_than_the_map(tmp_path: Path) -> None:
    network = models.changed(models.network("zoo"), _second_way_round)
    model = models.write(tmp_path / "model", network, ZOO.spec)
    with pytest.raises(InputError, match="depend on more of the network than the map"):
        make(tmp_path / "out", model)


def test_a_witness_that_is_lost(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.network("zoo"), ZOO.spec)
    (model.folder / model.spec.witnesses[3].file).unlink()
    with pytest.raises(SpecError, match="is missing: copy the folder witnesses/ along"):
        make(tmp_path / "out", model)
    assert not list((tmp_path / "out").iterdir())


def test_progress_names_the_phases(tmp_path: Path) -> None:
    told: list[str] = []
    request = build.Request("fp16", tmp_path, "onnxruntime", batch=(1, 2, 2), faces=FACES)
    build.build(ZOO, request, lambda phase, done, total: told.append(phase))
    assert told[0] == "typed graph"
    assert {"reference", "witnesses", "typed graph on the gate pictures"} < set(told)


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
