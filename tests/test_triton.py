"""The model repository for Triton: what is in it, what is refused, and a client as docs/triton.md has it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt import cli, triton
from convcut_trt.errors import InputError, ManifestError
from convcut_trt.fields import sha256, write_file
from convcut_trt.home import find_model
from convcut_trt.manifest import EngineManifest
from tests.test_manifest import manifest as manifest
from tests.test_readme import BLOCK, ROOT

NAME = "conv-cut-mini"
ZOO = find_model(NAME)
FACE = (110, 70, 100, 120)
CONFIG = """\
name: "conv-cut-mini"
platform: "tensorrt_plan"
max_batch_size: 16
input [
  { name: "images" data_type: TYPE_UINT8 dims: [ 48, 48, 3 ] }
]
output [
  { name: "logits" data_type: TYPE_FP32 dims: [ 8 ] },
  { name: "probabilities" data_type: TYPE_FP32 dims: [ 8 ] label_filename: "labels.txt" },
  { name: "map" data_type: TYPE_FP32 dims: [ 256, 3, 3 ] }
]
instance_group [ { kind: KIND_GPU count: 1 } ]
version_policy { latest { num_versions: 1 } }
dynamic_batching { preferred_batch_size: [ 4, 16 ] }
"""
# By batch profile: max_batch_size, what leads the shapes, preferred batches.
BATCHES: dict[tuple[int, int, int], tuple[int, list[int], list[int]]] = {
    (1, 4, 16): (16, [], [4, 16]),
    (1, 1, 16): (16, [], [16]),
    (1, 1, 1): (0, [1], []),
    (8, 8, 8): (0, [8], []),
    (2, 4, 8): (0, [-1], []),
}


@pytest.fixture
def plan(manifest: EngineManifest) -> EngineManifest:
    """A published plan of TensorRT, of 8 bytes."""
    return replace(manifest, flavour="tensorrt")


@pytest.fixture
def graph(manifest: EngineManifest) -> EngineManifest:
    """A published engine of onnxruntime: the network of the zoo."""
    file = manifest.path.with_name("engine.onnx")
    shutil.copyfile(ZOO.onnx, file)
    hashes = {**manifest.sha256, "engine": sha256(file), "typed_onnx": sha256(file)}
    files = {"engine": file.name, "typed_onnx": file.name}
    return replace(manifest, flavour="onnxruntime", files=files, sha256=hashes)


def parsed(text: str) -> Any:
    """The configuration as Triton's own client reads it."""
    messages: Any = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format: Any = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, messages.ModelConfig())


