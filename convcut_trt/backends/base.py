"""What every backend offers: build an engine from a typed ONNX, open it, say what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from convcut_trt.devices import Device
from convcut_trt.errors import InputError

Arrays = Mapping[str, npt.NDArray[np.float32]]
Progress = Callable[[str, int, int], None]
"""Called as ``progress(phase, done, total)``: ``phase`` is what is being done now, ``done`` of
``total`` is of the whole build and never falls; ``total`` stays the same."""


def no_progress(phase: str, done: int, total: int) -> None:
    """The progress callable that says nothing."""


@dataclass(frozen=True)
class BuildOptions:
    """What a build may choose; precision is not among it, that lives in the typed ONNX.

    Attributes:
        batch: Smallest, usual and largest batch. Three equal numbers make a fixed-batch engine,
            which lets more operations fuse.
        targets: Devices to build for; empty means the GPU of this machine.
        workspace_mib: Cap on the builder's scratch memory on the GPU. None is all of the GPU's memory,
            or ``preflight.WORKSPACE_MIB`` where it shares the machine's.
        timeout_s: Seconds after which the build is given up; None waits as long as it takes.
        timing_cache: Folder that keeps the builder's timings for the next build; None keeps none.
    """

    batch: tuple[int, int, int] = (1, 1, 1)
    targets: tuple[Device, ...] = ()
    workspace_mib: int | None = None
    timeout_s: float | None = None
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        low, usual, high = self.batch
        if not 1 <= low <= usual <= high:
            raise InputError(
                f"batch {low}:{usual}:{high} is not MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX"
            )
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InputError(f"workspace of {self.workspace_mib} MiB: give 1 or more, or nothing")


@dataclass(frozen=True)
class Layer:
    """One operation of a network, a graph or an engine.

    Attributes:
        name: The backend's name of it.
        kind: The backend's type of it, for example ``Conv`` or ``CONVOLUTION``.
        dtype: What it is computed in: fp32, fp16, bf16, int8, ...; ``?`` where not readable.
        multiply_adds: For one image; 0 for everything but convolutions and matrix products.
    """

    name: str
    kind: str
    dtype: str
    multiply_adds: int = 0


@dataclass(frozen=True)
class BuiltEngine:
    """What a build gives back. Nothing is written anywhere: publishing is the caller's.

    Attributes:
        engine: The plan, or the typed ONNX where that is the engine.
        flavour: The backend's name.
        version: The builder's version.
        compute_capabilities: (major, minor) of each GPU it is for; empty for a CPU.
        layers: What was asked to be computed in which type, with multiply-adds: the strongly
            typed network of TensorRT, or what onnxruntime ran.
        plan: The operations of the engine itself, None where it is not readable. Their
            multiply-adds are those of the layers they cover.
        log: What the builder said.
        seconds: Parsing and building, without starting the builder.
        peak_memory: Bytes of the builder's process at its peak, None where not measured.
    """

    engine: bytes = field(repr=False)
    flavour: str
    version: str
    compute_capabilities: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...] = field(repr=False)
    plan: tuple[Layer, ...] | None = field(repr=False)
    log: str = field(repr=False)
    seconds: float
    peak_memory: int | None

    @property
    def operations(self) -> int | None:
        """Device operations in the engine, None where it is not readable."""
        return None if self.plan is None else len(self.plan)


class Runnable(Protocol):
    """What answers faces: all that gates and timing need of a session."""

    def run(
        self, images: npt.NDArray[np.uint8], out: Arrays | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Answers for faces in host memory.

        Args:
            images: uint8 [N, H, W, 3], RGB, any N: more than the engine's largest batch are taken in parts.
            out: Arrays to write into, by output name: float32, C-contiguous, of the output's
                shape. Outputs without one get a new array.

        Returns:
            Outputs in the order of the graph: ``logits`` [N, K], ``probabilities`` [N, K] and
            ``map`` [N, C, H, W], all float32. The arrays are the caller's: no later call
            writes to them.

        Raises:
            InputError: Wrong dtype or shape, or the session is closed.
            CudaError: The GPU failed. Where ``fatal``, every later call says so too.
        """


