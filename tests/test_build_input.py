"""What a build is given: wrong requests, damaged models, missing libraries; each a sentence, nothing published."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convcut_trt import home, network
from convcut_trt.errors import BackendMissing, InputError, SpecError
from convcut_trt.gates.judged import Judged
from convcut_trt.manifest import manifests
from tests import models
from tests.building import ZOO, contents, make

RANGES = ZOO.onnx.with_suffix(".ranges.json")


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
        ({"precision": "bf16"}, "no bf16 kernels for a CPU: choose fp16 or int8"),
        ({"placement": "pw"}, "fp16 quantises nothing: leave it out"),
        (
            {"precision": "int8", "placement": "all"},
            "--placement 'all' is not known: choose from pw",
        ),
        ({"precision": "auto", "placement": "pw"}, "tries every placement: leave --placement out"),
        ({"mlp": "dense"}, "--mlp 'dense' is not known: choose from conv, linear"),
        ({"precision": "auto", "mlp": "dense"}, "--mlp 'dense' is not known"),
        ({"ranges": RANGES}, "--ranges is for int8, not for fp16"),
        ({"precision": "int8", "ranges": Path("none.json")}, "none.json does not exist"),
        ({"budgets": {"loss_median": 0.1}}, "contradict: the median is never above"),
        ({"budgets": {"agreement": 1.5}}, "give a share, at most 1"),
        ({"precision": "auto", "budgets": {"speed": 1.0}}, "--budget speed is not known"),
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
        network.read_onnx(path)


def test_another_network(tmp_path: Path) -> None:
    path = tmp_path / "resnet.onnx"
    onnx.save(models.another_network(), path)
    with pytest.raises(InputError, match="is not a Conv-cut model"):
        network.read_onnx(path)


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
    changed = models.changed(models.network("zoo"), _second_way_round)
    model = models.write(tmp_path / "model", changed, ZOO.spec)
    with pytest.raises(InputError, match="depend on more of the network than the map"):
        make(tmp_path / "out", model)


def test_a_witness_that_is_lost(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.network("zoo"), ZOO.spec)
    (model.folder / model.spec.witnesses[3].file).unlink()
    with pytest.raises(SpecError, match="is missing: copy the folder witnesses/ along"):
        make(tmp_path / "out", model)
    assert not contents(tmp_path / "out")


@pytest.mark.parametrize(
    ("faces", "labels", "said"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), None, "there are no faces to hold the engine to"),
        (np.zeros((2, 8, 8, 4), np.uint8), None, r"are uint8 \[N, S, S, 3\], these are uint8"),
        (np.zeros((2, 8, 8, 3), np.float32), None, "these are float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3, np.int64), "2 faces and 3 labels"),
    ],
)
def test_faces_that_nothing_can_be_held_to(faces: Any, labels: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Judged(faces, labels, "a test")


def _ranges(folder: Path, **changes: Any) -> Path:
    path = folder / "changed.ranges.json"
    path.write_text(json.dumps({**json.loads(RANGES.read_text("utf-8")), **changes}))
    return path


def test_ranges_of_another_model_are_refused(tmp_path: Path) -> None:
    path = _ranges(tmp_path, onnx_sha256="0" * 64)
    with pytest.raises(InputError, match="were made for the ONNX file 000000000000, this one is"):
        make(tmp_path / "out", precision="int8", ranges=path)
    assert not (tmp_path / "out").exists()


def test_ranges_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    tensors = json.loads(RANGES.read_text("utf-8"))["tensors"]
    first = next(name for name in tensors if "Gelu" in name)
    path = _ranges(tmp_path, tensors={k: v for k, v in tensors.items() if k != first})
    with pytest.raises(InputError, match="lack the tensor .*: make it again with `convcut-trt"):
        make(tmp_path / "out", precision="int8", ranges=path)
    assert not contents(tmp_path / "out")


def test_int8_without_ranges_says_how_to_make_them(tmp_path: Path) -> None:
    model = models.write(tmp_path / "model", models.network("zoo"), ZOO.spec)
    with pytest.raises(InputError, match=r"give --ranges NAME.ranges.json, or make it with `conv"):
        make(tmp_path / "out", model, precision="int8")
