"""onnxruntime: the typed ONNX is the engine. Runs everywhere, and is the reference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from convcut_trt.backends.ort_profile import profiled_layers
from convcut_trt.errors import BuildError, ConvcutError, InputError
from convcut_trt.optional import load

NO_SPINNING = ("session.intra_op.allow_spinning", "0")
SPINNING_IN_A_RUN = ("session.force_spinning_stop", "1")
"""Session options: threads that wait for work sleep, or spin until the run is done. By default they would for some
45 ms more, at 30 Hz a whole core for ever. See ``bench/results/spinning.json``."""
_EXTRA = "ort"
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class OnnxRuntime(HostBackend):
    """The backend. ``providers`` are onnxruntime's, for example ``CUDAExecutionProvider``."""

    flavour = "onnxruntime"
    extra = _EXTRA

    def __init__(self, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        self._providers = list(providers)

    @property
    def on_cpu(self) -> bool:
        """See Backend."""
        return self._providers == ["CPUExecutionProvider"]

    def refuses(self, precision: str) -> str | None:
        """See Backend."""
        if precision == "bf16" and self.on_cpu:
            return "onnxruntime has no bf16 kernels for a CPU: choose fp16 or int8"
        return None

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """Checks the graph, opens it, and profiles what it computes in.

        See Backend. The batch only has to fit the graph: onnxruntime has no profiles, and a
        graph with a free batch takes any.
        """
        onnxruntime = load("onnxruntime", _EXTRA)
        self.check_build(typed_onnx, options)
        start = time.perf_counter()
        progress("checking the graph", 0, 3)
        check_graph(typed_onnx)
        progress("opening", 1, 3)
        with self.open(typed_onnx, failure=BuildError) as session:
            session.signature.check_batch(options.batch)
        progress("profiling", 2, 3)
        layers = profiled_layers(onnxruntime, typed_onnx, self._providers)
        progress("done", 3, 3)
        return BuiltEngine(
            engine=typed_onnx.read_bytes(),
            flavour=self.flavour,
            version=self.versions()["onnxruntime"],
            compute_capabilities=(),
            layers=tuple(layers),
            plan=tuple(layers),
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
        failure: type[ConvcutError] = InputError,
        optimise: bool = True,
    ) -> HostSession:
        """See Backend. ``threads`` of None is one per physical core.

        ``failure`` is raised where onnxruntime refuses the graph. Without ``optimise`` every node of the graph is
        computed as it is written: Q/DQ are not fused into integer kernels, casts are not dropped.
        """
        onnxruntime = load("onnxruntime", _EXTRA)
        check_opening(self.flavour, engine, threads, tail)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        options.add_session_config_entry(*(SPINNING_IN_A_RUN if spin else NO_SPINNING))
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with refusal(onnxruntime, engine.name, failure):
            session = onnxruntime.InferenceSession(str(engine), options, providers=self._providers)
        ports = [_ports(of) for of in (session.get_inputs(), session.get_outputs())]
        return _Session(Signature.of(engine.name, *ports), session)

    def describe(self, engine: Path, typed_onnx: Path | None = None) -> list[Layer]:
        """See Backend. Runs the graph once: only a run shows which kernels are taken."""
        onnxruntime = load("onnxruntime", _EXTRA)
        existing_file(engine)
        with refusal(onnxruntime, engine.name, InputError):
            return profiled_layers(onnxruntime, engine, self._providers)


class _Session(HostSession):
    """Calls from several threads run side by side: onnxruntime's own session serves any number of them."""

    def _compute(self, engine: Any, images: npt.NDArray[np.uint8]) -> Sequence[Any]:
        # Its bindings would spare nothing here, and take 0.1 ms to make.
        answers: list[Any] = engine.run(self.outputs, {self.signature.image: images})
        return answers


def _ports(nodes: Sequence[Any]) -> list[Port]:
    # A free dimension is a name or None.
    return [
        Port(
            node.name,
            _TYPES.get(node.type, node.type),
            tuple(size if isinstance(size, int) else None for size in node.shape),
        )
        for node in nodes
    ]


@contextmanager
def refusal(onnxruntime: ModuleType, name: str, failure: type[ConvcutError]) -> Iterator[None]:
    """Turns onnxruntime's own errors over the model ``name`` into ``failure``."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    # They have no common base below Exception, and newer versions have more of them.
    classes = (
        "Fail",
        "InvalidGraph",
        "InvalidArgument",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
    )
    kinds = tuple(getattr(state, each) for each in (*classes, "RuntimeException", "EPFail"))
    try:
        yield
    except kinds as error:
        said = str(error)
        hint = ""
        if "bfloat16" in said:
            hint = ". It has no BF16 kernels on a CPU: build fp32 or fp16 for it"
        raise failure(f"onnxruntime refuses {name}: {said}{hint}", log=said) from error
