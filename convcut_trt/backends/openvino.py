"""OpenVINO on CPUs: the typed ONNX is the engine. The only CPU backend with BF16, where the CPU has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from convcut_trt.backends.base import (
    BuildOptions,
    BuiltEngine,
    Layer,
    Progress,
    existing_file,
    no_progress,
)
from convcut_trt.backends.host import (
    HostBackend,
    HostSession,
    Port,
    Signature,
    check_graph,
    check_opening,
)
from convcut_trt.backends.ov_graph import executed_layers
from convcut_trt.errors import (
    BuildError,
    ConvcutError,
    EngineMismatch,
    InputError,
)
from convcut_trt.optional import load
from convcut_trt.spec import OUTPUTS

_EXTRA = "openvino"
_CPU = "CPU"
_TYPES = {"u8": "uint8", "f32": "float32"}
_CONFIG = {
    # What the graph types as FP32 or BF16 stays that; FP16 is widened to FP32. By default, a CPU with BF16 computes
    # FP32 in BF16.
    "INFERENCE_PRECISION_HINT": "f32",
    # Nothing is quantised that the graph does not quantise.
    "EXECUTION_MODE_HINT": "ACCURACY",
    # Threads stay where the system puts them. Pinned, two processes wait for the same core.
    "ENABLE_CPU_PINNING": False,
    "NUM_STREAMS": 1,
}
# Lines of OpenVINO's errors that only say where in its sources they come from.
_WHERE = ("Exception from ", "Check '", "FrontEnd API failed", "Summary:")


@dataclass(frozen=True)
class _Graph:
    """A typed ONNX as OpenVINO holds it.

    Attributes:
        ov: The module.
        core: OpenVINO's.
        model: ``openvino.Model``, as the file is.
        signature: Of it.
    """

    ov: ModuleType
    core: Any
    model: Any
    signature: Signature

    def compiled(self, batch: int | None, threads: int | None = None) -> Any:
        """Compiles it for a batch; None for any, which costs speed (see ``OpenVino.open``)."""
        model = self.model
        if batch is not None:
            model = model.clone()
            model.reshape([batch, *self.signature.picture])
        config = {**_CONFIG, "INFERENCE_NUM_THREADS": threads or 0}
        return self.core.compile_model(model, _CPU, config)

    def lacks(self) -> str | None:
        """Why this CPU cannot compute it in its types; None where it can."""
        bf16 = self.ov.Type.bf16
        if any(
            port.element_type == bf16 for node in self.model.get_ops() for port in node.outputs()
        ):
            return _no_bf16(self.core)
        return None


@cache
def core() -> Any:
    """``openvino.Core``, one for the process and never closed.

    Each has an alternate signal stack of its own for the thread that makes it, and puts the one before back when it
    goes. Two that go in the order in which they came leave a stack that is freed, and the next Ctrl-C ends Python
    with a segmentation fault (2026.4.1).

    Raises:
        BackendMissing: OpenVINO is not installed.
    """
    return load("openvino", _EXTRA).Core()


class OpenVino(HostBackend):
    """The backend."""

    flavour = "openvino"
    extra = _EXTRA
    on_cpu = True

    def refuses(self, precision: str) -> str | None:
        """See Backend: bf16 is refused where OpenVINO would only imitate it, slower than fp32."""
        if precision == "bf16" and self.missing() is None:
            return _no_bf16(core())
        return None

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """Checks the graph, compiles it, and reads what it computes in.

        See Backend. The batch only has to fit the graph: one with a free batch takes any.
        """
        version = self.versions()["openvino"]
        self.check_build(typed_onnx, options)
        start = time.perf_counter()
        progress("checking the graph", 0, 2)
        check_graph(typed_onnx)
        progress("compiling", 1, 2)
        with _refusal(typed_onnx, BuildError):
            graph = _read(typed_onnx)
            graph.signature.check_batch(options.batch)
            if reason := graph.lacks():
                raise BuildError(reason)
            layers = executed_layers(graph.compiled(graph.signature.batch or 1))
        progress("done", 2, 2)
        return BuiltEngine(
            engine=typed_onnx.read_bytes(),
            flavour=self.flavour,
            version=version,
            compute_capabilities=(),
            layers=layers,
            plan=layers,
            log="",
            seconds=time.perf_counter() - start,
            peak_memory=None,
        )

    def open(
        self,
        engine: Path,
        *,
        threads: int | None = None,
        spin: bool = False,
        tail: Path | None = None,
    ) -> HostSession:
        """See Backend. ``threads`` of None is one per physical core; none of them spins for longer than a moment.

        The graph is compiled for one face, the usual batch of a robot, and for any number, each when it is first
        asked for: that call takes a few tenths of a second. Compiled for one number of faces OpenVINO is faster,
        but each costs that pause and its own copy of the weights.
        """
        load("openvino", _EXTRA)
        check_opening(self.flavour, engine, threads, tail)
        with _refusal(engine, InputError):
            graph = _read(engine)
            if reason := graph.lacks():
                raise EngineMismatch(f"{engine.name} cannot run here: {reason}")
        return _Session(graph.signature, _Compiled(engine, graph, threads))

    def describe(self, engine: Path, typed_onnx: Path | None = None) -> list[Layer]:
        """See Backend. Read from the graph that OpenVINO executes for one face."""
        load("openvino", _EXTRA)
        existing_file(engine)
        with _refusal(engine, InputError):
            graph = _read(engine)
            return list(executed_layers(graph.compiled(graph.signature.batch or 1)))


class _Compiled:
    """What clones share: a graph, and what it was compiled to."""

    def __init__(self, path: Path, graph: _Graph, threads: int | None) -> None:
        self._path, self._graph, self._threads = path, graph, threads
        self._models: dict[int | None, Any] = {}
        self._compiling = threading.Lock()
        self.tensor = graph.ov.Tensor

    def size(self, count: int) -> int | None:
        """The batch that ``count`` faces are compiled for; None takes any."""
        fixed = self._graph.signature.batch
        return fixed if fixed is not None else 1 if count == 1 else None

    def request(self, size: int | None) -> Any:
        """An inference request for a batch.

        Raises:
            InputError: OpenVINO refuses to compile it.
        """
        with self._compiling, _refusal(self._path, InputError):
            if size not in self._models:
                self._models[size] = self._graph.compiled(size, self._threads)
            return self._models[size].create_infer_request()


class _Session(HostSession):
    """Calls take turns, those of clones too: each has all threads, so that one answer is there the soonest.

    OpenVINO's queue does that for clones: a compiled model has one stream (``NUM_STREAMS``). onnxruntime lets calls
    run side by side and share its threads.
    """

    def __init__(self, signature: Signature, engine: _Compiled) -> None:
        super().__init__(signature, engine)
        self._turn = threading.Lock()
        self._requests: dict[int | None, Any] = {}

    def _compute(
        self, engine: _Compiled, images: npt.NDArray[np.uint8]
    ) -> list[npt.NDArray[np.float32]]:
        if not images.flags.writeable:  # OpenVINO shares no memory that it could not write to
            images = images.copy()
        count = len(images)
        answers = [np.empty((count, *s), np.float32) for s in self.signature.shapes.values()]
        size = engine.size(count)
        with self._turn:
            if size not in self._requests:
                self._requests[size] = engine.request(size)
            request = self._requests[size]
            request.set_input_tensor(engine.tensor(images, shared_memory=True))
            for index, array in enumerate(answers):
                request.set_output_tensor(index, engine.tensor(array, shared_memory=True))
            request.infer()
        return answers


def _read(path: Path) -> _Graph:
    """Reads a typed ONNX with OpenVINO's ONNX reader alone; others would try a file that is none.

    Raises:
        InputError: It is no graph of ours.
    """
    ov = load("openvino", _EXTRA)
    reader = ov.frontend.FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    signature = Signature.of(path.name, _ports(model.inputs), _ports(model.outputs))
    return _Graph(ov, core(), model, signature)


def _ports(ports: Any) -> list[Port]:
    return [
        Port(
            # A tensor has several names where the reader dropped an operation that did nothing.
            next((name for name in OUTPUTS if name in port.names), port.any_name),
            _TYPES.get(kind := port.element_type.get_type_name(), kind),
            tuple(size.get_length() if size.is_static else None for size in port.partial_shape),
        )
        for port in ports
    ]


def _no_bf16(core: Any) -> str | None:
    if "BF16" in core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES"):
        return None
    name = core.get_property(_CPU, "FULL_DEVICE_NAME")
    return (
        f"bf16 takes a CPU with AVX512-BF16 or AMX, and this one ({name}) has neither: OpenVINO would imitate it, "
        "slower than fp32; choose fp32, fp16 or int8"
    )


@contextmanager
def _refusal(path: Path, failure: type[ConvcutError]) -> Iterator[None]:
    """Turns OpenVINO's own errors into ``failure``."""
    frontend = load("openvino", _EXTRA).frontend
    # They have no common base below Exception.
    names = ("General", "Initialization", "NotImplemented", "OpConversion", "OpValidation")
    kinds = (RuntimeError, *(getattr(frontend, f"{name}Failure") for name in names))
    try:
        yield
    except kinds as error:
        said = str(error)
        lines = (line.strip(" -") for line in said.splitlines())
        told = "; ".join(line for line in lines if line and not line.startswith(_WHERE))
        raise failure(f"OpenVINO refuses {path.name}: {told}", log=said) from error
