"""onnxruntime: the typed ONNX is the engine. Runs everywhere, and is the reference."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from convcut_trt.backends.arrays import check_host_images, parts, result_arrays
from convcut_trt.backends.base import (
    Arrays,
    BuildOptions,
    BuiltEngine,
    Layer,
    Progress,
    existing_file,
    no_progress,
)
from convcut_trt.backends.ort_profile import profiled_layers
from convcut_trt.errors import BackendMissing, BuildError, ConvcutError, InputError
from convcut_trt.optional import load

_EXTRA = "ort"
_ON_GPU = "this array is in GPU memory, the engine on the CPU: pass a numpy array, or open a TensorRT engine"
_MOST_FACES = 64  # at a time: memory grows with the batch, speed hardly does


class OnnxRuntime:
    """The backend. ``providers`` are onnxruntime's, for example ``CUDAExecutionProvider``."""

    flavour = "onnxruntime"

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

    def missing(self) -> str | None:
        """See Backend."""
        try:
            load("onnxruntime", _EXTRA)
        except BackendMissing as error:
            return str(error)
        return None

    def can_run(self) -> str | None:
        """See Backend: wherever it is installed."""
        return self.missing()

    def versions(self) -> dict[str, str]:
        """See Backend."""
        return {"onnxruntime": str(load("onnxruntime", _EXTRA).__version__)}

    def check_build(self, typed_onnx: Path, options: BuildOptions) -> None:
        """See Backend."""
        existing_file(typed_onnx)
        if options.targets:
            raise InputError("onnxruntime engines run on any CPU: leave out --target")
        for name, value in (
            ("--workspace", options.workspace_mib),
            ("--timing-cache", options.timing_cache),
        ):
            if value is not None:
                raise InputError(f"{name} is for TensorRT, onnxruntime has none: leave it out")

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """Checks the graph, opens it, and profiles what it computes in.

        See Backend. The batch only has to fit the graph: onnxruntime has no profiles, and a
        graph with a free batch takes any.
        """
        onnxruntime, onnx = load("onnxruntime", _EXTRA), load("onnx", _EXTRA)
        self.check_build(typed_onnx, options)
        start = time.perf_counter()
        progress("checking the graph", 0, 3)
        try:
            onnx.checker.check_model(str(typed_onnx))
        except onnx.checker.ValidationError as error:
            raise BuildError(
                f"{typed_onnx.name} is not a valid ONNX file: export it again", log=str(error)
            ) from error
        progress("opening", 1, 3)
        with self.open(typed_onnx, failure=BuildError) as session:
            session.check_batch(options.batch)
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
        tail: Path | None = None,
        failure: type[ConvcutError] = InputError,
        optimise: bool = True,
    ) -> OnnxRuntimeSession:
        """See Backend. ``threads`` of None is one per physical core.

        ``failure`` is raised where onnxruntime refuses the graph. Without ``optimise`` every node of the graph is
        computed as it is written: Q/DQ are not fused into integer kernels, casts are not dropped.
        """
        onnxruntime = load("onnxruntime", _EXTRA)
        existing_file(engine)
        if tail is not None:
            raise InputError(
                "the tail kernel runs on a GPU: build with --tail native for onnxruntime"
            )
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads: give 1 or more")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with _refusal(onnxruntime, engine, failure):
            session = onnxruntime.InferenceSession(str(engine), options, providers=self._providers)
        return OnnxRuntimeSession(session, engine)

    def describe(self, engine: Path, typed_onnx: Path | None = None) -> list[Layer]:
        """See Backend. Runs the graph once: only a run shows which kernels are taken."""
        onnxruntime = load("onnxruntime", _EXTRA)
        existing_file(engine)
        with _refusal(onnxruntime, engine, InputError):
            return profiled_layers(onnxruntime, engine, self._providers)


