"""This CPU's own roofs: a matrix product in each type, and a copy in and out of its caches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

from convcut_trt.backends.onnxruntime import NO_SPINNING
from convcut_trt.measuring.roofline import Roofs, Speed
from convcut_trt.measuring.work import PRODUCTS, Work
from convcut_trt.optional import load

onnxruntime = load("onnxruntime", "ort")

F64 = NDArray[np.float64]
SIZE = 768  # of the square matrices
COPIES_MB = (0.5, 2.0, 4.0, 8.0, 192.0)
"""Sizes of the copied arrays; the last is out of every cache."""
CACHED_MB = (2.0, 8.0)
"""Between which a copy counts as one in the last cache."""
_QUARTILE = 0.25


def quartile(samples: Sequence[float] | F64) -> float:
    """The lower quartile: other work on the machine only ever adds to a time."""
    return float(np.quantile(samples, _QUARTILE))


class Gemms:
    """Matrix products of onnxruntime: FP32, and uint8 by int8."""

    def __init__(self, threads: int) -> None:
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        random = np.random.default_rng(0)
        floats = random.normal(size=(SIZE, SIZE)).astype(np.float32)
        self._runs = {
            "fp32": _product("MatMul", floats, floats, TensorProto.FLOAT, threads),
            "int8": _product(
                "MatMulInteger",
                random.integers(0, 256, (SIZE, SIZE), np.uint8),
                random.integers(-127, 128, (SIZE, SIZE), np.int8),
                TensorProto.INT32,
                threads,
            ),
        }

    def tflops(self, count: int = 12) -> dict[str, float]:
        """Type -> 1e12 operations a second, lower quartile of the times."""
        found = {}
        for kind, run in self._runs.items():
            run()
            samples = []
            for _ in range(count):
                start = self._clock()
                run()
                samples.append(self._clock() - start)
            found[kind] = 2 * SIZE**3 / quartile(samples) / 1e12
        return found


def _product(
    kind: str, left: NDArray[Any], right: NDArray[Any], result: int, threads: int
) -> Callable[[], object]:
    shape = [SIZE, SIZE]
    left_kind = helper.np_dtype_to_tensor_dtype(left.dtype)
    graph = helper.make_graph(
        [helper.make_node(kind, ["left", "right"], ["product"])],
        kind,
        [helper.make_tensor_value_info("left", left_kind, shape)],
        [helper.make_tensor_value_info("product", result, shape)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*NO_SPINNING)  # beside what is timed next
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": left})


def copies(threads: int, count: int = 10) -> dict[float, float]:
    """Megabytes of an array -> GB/s of its copy, read and written; each thread copies its part."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    found = {}
    for size in COPIES_MB:
        words = int(size * 1e6 / 4)
        source, target = np.ones(words, np.float32), np.zeros(words, np.float32)
        repeats = max(1, int(16 / size))
        parts = np.array_split(np.arange(words), threads) if threads > 1 else []
        slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
        samples = []
        for _ in range(count):
            start = clock()
            if slices:
                _in_threads(target, source, slices, repeats)
            else:
                for _ in range(repeats):
                    np.copyto(target, source)
            samples.append((clock() - start) / repeats)
        found[size] = 2 * source.nbytes / quartile(samples) / 1e9
    return found


def _in_threads(
    target: NDArray[Any], source: NDArray[Any], slices: Sequence[slice], repeats: int
) -> None:
    def copy(part: slice) -> None:
        for _ in range(repeats):
            np.copyto(target[part], source[part])

    workers = [threading.Thread(target=copy, args=(part,)) for part in slices]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def roofs_of(gemm: Mapping[str, float], copy: Mapping[float, float], cache_mb: float) -> Roofs:
    """The roofs of a measurement; 16-bit floats are computed in FP32 here."""
    cached = [speed for size, speed in copy.items() if CACHED_MB[0] <= size <= CACHED_MB[1]]
    peaks = {**gemm, "fp16": gemm["fp32"]}
    return Roofs("this CPU", copy[COPIES_MB[-1]], peaks, cache_mb, float(np.median(cached)))


def speeds(work: Sequence[Work], floors_us: F64, times_us: F64) -> dict[str, Speed]:
    """What each kind of layer reaches, from a network with several sizes of each.

    A layer takes what a call costs and its floor over the share: least squares of the relative errors, neither
    below 0. Of a kind with one size only, a product's call costs what the cheapest other product's does, and a pass
    is all cost of the call.

    Args:
        work: The layers.
        floors_us: float64 [L], their floors.
        times_us: float64 [L], what they took.
    """
    groups: dict[str, list[int]] = {}
    for at, layer in enumerate(work):
        if times_us[at] > 0:
            groups.setdefault(_key(layer), []).append(at)
    found, single = {}, {}
    for key, members in groups.items():
        times, floors = times_us[members], floors_us[members]
        if np.ptp(floors) < 0.1 * floors.max():  # one size does not tell the two apart
            single[key] = (float(np.median(times)), float(np.median(floors)))
            continue
        (overhead, slope), _ = nnls(np.stack([1 / times, floors / times], 1), np.ones(len(times)))
        found[key] = Speed(1 / max(slope, 1e-3), float(overhead))
    least = min(
        (speed.overhead_us for key, speed in found.items() if key.split()[0] in PRODUCTS), default=0
    )
    for key, (time_us, floor) in single.items():
        if key.split()[0] in PRODUCTS and time_us > least:
            found[key] = Speed(floor / (time_us - least), least)
        else:
            found[key] = Speed(overhead_us=max(0.0, time_us - floor))
    return found


def _key(layer: Work) -> str:
    return f"{layer.kind} {layer.dtype}" if layer.kind in PRODUCTS else layer.kind