def tensors(text: str) -> dict[str, tuple[str, list[int]]]:
    """Type and dims of every tensor of a configuration."""
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \]', text)
    return {name: (kind, [int(size) for size in dims.split(",")]) for name, kind, dims in found}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_repository_of_a_plan(plan: EngineManifest, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    assert triton.write_repository(plan, folder) == folder / NAME / "1"
    assert contents(folder) == {
        f"{NAME}/config.pbtxt": CONFIG.encode(),
        f"{NAME}/labels.txt": "".join(f"{name}\n" for name in ZOO.spec.classes).encode(),
        f"{NAME}/1/model.plan": b"a plan..",
    }
    assert list(folder.parent.iterdir()) == [folder]


def test_a_repository_of_a_graph(graph: EngineManifest, tmp_path: Path) -> None:
    """What the configuration says of the tensors is what the file has."""
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    version = triton.write_repository(graph, tmp_path / "models")
    text = (version.parent / "config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in text.splitlines()
    assert "platform" not in text
    assert "instance_group [ { kind: KIND_CPU count: 1 } ]" in text.splitlines()
    session = onnxruntime.InferenceSession(version / "model.onnx")
    kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    found = {
        tensor.name: (kinds[tensor.type], tensor.shape[1:])
        for tensor in (*session.get_inputs(), *session.get_outputs())
    }
    assert tensors(text) == found


@pytest.mark.parametrize("batch", BATCHES)
def test_batches(plan: EngineManifest, batch: tuple[int, int, int]) -> None:
    largest, leading, preferred = BATCHES[batch]
    text = triton.config(replace(plan, batch=batch))
    assert f"max_batch_size: {largest}" in text.splitlines()
    assert ("dynamic_batching" in text) == bool(preferred)
    assert tensors(text) == {
        name: (kind, [*leading, *dims]) for name, (kind, dims) in tensors(CONFIG).items()
    }


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("flavour", ["tensorrt", "onnxruntime"])
def test_tritonclient_parses_it(
    plan: EngineManifest, flavour: str, batch: tuple[int, int, int]
) -> None:
    largest, leading, preferred = BATCHES[batch]
    config = parsed(triton.config(replace(plan, flavour=flavour, batch=batch)))
    assert (config.name, config.max_batch_size) == (NAME, largest)
    names = {"tensorrt": ("tensorrt_plan", ""), "onnxruntime": ("", "onnxruntime")}
    assert (config.platform, config.backend) == names[flavour]
    (image,) = config.input
    assert (image.name, list(image.dims)) == ("images", [*leading, 48, 48, 3])
    assert (
        image.data_type
        == image.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name["TYPE_UINT8"].number
    )
    assert [output.name for output in config.output] == list(plan.outputs)
    assert [output.label_filename for output in config.output] == ["", "labels.txt", ""]
    assert [list(output.dims) for output in config.output] == [
        [*leading, 8],
        [*leading, 8],
        [*leading, 256, 3, 3],
    ]
    assert config.HasField("dynamic_batching") == bool(preferred)
    assert list(config.dynamic_batching.preferred_batch_size) == preferred
    (group,) = config.instance_group
    kind = "KIND_GPU" if flavour == "tensorrt" else "KIND_CPU"
    assert (group.Kind.Name(group.kind), group.count) == (kind, 1)
    assert config.version_policy.latest.num_versions == 1


def test_another_engine_is_another_version(plan: EngineManifest, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    first = triton.write_repository(plan, folder)
    before = contents(folder)
    plan.engine.write_bytes(b"better..")
    better = replace(plan, sha256={**plan.sha256, "engine": sha256(plan.engine)})
    assert triton.write_repository(better, folder) == first.with_name("2")
    assert contents(folder) == {**before, f"{NAME}/2/model.plan": b"better.."}
    first.with_name("2").rename(first.with_name("9"))
    (folder / NAME / "configs").mkdir()
    assert triton.write_repository(better, folder) == first.with_name("10")
    for version in ("1", "9", "10"):
        shutil.rmtree(first.with_name(version))
    assert triton.write_repository(better, folder) == first


@pytest.mark.skipif(os.name == "nt", reason="Windows locks no folders")
def test_who_writes_at_the_same_time_gets_a_version_of_its_own(
    plan: EngineManifest, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: triton.write_repository(plan, folder), range(8)))
    assert {path.name for path in written} == set("12345678")
    assert all((path / "model.plan").read_bytes() == b"a plan.." for path in written)
    assert {path.name for path in folder.iterdir()} == {NAME}


def test_what_killed_writers_left_beside_it_is_removed(
    plan: EngineManifest, tmp_path: Path
) -> None:
    left = tmp_path / "home" / ".publishing-of-a-dead-one" / NAME / "1"
    left.mkdir(parents=True)
    triton.write_repository(plan, tmp_path / "home" / "models")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["models"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"flavour": "tensorrt-rtx"}, "--backend tensorrt"),
        ({"flavour": "openvino"}, "--backend onnxruntime"),
        ({"tail": "kernel", "outputs": ("map",)}, "--tail native"),
        ({"gates": ({"name": "witnesses", "verdict": "fail"},)}, "failed at witnesses"),
        ({"name": ".."}, "cannot name"),
        ({"name": "../elsewhere"}, "cannot name"),
        ({"name": 'a"b'}, "cannot name"),
        ({"name": "größe"}, "cannot name"),
        ({"name": ""}, "cannot name"),
        ({"spec": replace(ZOO.spec, classes=("calm\nness", "joy"))}, "on a line of labels.txt"),
    ],
)
def test_what_triton_cannot_serve_is_refused(
    plan: EngineManifest, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        triton.write_repository(replace(plan, **changes), tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("flavour", "tail"),
    [("tensorrt-rtx", "native"), ("tensorrt", "kernel"), ("tensorrt", "auto")],
)
def test_a_build_is_refused_before_it_starts(flavour: str, tail: str) -> None:
    triton.check("tensorrt", "native")
    triton.check("onnxruntime", "native")
    with pytest.raises(InputError):
        triton.check(flavour, tail)


def test_another_file_than_the_manifests_is_refused(plan: EngineManifest, tmp_path: Path) -> None:
    plan.engine.write_bytes(b"swapped.")
    with pytest.raises(ManifestError):
        triton.write_repository(plan, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("other", ["batch", "classes", "edited", "without configuration", "a file"])
def test_another_model_of_this_name_is_left_alone(
    plan: EngineManifest, tmp_path: Path, other: str
) -> None:
    folder = tmp_path / "models"
    model = folder / NAME
    changed = plan
    if other == "without configuration":
        model.mkdir(parents=True)
    elif other == "a file":
        folder.mkdir()
        model.touch()
    else:
        triton.write_repository(plan, folder)
    if other == "batch":
        changed = replace(plan, batch=(1, 8, 32))
    elif other == "classes":
        classes = tuple(reversed(plan.spec.classes))
        changed = replace(plan, spec=replace(plan.spec, classes=classes))
    elif other == "edited":
        (model / "config.pbtxt").write_text(CONFIG + "response_cache { enable: true }\n")
    before = contents(folder)
    with pytest.raises(InputError, match="another folder"):
        triton.write_repository(changed, folder)
    assert contents(folder) == before


@pytest.mark.parametrize("full_at", [1, 2, 3])
def test_a_full_disk_leaves_nothing(
    plan: EngineManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    written: list[Path] = []

    def fill(path: Path, content: bytes) -> None:
        assert list(models.iterdir()) == []  # every folder there is a model to Triton
        written.append(path)
        if len(written) == full_at:
            raise InputError("no space left")
        write_file(path, content)

    monkeypatch.setattr("convcut_trt.triton.write_file", fill)
    models = tmp_path / "home" / "models"
    with pytest.raises(InputError):
        triton.write_repository(plan, models)
    assert len(written) == full_at
    assert list(models.parent.rglob("*")) == [models]


def test_a_folder_that_is_a_file_is_said(plan: EngineManifest, tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(InputError, match="could not be written"):
        triton.write_repository(plan, tmp_path / "models")


@contextmanager
def served(version: Path) -> Iterator[str]:
    """A stand-in for Triton: its gRPC, its configuration and labels, and onnxruntime behind; gives the address."""
    grpc: Any = pytest.importorskip("grpc")
    messages: Any = pytest.importorskip("tritonclient.grpc.service_pb2")
    services: Any = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    config = parsed((version.parent / "config.pbtxt").read_text())
    labels = (version.parent / config.output[1].label_filename).read_text().splitlines()
    session = onnxruntime.InferenceSession(version / "model.onnx")

    class Server(services.GRPCInferenceServiceServicer):  # type: ignore[misc] # tritonclient has no types
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 gRPC's name
            assert request.model_name == config.name
            (image,), (wanted,) = request.inputs, request.outputs
            assert (image.name, image.datatype) == (config.input[0].name, "UINT8")
            assert image.shape[0] <= config.max_batch_size
            assert list(image.shape[1:]) == list(config.input[0].dims)
            faces = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(image.shape)
            (answers,) = session.run([wanted.name], {image.name: faces})
            assert wanted.parameters["classification"].int64_param == 1
            best = [
                f"{row.max()}:{row.argmax()}:{labels[row.argmax()]}".encode() for row in answers
            ]
            return messages.ModelInferResponse(
                model_name=config.name,
                outputs=[{"name": wanted.name, "datatype": "BYTES", "shape": [len(best), 1]}],
                raw_output_contents=[b"".join(len(b).to_bytes(4, "little") + b for b in best)],
            )

    server = grpc.server(ThreadPoolExecutor(1))
    services.add_GRPCInferenceServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


def test_the_client_of_the_page(
    graph: EngineManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("tritonclient.grpc")
    from convcut_trt.pictures import load_picture

    page = (ROOT / "docs" / "triton.md").read_text()
    (snippet,) = [body for language, body in BLOCK.findall(page) if language == "python"]
    shutil.copyfile(ROOT / "examples" / "astronaut.png", tmp_path / "portrait.png")
    monkeypatch.chdir(tmp_path)
    with served(triton.write_repository(graph, tmp_path / "models")) as address:
        here = snippet.replace("localhost:8001", address)
        exec(compile(here, "docs/triton.md", "exec"), {})  # noqa: S102 our own page
    import onnxruntime

    face = ZOO.spec.face(load_picture("portrait.png"), FACE)
    session = onnxruntime.InferenceSession(ZOO.onnx)
    (answer,) = session.run(["probabilities"], {"images": face[None]})
    label = ZOO.spec.classes[int(answer.argmax())]
    assert f":{answer.argmax()}:{label}'" in capsys.readouterr().out


def test_build_writes_the_repository_or_nothing_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", "--layout", "triton", "-o", str(tmp_path / "out"), "--gate-pictures", "4"]
    assert cli.main([*command, "--backend", "onnxruntime", "--batch", "1:2:2"]) == 0
    assert (tmp_path / "out" / "triton" / "conv-cut-mini" / "1" / "model.onnx").is_file()
    assert "tritonserver --model-repository=" in capsys.readouterr().out
    refused = ["build", "--layout", "triton", "-o", str(tmp_path / "none"), "--target", "rtx4060ti"]
    assert cli.main([*refused, "--backend", "tensorrt-rtx"]) == 2
    assert not (tmp_path / "none").exists()