class OnnxRuntimeSession:
    """See Session. Calls from several threads run side by side."""

    def __init__(self, session: Any, engine: Path) -> None:
        inputs = session.get_inputs()
        shape = inputs[0].shape
        if (
            len(inputs) != 1
            or inputs[0].type != "tensor(uint8)"
            or len(shape) != 4
            or not all(isinstance(size, int) for size in shape[1:])
        ):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise InputError(
                f"{engine.name} takes {found}; an engine takes one uint8 [N, H, W, 3]: "
                "export the model again"
            )
        self._input = inputs[0].name
        self._picture = (shape[1], shape[2], shape[3])
        # A free batch is a name or None.
        self._batch = (shape[0], shape[0]) if isinstance(shape[0], int) else (1, None)
        self._shapes: dict[str, tuple[int, ...]] = {}
        for output in session.get_outputs():
            sizes = tuple(output.shape[1:])
            if output.type != "tensor(float)" or not all(isinstance(s, int) for s in sizes):
                raise InputError(
                    f"{engine.name}: output {output.name} is {output.type} {output.shape}; "
                    "it has to be float32 of a fixed size per image: export the model again"
                )
            self._shapes[output.name] = sizes
        self._session: Any | None = session

    @property
    def outputs(self) -> tuple[str, ...]:
        """See Session."""
        return tuple(self._shapes)

    def check_batch(self, batch: tuple[int, int, int]) -> None:
        """Raises InputError when the graph has another, fixed batch than MIN:OPT:MAX."""
        low, high = self._batch
        if high is not None and (batch[0], batch[2]) != (low, high):
            raise InputError(
                f"the graph has a fixed batch of {low}: build with --batch {low}:{low}:{low}, "
                "or export it with a free one"
            )

    def run(
        self, images: npt.NDArray[np.uint8], out: Arrays | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """See Session."""
        session = self._session  # a close() in another thread must not take it away meanwhile
        if session is None:
            raise InputError("this session is closed: open the engine again")
        check_host_images(images, self._picture)
        results = result_arrays({n: (len(images), *s) for n, s in self._shapes.items()}, out)
        fixed = self._batch[1]
        for start, stop in parts(len(images), fixed or _MOST_FACES):
            part = images[start:stop]
            rows = {name: array[start:stop] for name, array in results.items()}
            if fixed in (None, stop - start):
                self._run(session, part, rows)
                continue
            padded = {n: np.empty((fixed, *s), np.float32) for n, s in self._shapes.items()}
            self._run(session, np.resize(part, (fixed, *self._picture)), padded)
            for name, row in rows.items():
                row[:] = padded[name][: stop - start]
        return results

    def _run(self, session: Any, images: npt.NDArray[np.uint8], results: Mapping[str, Any]) -> None:
        contiguous = np.ascontiguousarray(images)  # bound by address: it has to live until the end
        binding = session.io_binding()
        binding.bind_cpu_input(self._input, contiguous)
        for name, array in results.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        session.run_with_iobinding(binding)

    def run_on_device(
        self, images: object, out: Mapping[str, Any] | None = None, stream: int | None = None
    ) -> dict[str, Any]:
        """See Session: refused, this engine computes on the CPU."""
        raise InputError(_ON_GPU)

    def run_frame(
        self,
        frame: object,
        format: str,
        boxes: Sequence[Sequence[float]] | npt.NDArray[np.floating],
        margin: float,
        stream: int | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """See Session: refused, this engine computes on the CPU."""
        raise InputError(_ON_GPU)

    def clone(self) -> OnnxRuntimeSession:
        """See Session: onnxruntime's own session serves any number of threads."""
        if self._session is None:
            raise InputError("this session is closed: open the engine again")
        return copy.copy(self)

    def close(self) -> None:
        """See Session. Calls in flight finish first."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def _refusal(onnxruntime: ModuleType, path: Path, failure: type[ConvcutError]) -> Iterator[None]:
    """Turns onnxruntime's own errors into ``failure``."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    # They have no common base below Exception, and newer versions have more of them.
    names = ("Fail", "InvalidGraph", "InvalidArgument", "InvalidProtobuf", "NotImplemented")
    kinds = tuple(getattr(state, name) for name in (*names, "RuntimeException", "EPFail"))
    try:
        yield
    except kinds as error:
        said = str(error)
        hint = ""
        if "bfloat16" in said:
            hint = ". It has no BF16 kernels on a CPU: build fp32 or fp16 for it"
        raise failure(f"onnxruntime refuses {path.name}: {said}{hint}", log=said) from error
