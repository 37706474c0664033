"""What backends share whose engine is the typed ONNX itself: the checks of a build, and the session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convcut_trt.backends.arrays import check_host_images, parts, result_arrays
from convcut_trt.backends.base import Arrays, BuildOptions, existing_file
from convcut_trt.errors import BackendMissing, BuildError, InputError
from convcut_trt.optional import load

_ON_GPU = "this array is in GPU memory, the engine on the CPU: pass a numpy array, or open a TensorRT engine"
_CLOSED = "this session is closed: open the engine again"
_MOST_FACES = 64  # at a time: memory grows with the batch, speed hardly does


def check_opening(flavour: str, engine: Path, threads: int | None, tail: Path | None) -> None:
    """Refuses arguments of ``open``.

    Raises:
        InputError: No such file, no number of threads, or a tail kernel.
    """
    existing_file(engine)
    if tail is not None:
        raise InputError(f"the tail kernel runs on a GPU: build with --tail native for {flavour}")
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads: give 1 or more")


def check_graph(typed_onnx: Path) -> None:
    """Holds a file to the ONNX standard.

    Raises:
        BackendMissing: onnx is not installed.
        BuildError: It does not keep to it.
    """
    checker = load("onnx", "ort").checker
    try:
        checker.check_model(str(typed_onnx))
    except checker.ValidationError as error:
        raise BuildError(
            f"{typed_onnx.name} is not a valid ONNX file: export it again", log=str(error)
        ) from error


class HostBackend:
    """What such backends answer alike. A subclass names its flavour, which is its module too, and its extra."""

    flavour: str
    extra: str

    def missing(self) -> str | None:
        """See Backend."""
        try:
            load(self.flavour, self.extra)
        except BackendMissing as error:
            return str(error)
        return None

    def can_run(self) -> str | None:
        """See Backend: wherever it is installed."""
        return self.missing()

    def versions(self) -> dict[str, str]:
        """See Backend."""
        return {self.flavour: str(load(self.flavour, self.extra).__version__)}

    def check_build(self, typed_onnx: Path, options: BuildOptions) -> None:
        """See Backend."""
        existing_file(typed_onnx)
        if options.targets:
            raise InputError(f"{self.flavour} engines run on any CPU: leave out --target")
        for name, value in (
            ("--workspace", options.workspace_mib),
            ("--timing-cache", options.timing_cache),
        ):
            if value is not None:
                raise InputError(f"{name} is for TensorRT, {self.flavour} has none: leave it out")


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: Of the tensor.
        dtype: As numpy names it.
        shape: None stands for a free dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} [{sizes}]"


@dataclass(frozen=True)
class Signature:
    """What a typed ONNX takes and gives.

    Attributes:
        image: Name of the input.
        picture: (H, W, 3).
        batch: The batch where the graph fixes it; None takes any.
        shapes: Output -> its shape for one image, in the order of the graph.
    """

    image: str
    picture: tuple[int, int, int]
    batch: int | None
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, file: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Signature:
        """That of a graph, if it is one of ours.

        Args:
            file: Name for messages.
            inputs: All of the graph's.
            outputs: All of the graph's.

        Raises:
            InputError: The graph does not take uint8 [N, H, W, 3], or gives anything but float32.
        """
        shape = inputs[0].shape if inputs else ()
        sizes = tuple(size for size in shape[1:] if size is not None)
        if len(inputs) != 1 or inputs[0].dtype != "uint8" or len(shape) != 4 or len(sizes) != 3:
            found = "; ".join(map(str, inputs)) or "nothing"
            raise InputError(
                f"{file} takes {found}; an engine takes one uint8 [N, H, W, 3]: "
                "export the model again"
            )
        shapes = {}
        for output in outputs:
            fixed = tuple(size for size in output.shape[1:] if size is not None)
            if output.dtype != "float32" or len(fixed) != len(output.shape) - 1:
                raise InputError(
                    f"{file} gives {output}; an output has to be float32 of a fixed size per image: "
                    "export the model again"
                )
            shapes[output.name] = fixed
        return cls(inputs[0].name, (sizes[0], sizes[1], sizes[2]), shape[0], shapes)

    def check_batch(self, batch: tuple[int, int, int]) -> None:
        """Raises InputError when the graph has another, fixed batch than MIN:OPT:MAX."""
        fixed = self.batch
        if fixed is not None and (batch[0], batch[2]) != (fixed, fixed):
            raise InputError(
                f"the graph has a fixed batch of {fixed}: build with --batch {fixed}:{fixed}:{fixed}, "
                "or export it with a free one"
            )


class HostSession(ABC):
    """See Session. Faces and answers are in host memory, and are copied where ``out`` asks for it."""

    def __init__(self, signature: Signature, engine: Any) -> None:
        """Opens nothing.

        Args:
            signature: Of the engine's graph.
            engine: What ``_compute`` runs; clones share it.
        """
        self.signature = signature
        self._engine: Any | None = engine

    @abstractmethod
    def _compute(self, engine: Any, images: npt.NDArray[np.uint8]) -> Sequence[Any]:
        """What ``engine`` answers to C-contiguous faces, as many as its batch is where that is fixed.

        Returns:
            The outputs in the order of the signature, float32, each an array that nobody else has.
        """

    @property
    def outputs(self) -> tuple[str, ...]:
        """See Session."""
        return tuple(self.signature.shapes)

    def run(
        self, images: npt.NDArray[np.uint8], out: Arrays | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """See Session."""
        engine = self._opened()  # a close() in another thread must not take it away meanwhile
        picture, fixed = self.signature.picture, self.signature.batch
        check_host_images(images, picture)
        count = len(images)
        if not out and (count == fixed if fixed else 0 < count <= _MOST_FACES):
            # the usual call, with nothing in its way: at 2 ms each copy and each view is felt
            answers = self._compute(engine, np.ascontiguousarray(images))
            return dict(zip(self.outputs, answers, strict=True))
        shapes = self.signature.shapes
        results = result_arrays({name: (count, *s) for name, s in shapes.items()}, out)
        for start, stop in parts(count, fixed or _MOST_FACES):
            part = images[start:stop]
            if fixed not in (None, stop - start):
                part = np.resize(part, (fixed, *picture))
            answers = self._compute(engine, np.ascontiguousarray(part))
            for array, answer in zip(results.values(), answers, strict=True):
                array[start:stop] = answer[: stop - start]
        return results

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

    def clone(self) -> HostSession:
        """See Session."""
        return type(self)(self.signature, self._opened())

    def close(self) -> None:
        """See Session. Calls in flight finish first."""
        self._engine = None

    def _opened(self) -> Any:
        engine = self._engine
        if engine is None:
            raise InputError(_CLOSED)
        return engine

    def __enter__(self) -> HostSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
