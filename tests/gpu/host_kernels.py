"""The kernels of the package, compiled for the host and run on the memory of the fake GPU."""

from __future__ import annotations

import ctypes
import functools
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcut_trt.frames import FORMATS
from convcut_trt.kernels.tail import ATTENTIONS, DTYPES, LAYOUTS, THREADS
from tests.kernels.host import HERE, compile_host

Dim = tuple[int, int, int]
OnGpu = Callable[[int, int, str], Any]  # (address, bytes, what): checks a range of GPU memory

_one_at_a_time = threading.Lock()  # the shim under the kernels has global state


class TailShape(ctypes.Structure):
    """``TailShape`` of ``tail.cuh``."""

    _fields_ = tuple(
        (name, ctypes.c_int) for name in ("faces", "channels", "positions", "projection", "classes")
    )


@dataclass(frozen=True)
class Call:
    """One launch: its grid, block, dynamic shared memory, and the kernel's arguments as ctypes values."""

    grid: Dim
    block: Dim
    shared: int
    arguments: Sequence[Any]


class BadLaunch(Exception):
    """A launch that is not what the kernel was written for."""


class Empty:
    """A kernel that does nothing."""

    types: tuple[Any, ...] = ()

    def prepare(self) -> None:
        """Nothing to compile."""

    def check(self, call: Call) -> None:
        """Any launch will do."""

    def run(self, call: Call, on_gpu: OnGpu) -> None:
        """Nothing happens."""


class HostTail:
    """``tail_{f32,f16}_{nchw,nhwc}_{none,channel,spatial,batch}`` of ``tail.cu``."""

    types = (*(ctypes.c_void_p,) * 4, TailShape)

    def __init__(self, dtype: str, layout: str, attention: str) -> None:
        self._half = dtype == "f16"
        self._nhwc = layout == "nhwc"
        self._attention = ATTENTIONS.index(attention)

    def prepare(self) -> None:
        """Compiles it; skips the test where there is no compiler."""
        _library("host_tail")

    def check(self, call: Call) -> None:
        """Raises BadLaunch."""
        shape = call.arguments[4]
        reckon = _library("host_tail").host_shared_bytes
        reckon.restype = ctypes.c_size_t
        shared = reckon(ctypes.c_int(self._attention), shape)
        expected = ((shape.faces, 1, 1), (THREADS, 1, 1), shared)
        if (call.grid, call.block, call.shared) != expected:
            raise BadLaunch(f"{(call.grid, call.block, call.shared)} where it takes {expected}")

    def run(self, call: Call, on_gpu: OnGpu) -> None:
        """Computes it in place."""
        *pointers, shape = call.arguments
        map_at, parameters_at, logits_at, probabilities_at = (at.value or 0 for at in pointers)
        element = 2 if self._half else 4
        units, faces, answers = shape.projection, shape.faces, 4 * shape.faces * shape.classes
        parameters = (
            2 + units * (shape.channels + 3) + shape.classes * ((units or shape.channels) + 1)
        )
        for name, address, size, alignment in (
            ("map", map_at, faces * shape.channels * shape.positions * element, element),
            ("parameters", parameters_at, 4 * parameters, 4),
            ("logits", logits_at, answers, 4),
            ("probabilities", probabilities_at, answers, 4),
        ):
            on_gpu(address, size, f"tail kernel, {name}")
            if address % alignment:
                raise BadLaunch(f"{name} at {address:#x}")
        function = _library("host_tail").host_tail
        function.restype = ctypes.c_char_p
        with _one_at_a_time:
            error = function(
                ctypes.c_bool(self._half),
                ctypes.c_bool(self._nhwc),
                ctypes.c_int(self._attention),
                *pointers,
                shape,
                ctypes.c_size_t(call.shared),
                ctypes.c_bool(False),
            )
        if error is not None:
            raise BadLaunch(error.decode())


class HostPreprocess:
    """``preprocess_FORMAT`` of ``preprocess.cu``."""

    types = (
        *(ctypes.c_void_p,) * 2,
        ctypes.c_longlong,
        *(ctypes.c_int,) * 2,
        *(ctypes.c_void_p,) * 2,
        *(ctypes.c_int,) * 4,
    )

    def __init__(self, format: str) -> None:
        self._format = format

    def prepare(self) -> None:
        """Compiles it; skips the test where there is no compiler."""
        _library("host_preprocess")

    def check(self, call: Call) -> None:
        """Raises BadLaunch."""
        size, rows, columns, _ = (argument.value for argument in call.arguments[7:])
        tiles = (-(-size // columns), -(-size // rows))
        if call.grid[:2] != tiles or call.block[1:] != (1, 1):
            raise BadLaunch(f"{call.grid} of {call.block} where it takes {tiles} of (n, 1, 1)")

    def run(self, call: Call, on_gpu: OnGpu) -> None:
        """Computes it in place."""
        frame, chroma, pitch, width, height, crops, faces, size, rows, columns, taps = (
            argument.value or 0 for argument in call.arguments
        )
        count = call.grid[2]
        ranges = [
            ("frame", frame, (height - 1) * pitch + width * FORMATS[self._format]),
            ("crops", crops, 16 * count),
            ("faces", faces, count * size * size * 3),
        ]
        if self._format == "nv12":
            ranges.append(("chroma", chroma, (height // 2 - 1) * pitch + width))
        for name, address, length in ranges:
            on_gpu(address, length, f"preprocessing kernel, {name}")
        if crops % 16:
            raise BadLaunch(f"crops at {crops:#x}")
        numbers = [list(FORMATS).index(self._format), pitch, chroma - frame, width, height, count]
        numbers += [size, rows, columns, taps, *call.grid[:2], call.block[0], call.shared, 0]
        function = _library("host_preprocess").host_preprocess
        function.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p(address) for address in (frame, crops, faces))
        with _one_at_a_time:
            error = function((ctypes.c_longlong * 15)(*numbers), *pointers, ctypes.c_bool(False))
        if error is not None:
            raise BadLaunch(error.decode())


def find(name: str) -> Empty | HostTail | HostPreprocess | None:
    """The kernel of a name: those of the package, and ``empty``."""
    kind, *parts = name.split("_")
    if name == "empty":
        return Empty()
    allowed: tuple[Sequence[str], ...] = (tuple(DTYPES.values()), LAYOUTS, ATTENTIONS)
    if kind == "tail" and len(parts) == 3:
        known = all(part in those for part, those in zip(parts, allowed, strict=True))
        return HostTail(*parts) if known else None
    if kind == "preprocess" and len(parts) == 1 and parts[0] in FORMATS:
        return HostPreprocess(parts[0])
    return None


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def _library(source: str) -> ctypes.CDLL:
    library = Path(_folder().name) / f"{source}.so"
    flags = ("-O1", "-shared", "-fPIC", "-ffp-contract=off")
    return ctypes.CDLL(str(compile_host(HERE / f"{source}.cpp", library, *flags)))
