"""A machine with a fake GPU, and a session on it that computes the real answers of a small network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from convcut_trt import backends
from convcut_trt.backends.base import BuildOptions, BuiltEngine, Layer, Progress, no_progress
from convcut_trt.backends.probe import Gpu
from convcut_trt.backends.trt_session import TensorRTSession
from convcut_trt.seam import split
from convcut_trt.spec import INPUT, OUTPUTS
from tests.gpu.fake_cuda import FakeCuda
from tests.gpu.fake_trt import FakeTensorRT, plan

SIZE = 16
GPU = Gpu("Fake GPU", (8, 9), "13.0")
VERSIONS = (("10.3.0", False), ("10.13.3", False), ("11.4.0", False), ("1.7.1.116", True))
BATCH = (1, 2, 4)


@dataclass
class Machine:
    """One fake GPU with one TensorRT.

    Attributes:
        cuda: Its driver.
        trt: Its TensorRT.
        folder: For files.
    """

    cuda: FakeCuda
    trt: FakeTensorRT
    folder: Path

    @property
    def flavour(self) -> str:
        """Of the TensorRT."""
        return "tensorrt-rtx" if self.trt.rtx else "tensorrt"

    def engine(
        self,
        model: onnx.ModelProto | None = None,
        *,
        batch: tuple[int, int, int] = BATCH,
        tail: bool = False,
        **header: Any,
    ) -> tuple[Path, Path | None]:
        """Writes an engine; with ``tail`` it ends at the map, and the typed ONNX comes with it."""
        model = network() if model is None else model
        typed = self.folder / "small.onnx"
        typed.write_bytes(model.SerializeToString())
        part = split(model)[0] if tail else model
        engine = self.folder / "small.engine"
        engine.write_bytes(plan(part.SerializeToString(), batch, **header))
        return engine, typed if tail else None

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """What the builder of this machine would make of a typed ONNX."""
        model = onnx.load(typed_onnx)
        layers = tuple(
            Layer(node.name, node.op_type, "fp16", 1)
            for node in model.graph.node
            if node.op_type == "Conv"
        )
        return BuiltEngine(
            engine=plan(typed_onnx.read_bytes(), options.batch, version=self.trt.__version__),
            flavour=self.flavour,
            version=self.trt.__version__,
            compute_capabilities=(GPU.compute_capability,),
            layers=layers,
            plan=layers,
            log="",
            seconds=0.1,
            peak_memory=None,
        )

    def open(self, **options: Any) -> TensorRTSession:
        """Opens an engine; see ``engine``."""
        path, tail = self.engine(**options)
        session = backends.get(self.flavour).open(path, tail=tail)
        assert isinstance(session, TensorRTSession)
        return session

    def check(self) -> None:
        """Nothing is alive on the GPU, and nothing was done wrong there."""
        self.cuda.check()
        assert self.cuda.leaks() == {}
        assert self.cuda.stack() == []


@contextmanager
def machine(
    folder: Path, version: str = "10.3.0", rtx: bool = False, **cuda: Any
) -> Iterator[Machine]:
    """A machine of this TensorRT; ``cuda`` as FakeCuda takes it."""
    driver = FakeCuda(**cuda)
    trt = FakeTensorRT(driver, version, rtx=rtx)
    with (
        mock.patch("convcut_trt.gpu.driver.load_driver", lambda: driver),
        mock.patch("convcut_trt.backends.trt_flavours.Flavour.load", lambda self: trt),
        mock.patch("convcut_trt.backends.tensorrt.gpu", lambda: GPU),
        mock.patch("convcut_trt.backends.probe.gpu", lambda: GPU),
        mock.patch("convcut_trt.build.gpu", lambda: GPU),
        mock.patch("convcut_trt.backends.trt_plan.is_plan", lambda content: rtx),
        # The fake runs the kernels' own source on the host, whatever image it is given.
        mock.patch("convcut_trt.gpu.nvrtc.compile_kernel", lambda *arguments: b"cubin"),
        mock.patch.dict("os.environ", {"CONVCUT_HOME": str(folder / "home")}),
    ):
        yield Machine(driver, trt, folder)


@cache
def network() -> onnx.ModelProto:
    """uint8 faces [N, 16, 16, 3] -> a map of 8 channels, 4x4 -> 5 classes, with a tail that the kernel knows."""
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 19]>
        small (uint8[N,{SIZE},{SIZE},3] images)
            => (float[N,5] logits, float[N,5] probabilities, float[N,8,4,4] map) {{
          cast = Cast<to=1>(images)
          nchw = Transpose<perm=[0,3,1,2]>(cast)
          stem = Conv<strides=[4,4], kernel_shape=[4,4]>(nchw, weight)
          map = Relu(stem)
          pooled = ReduceMean<keepdims=0>(map, axes)
          logits = Gemm<alpha=1.0, beta=1.0, transB=1>(pooled, head, head_bias)
          probabilities = Softmax<axis=1>(logits)
        }}
        """
    )
    random = np.random.default_rng(0)
    values = {
        "weight": random.normal(0, 0.01, (8, 3, 4, 4)).astype(np.float32),
        "head": random.normal(0, 1, (5, 8)).astype(np.float32),
        "head_bias": random.normal(0, 1, 5).astype(np.float32),
        "axes": np.array([2, 3]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items())
    onnx.checker.check_model(model)
    return model


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random faces for it."""
    shape = (count, SIZE, SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@cache
def _reference() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(network().SerializeToString())


def expected(pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Its answers, by onnxruntime."""
    values = _reference().run(list(OUTPUTS), {INPUT: pictures})
    return dict(zip(OUTPUTS, values, strict=True))