class Session(Runnable, Protocol):
    """An open engine. Safe to call from several threads."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs in the order of the graph."""

    def run_on_device(
        self, images: object, out: Mapping[str, Any] | None = None, stream: int | None = None
    ) -> dict[str, Any]:
        """Answers for faces in GPU memory. The host does not wait, unless ``out`` lies there.

        Args:
            images: uint8 [N, H, W, 3], RGB, contiguous: anything with ``__dlpack__`` or
                ``__cuda_array_interface__``. It may be dropped or written to by later work on ``stream``.
            out: Arrays to write into, all in GPU memory or all numpy; see ``run``.
            stream: Handle of the CUDA stream that the caller's arrays are used on; None for what the arrays
                themselves say, else the legacy default stream.

        Returns:
            As ``run``, but each a ``gpu.arrays.DeviceArray``, or the caller's array. Work that the caller puts on
            ``stream`` finds them filled.

        Raises:
            InputError: Wrong dtype, shape or strides, not in the engine's GPU, or the session is closed.
            CudaError: As ``run``.
        """

    def run_frame(
        self,
        frame: object,
        format: str,
        boxes: Sequence[Sequence[float]] | npt.NDArray[np.floating],
        margin: float,
        stream: int | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Answers for the faces of a camera frame in GPU memory, cut out and resized there in one launch.

        Args:
            frame: uint8, see ``frames.Layout.view`` for the shapes; rows may have gaps between them. Anything with
                ``__dlpack__`` or ``__cuda_array_interface__``.
            format: One of ``frames.FORMATS``.
            boxes: N faces as (x, y, width, height) in pixels, any N.
            margin: See ``preprocess.crop_box``.
            stream: As ``run_on_device``.

        Returns:
            As ``run``.

        Raises:
            InputError: No such frame, a bad box, or an engine on the CPU.
            BackendMissing, BuildError: The preprocessing kernel cannot be had here.
            CudaError: As ``run``.
        """

    def clone(self) -> Session:
        """A session for another thread: it shares the engine and its weights, and is closed by itself."""

    def close(self) -> None:
        """Frees the engine. A second call does nothing."""

    def __enter__(self) -> Session: ...

    def __exit__(self, *error: object) -> None: ...


class Backend(Protocol):
    """One way to build and run engines."""

    @property
    def flavour(self) -> str:
        """What ``--backend`` takes."""

    @property
    def on_cpu(self) -> bool:
        """Whether its engines compute on the CPU."""

    def refuses(self, precision: str) -> str | None:
        """Why it has no engines of a precision (fp32, fp16, bf16, int8); None when it has."""

    def missing(self) -> str | None:
        """Why it cannot be used at all, with what to install; None when it can."""

    def can_run(self) -> str | None:
        """Why it cannot run an engine on this machine; None when it can."""

    def versions(self) -> dict[str, str]:
        """Versions of the libraries behind it; raises BackendMissing without them."""

    def check_build(self, typed_onnx: Path, options: BuildOptions) -> None:
        """Refuses what ``build`` would refuse before it begins: targets, memory.

        Raises:
            InputError: The options cannot be met by this backend on this machine.
        """

    def build(
        self, typed_onnx: Path, options: BuildOptions, progress: Progress = no_progress
    ) -> BuiltEngine:
        """Builds an engine.

        Raises:
            BackendMissing: Its library is not installed.
            InputError: The options cannot be met by this backend, or the file cannot be read.
            BuildError: The builder refused, crashed, was killed or took too long.
        """

    def open(
        self,
        engine: Path,
        *,
        threads: int | None = None,
        spin: bool = False,
        tail: Path | None = None,
    ) -> Session:
        """Opens an engine. Engines are native code: open only what you trust.

        Args:
            engine: The file.
            threads: CPU threads to use, where the backend computes on the CPU.
            spin: These threads wait busily between layers, where the backend has such: onnxruntime.
            tail: The typed ONNX of an engine that ends at the map: the tail kernel computes the rest of it.

        Raises:
            BackendMissing: Its library is not installed.
            EngineMismatch: A sound engine that cannot run here.
            InputError: Not an engine.
        """

    def describe(self, engine: Path, typed_onnx: Path | None = None) -> list[Layer] | None:
        """The engine's operations and their types; None where they are not readable.

        Args:
            engine: The file. On a GPU its code may be loaded: its hash has to be checked by now.
            typed_onnx: What it was built from; without it the layers of TensorRT have no multiply-adds.
        """


def computed_shares(layers: Iterable[Layer]) -> dict[str, float]:
    """Share of the multiply-adds that is computed in each type, largest first; sums to 1."""
    sums: dict[str, int] = {}
    for layer in layers:
        if layer.multiply_adds:
            sums[layer.dtype] = sums.get(layer.dtype, 0) + layer.multiply_adds
    total = sum(sums.values())
    return {dtype: sums[dtype] / total for dtype in sorted(sums, key=lambda d: -sums[d])}


def existing_file(path: Path) -> Path:
    """``path`` if it is a file with something in it, else InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    return path
