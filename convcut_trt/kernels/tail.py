"""The tail as the kernel of ``tail.cuh`` takes it: parameters, limits, launch, and its twin in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError

if TYPE_CHECKING:
    import onnx

Attention = Literal["none", "channel", "spatial", "batch"]
Layout = Literal["nchw", "nhwc"]
ATTENTIONS: tuple[Attention, ...] = (
    "none",
    "channel",
    "spatial",
    "batch",
)  # in the order of tail.cuh
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")
DTYPES: Mapping[str, str] = {"float32": "f32", "float16": "f16"}

MOST_CHANNELS = 512
MOST_SIDE = 8
MOST_CLASSES = 64
MOST_FACES = 2**31 - 1  # blocks of a grid
THREADS = 256
STAGED = 6144
FLOAT = 4

Array = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """Linear layer, ReLU, and BatchNorm as scale and shift: weight [R, C]; bias, scale and shift [R]."""

    weight: Array
    bias: Array
    scale: Array
    shift: Array


@dataclass(frozen=True)
class Launch:
    """How the kernel is called.

    Attributes:
        name: Of the kernel in ``tail.cu``.
        defines: NAME=VALUE, with which ``tail.cu`` is compiled for this one kernel alone.
        blocks: Of the grid.
        threads: Of a block.
        shared_bytes: Of dynamic shared memory.
    """

    name: str
    defines: tuple[str, ...]
    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True)
class Tail:
    """The parameters of a tail that the kernel can compute.

    Attributes:
        map_shape: (C, H, W) of the map.
        attention: One of ``ATTENTIONS``. ``batch`` is the paper's released code, for reproduction only: a face's
            answer depends on its neighbours. No exported model has it.
        score_scale: s of softmax(s A A^T) A; 0 without attention.
        projection: None where the pooled map goes on as it is.
        head_weight: [K, C or R].
        head_bias: [K].
        temperature: T of softmax(logits / T).

    Raises:
        InputError: Outside of what the kernel can do; the native tail can.
    """

    map_shape: tuple[int, int, int]
    attention: Attention
    score_scale: float
    projection: Projection | None
    head_weight: Array
    head_bias: Array
    temperature: float = 1.0

    def __post_init__(self) -> None:
        channels, height, width = self.map_shape
        if not 1 <= channels <= MOST_CHANNELS:
            raise _native(
                f"a map of {channels} channels, and the kernel takes 1 to {MOST_CHANNELS}"
            )
        if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
            raise _native(
                f"a map of {height}x{width} positions, and the kernel takes at most {MOST_SIDE}x{MOST_SIDE}"
            )
        if not 1 <= self.classes <= MOST_CLASSES:
            raise _native(f"{self.classes} classes, and the kernel takes 1 to {MOST_CLASSES}")
        if not 0 <= self.units <= MOST_CHANNELS:
            raise _native(
                f"a projection to {self.units} units, and the kernel takes 1 to {MOST_CHANNELS}"
            )
        if self.attention not in ATTENTIONS:
            raise _native(
                f"attention {self.attention!r}, and the kernel knows {', '.join(ATTENTIONS)}"
            )
        if not (0 < self.temperature < math.inf and math.isfinite(self.score_scale)):
            raise _native(
                f"a temperature of {self.temperature} and a score scale of {self.score_scale}, and the kernel "
                "needs finite ones, the temperature above 0"
            )
        expected = {"head_weight": (self.classes, self.width), "head_bias": (self.classes,)}
        found = {"head_weight": self.head_weight.shape, "head_bias": self.head_bias.shape}
        if self.projection is not None:
            expected |= {"weight": (self.units, channels)}
            found |= {"weight": self.projection.weight.shape}
            for name in ("bias", "scale", "shift"):
                expected[name] = (self.units,)
                found[name] = getattr(self.projection, name).shape
        for name, shape in expected.items():
            if found[name] != shape:
                raise _native(f"a {name} of shape {found[name]} where the kernel needs {shape}")

    @property
    def positions(self) -> int:
        """Positions of the map, 1 to 64."""
        return self.map_shape[1] * self.map_shape[2]

    @property
    def classes(self) -> int:
        """K."""
        return int(self.head_weight.shape[0])

    @property
    def units(self) -> int:
        """Units of the projection, 0 for none."""
        return 0 if self.projection is None else int(self.projection.weight.shape[0])

    @property
    def width(self) -> int:
        """Values in front of the head: the projection's units, else the map's channels."""
        return self.units if self.projection is not None else self.map_shape[0]

    @classmethod
    def from_onnx(cls, tail: onnx.ModelProto) -> Tail:
        """``read_tail.read_tail``: the parameters of the second half of ``seam.split``."""
        from convcut_trt.kernels.read_tail import read_tail

        return read_tail(tail)

    def pack(self) -> Array:
        """The parameters in the order of ``TailParameters`` in ``tail.cuh``, float32 [n].

        log2(e) is folded into the score scale and 1 / T, as the kernel's softmax takes powers of two.
        """
        parts: list[NDArray[Any]] = [
            np.array([self.score_scale * math.log2(math.e), math.log2(math.e) / self.temperature])
        ]
        if self.projection is not None:
            parts += [
                self.projection.weight,
                self.projection.bias,
                self.projection.scale,
                self.projection.shift,
            ]
        parts += [self.head_weight, self.head_bias]
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def shape(self, faces: int) -> tuple[int, int, int, int, int]:
        """The fields of ``TailShape``: faces, channels, positions, projection, classes."""
        return faces, self.map_shape[0], self.positions, self.units, self.classes

    def launch(self, faces: int, dtype: str, layout: Layout) -> Launch:
        """How the kernel is called for a batch.

        Args:
            faces: N, at least 1.
            dtype: ``float32`` or ``float16``, of the map.
            layout: ``nchw`` or ``nhwc``, of the map.

        Raises:
            InputError: There is no such kernel.
        """
        if not 1 <= faces <= MOST_FACES:
            raise InputError(f"the tail kernel was given {faces} faces: give it at least one")
        if dtype not in DTYPES or layout not in LAYOUTS:
            raise InputError(
                f"the tail kernel has no form for a {dtype} map in {layout}: give it "
                f"{' or '.join(DTYPES)} in {' or '.join(LAYOUTS)}"
            )
        name = f"tail_{DTYPES[dtype]}_{layout}_{self.attention}"
        element = "__half" if dtype == "float16" else "float"
        defines = (
            f"TAIL_NAME={name}",
            f"TAIL_ELEMENT={element}",
            f"TAIL_LAYOUT=Layout::{layout}",
            f"TAIL_ATTENTION=Attention::{self.attention}",
            *(() if dtype == "float16" else ("TAIL_WITHOUT_HALF=1",)),
        )
        return Launch(name, defines, faces, THREADS, self._shared_bytes())

    def _shared_bytes(self) -> int:
        """The same sum as ``TailRoom`` in ``tail.cuh``."""
        channels, stride = self.map_shape[0], self.positions | 1
        floats = min(STAGED // stride, channels) * stride + self.positions
        floats += max(channels, self.width) + self.width + self.classes
        if self.attention == "spatial":
            floats += self.positions**2
        if self.attention == "batch":
            floats += 2 * self.width
        return floats * FLOAT


def check_pointers(
    dtype: str, *, map: int, parameters: int, logits: int, probabilities: int
) -> None:
    """Makes sure that device addresses can be given to the kernel.

    Raises:
        InputError: One is null, or not aligned to the values it holds.
    """
    element = np.dtype(dtype).itemsize
    sizes = {
        "map": (map, element),
        "parameters": (parameters, FLOAT),
        "logits": (logits, FLOAT),
        "probabilities": (probabilities, FLOAT),
    }
    for name, (address, size) in sizes.items():
        if address == 0:
            raise InputError(f"the {name} of the tail kernel is a null pointer: allocate it first")
        if address % size:
            raise InputError(
                f"the {name} of the tail kernel begins at {address:#x}, not at a multiple of {size} bytes: "
                "give an array that starts where its allocation does"
            )


def twin(tail: Tail, map: NDArray[Any]) -> tuple[Double, Double]:
    """What the kernel computes, in float64.

    Args:
        tail: The parameters.
        map: [N, C, H, W], float32 or float16.

    Returns:
        Logits [N, K] and probabilities [N, K].

    Raises:
        InputError: The map has another shape.
    """
    if map.ndim != 4 or map.shape[1:] != tail.map_shape:
        raise InputError(
            f"the tail takes maps [N, {', '.join(str(size) for size in tail.map_shape)}], not {map.shape}"
        )
    logits = features(tail, map) @ tail.head_weight.T.astype(np.float64) + tail.head_bias
    return logits, _softmax(logits / tail.temperature)


def features(tail: Tail, map: NDArray[Any]) -> Double:
    """What the head sees, [N, width], in float64."""
    tokens = map.astype(np.float64).reshape(len(map), tail.map_shape[0], -1).transpose(0, 2, 1)
    if tail.attention == "spatial":
        tokens = _softmax(tail.score_scale * tokens @ tokens.transpose(0, 2, 1)) @ tokens
    y = tokens.mean(axis=1)
    if tail.projection is not None:
        y = y @ tail.projection.weight.T.astype(np.float64) + tail.projection.bias
        y = np.maximum(y, 0) * tail.projection.scale + tail.projection.shift
    if tail.attention == "channel":
        weights = _softmax(tail.score_scale * y[:, :, None] * y[:, None, :])
        y = (weights * y[:, None, :]).sum(axis=2)
    if tail.attention == "batch":
        y = _softmax(tail.score_scale * y @ y.T) @ y
    return cast(Double, y)


def _softmax(scores: Double) -> Double:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return cast(Double, powers / powers.sum(axis=-1, keepdims=True))


def _native(found: str) -> InputError:
    return InputError(f"this model has {found}: build it with the native tail, --tail native")
