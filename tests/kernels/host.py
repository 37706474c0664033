"""Compiles kernels for the host through ``cuda_shim.h``, and runs the tail there."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convcut_trt
from convcut_trt.kernels.tail import ATTENTIONS, Layout, Projection, Tail

HERE = Path(__file__).parent
KERNELS = Path(convcut_trt.__file__).parent / "kernels"
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
)  # g++ does not know #pragma unroll

Array = NDArray[np.float32]


def compile_host(source: Path, output: Path, *flags: str, kernels: Path = KERNELS) -> Path:
    """Compiles a host program around kernels, those of the package or changed copies in another folder."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here to compile the kernels for the host")
    command = [compiler, "-std=c++17", *WARNINGS, *flags, f"-I{kernels}", f"-I{HERE}"]
    subprocess.run([*command, str(source), "-o", str(output)], check=True)
    return output


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int) for name in ("faces", "channels", "positions", "projection", "classes")
    )


class HostTail:
    """``tail.cuh`` on the host."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        self._run: Any = loaded.host_tail
        self._run.restype = ctypes.c_char_p
        self._bytes: Any = loaded.host_shared_bytes
        self._bytes.restype = ctypes.c_size_t

    def __call__(
        self, tail: Tail, map: NDArray[Any], layout: Layout = "nchw", *, backward: bool = False
    ) -> tuple[Array, Array]:
        """Logits and probabilities [N, K] of a map [N, C, H, W], given to the kernel in this layout."""
        faces = len(map)
        order = (0, 1, 2, 3) if layout == "nchw" else (0, 2, 3, 1)
        map = np.ascontiguousarray(map.transpose(order))
        parameters = tail.pack()
        # Poisoned: what the kernel leaves out stays NaN.
        logits = np.full((faces, tail.classes), np.nan, np.float32)
        probabilities = logits.copy()
        launch = tail.launch(faces, str(map.dtype), layout)
        error = self._run(
            ctypes.c_bool(map.dtype == np.float16),
            ctypes.c_bool(layout == "nhwc"),
            ctypes.c_int(ATTENTIONS.index(tail.attention)),
            *(
                ctypes.c_void_p(array.ctypes.data)
                for array in (map, parameters, logits, probabilities)
            ),
            _Shape(*tail.shape(faces)),
            ctypes.c_size_t(launch.shared_bytes),
            ctypes.c_bool(backward),
        )
        assert error is None, error
        return logits, probabilities

    def shared_bytes(self, tail: Tail) -> int:
        """Shared memory by the kernel's own reckoning."""
        attention = ctypes.c_int(ATTENTIONS.index(tail.attention))
        return int(self._bytes(attention, _Shape(*tail.shape(1))))


def random_tail(
    random: np.random.Generator,
    attention: Any,
    map_shape: tuple[int, int, int],
    units: int = 0,
    classes: int = 8,
) -> Tail:
    """A tail with random parameters of the sizes that training leaves."""
    channels = map_shape[0]

    def normal(*shape: int) -> Array:
        return random.normal(size=shape).astype(np.float32)

    projection = None
    if units:
        projection = Projection(
            normal(units, channels) / np.float32(channels**0.5),
            normal(units),
            np.float32(1) + normal(units) / np.float32(4),
            normal(units),
        )
    width = units or channels
    scale = float(np.float32((channels if attention == "spatial" else width) ** -0.5))
    head = normal(classes, width) / np.float32(width**0.5)
    return Tail(map_shape, attention, scale, projection, head, normal(classes), 0.7)


def random_map(random: np.random.Generator, tail: Tail, faces: int, dtype: str) -> NDArray[Any]:
    """A map as a ReLU leaves it, [N, C, H, W]."""
    values = np.maximum(random.normal(0.3, 1.5, (faces, *tail.map_shape)), 0)
    return values.astype(dtype)
