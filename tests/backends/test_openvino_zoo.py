"""OpenVINO with the zoo's network: gates, verify, predict, int8 and auto."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")
if importlib.util.find_spec("openvino") is None:  # importing it here would tell its maker
    pytest.skip("openvino is not installed", allow_module_level=True)

from convcut_trt import auto, backends, build, home, verify
from convcut_trt.engine import load
from convcut_trt.gates.judged import bundled
from convcut_trt.manifest import EngineManifest
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.request import Request


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EngineManifest]:
    """Engines of the zoo's model that passed their gates."""
    folder = tmp_path_factory.mktemp("engines")
    model = home.find_model("conv-cut-mini")
    return {
        precision: build.build(
            model,
            Request(precision, folder, backend="openvino", batch=(1, 2, 4), judged=bundled(48, 16)),
            lambda *_: None,
        )
        for precision in ("fp16", "fp32")
    }


def test_the_zoo_passes_its_gates_verifies_and_predicts(
    published: dict[str, EngineManifest],
) -> None:
    for precision, manifest in published.items():
        assert manifest.flavour == "openvino"
        assert manifest.engine.name == f"conv-cut-mini.{precision}.openvino.onnx"
        assert manifest.precision["text"] == f"{precision} stored, fp32 computed"
        assert manifest.verified_on.startswith("openvino-cpu")
        assert not manifest.failed
    again = verify.verify(
        published["fp16"], home.find_model("conv-cut-mini"), bundled(48, 8), lambda *_: None
    )
    assert again.verified_on.startswith("openvino-cpu")
    with load(published["fp32"].path, threads=1) as engine:
        answer = engine.predict([np.zeros((60, 50, 3), np.uint8)])
    assert answer.probabilities.sum() == pytest.approx(1)


def test_int8_passes_its_gates_and_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "LEAST", 1)  # every opening compiles each engine
    wanted = Request(
        "int8", tmp_path, backend="openvino", batch=(1, 1, 1), mlp="conv", judged=bundled(48, 16)
    )
    manifest = build.build(home.find_model("conv-cut-mini"), wanted, lambda *_: None)
    assert not manifest.failed
    assert manifest.precision["computed"]["int8"] > 0.5
    assert "fp16" in manifest.verdicts[0] and "fp32" in manifest.verdicts[0]


@pytest.mark.slow
def test_auto_tries_every_placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "LEAST", 1)
    wanted = Request("auto", tmp_path, backend="openvino", batch=(1, 1, 1), judged=bundled(48, 16))
    manifest = build.build(home.find_model("conv-cut-mini"), wanted, lambda *_: None)
    tried = " ".join(line.partition(":")[0] for line in manifest.verdicts)
    for name in ("fp16", "fp32", "bf16", *(f"int8 ({name})" for name in PLACEMENTS)):
        assert name in tried
    assert sum(": kept" in line for line in manifest.verdicts) == 1


def test_names_of_layers_are_those_of_the_graph(published: dict[str, EngineManifest]) -> None:
    path = published["fp32"].engine
    names = {node.name for node in onnx.load(path).graph.node}
    products = [
        layer.name
        for layer in backends.get("openvino").describe(path) or ()
        if layer.multiply_adds and layer.kind == "Convolution"
    ]
    assert len(products) > 20
    assert set(products) - names <= {"map"}
