"""onnxruntime and OpenVINO on the plain ``NAME.onnx``, with the options that they have by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers import F32, U8, Answering, entrant, original, place, same_bits
from convcut_trt.backends.base import Runnable
from convcut_trt.backends.openvino import core
from convcut_trt.errors import BackendMissing
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.optional import load
from convcut_trt.spec import INPUT, OUTPUTS

_ASKED = "probabilities"
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_HINT = "INFERENCE_PRECISION_HINT"


def onnxruntime(engine: Entrant) -> Entrant:
    """onnxruntime; on a GPU its CUDA provider, without TF32.

    Raises:
        BackendMissing: Not installed, or without that provider.
        InputError: The FP32 model is not there.
    """
    library = load("onnxruntime", "ort")
    provider: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if not engine.on_cpu:
        provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
    if provider[0] not in library.get_available_providers():
        raise BackendMissing(
            "this onnxruntime computes on the CPU alone: pip install onnxruntime-gpu in its place"
        )
    model = original(engine)
    return entrant(
        engine,
        "onnxruntime",
        "fp32",
        f"fp32, plain graph, {place(engine)}",
        partial(_in_onnxruntime, model.onnx, provider),
        versions={"onnxruntime": library.__version__},
        sha256={"onnx": model.spec.onnx_sha256},
    )


@contextmanager
def _in_onnxruntime(path: Path, provider: tuple[str, dict[str, str]]) -> Iterator[Runnable]:
    session = load("onnxruntime", "ort").InferenceSession(str(path), providers=[provider])

    def answer(images: U8) -> F32:
        found: F32 = session.run([_ASKED], {INPUT: images})[0]
        return found

    yield Answering(answer)


def openvino(engine: Entrant) -> Entrant:
    """OpenVINO on the CPU. Where that has BF16 it computes all in it by itself: beside fp32 it is told not to.

    Raises:
        BackendMissing: Not installed, or the engine is on a GPU.
        InputError: The FP32 model is not there.
    """
    library = load("openvino", "openvino")
    if not engine.on_cpu:
        raise BackendMissing(
            f"OpenVINO computes on the CPU, and {engine.name} on the GPU: compare an engine for the CPU with it"
        )
    model = original(engine)
    own = _PRECISIONS[core().get_property("CPU", _HINT).get_type_name()]
    config, precision = {}, own
    if same_bits(engine) == "fp32" != own and engine.subject.asked != "int8":
        config, precision = {_HINT: "f32"}, "fp32"
    return entrant(
        engine,
        "openvino",
        precision,
        f"{precision}, plain graph, {place(engine)}",
        partial(_in_openvino, model.onnx, config),
        versions={"openvino": library.__version__},
        sha256={"onnx": model.spec.onnx_sha256},
    )


@contextmanager
def _in_openvino(path: Path, config: Mapping[str, Any]) -> Iterator[Runnable]:
    model = core().compile_model(core().read_model(str(path)), "CPU", config)
    place = OUTPUTS.index(_ASKED)

    def answer(images: U8) -> F32:
        # what it returns is its own memory, which the next call writes to
        found: F32 = model(images)[place].copy()
        return found

    yield Answering(answer)
