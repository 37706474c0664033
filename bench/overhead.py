"""What a call of a TensorRT engine costs the CPU beside the calls of driver and TensorRT: python -m bench.overhead

A fake driver, which does nothing and keeps the time spent in it, takes the place of the real one.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray

from convcut_trt.engine import Engine
from convcut_trt.home import find_model
from convcut_trt.manifest import EngineManifest
from tests.gpu.fake_cuda import FakeCuda
from tests.gpu.machine import machine

SIZES = (48, 224)
CALLS = 5_000
MOST_US = 40.0
"""The budget: median CPU time of a call, batch 1, as a CUDA graph, without driver and TensorRT."""


@contextmanager
def ready(size: int) -> Iterator[tuple[Engine, NDArray[np.uint8], FakeCuda]]:
    """An engine of conv-cut-mini for pictures of a size, its CUDA graph recorded, and a face for it."""
    model = onnx.load(find_model("conv-cut-mini").onnx)
    for axis in (1, 2):  # nothing is computed, so the rest may stay as it is
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    face = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder), null=True) as gpu:
        session = gpu.open(model=model, tail=True)
        with Engine(cast(EngineManifest, None), session) as engine:  # infer needs no manifest
            for _ in range(100):
                engine.infer(face)
            yield engine, face, gpu.cuda


def overhead(size: int, calls: int = CALLS) -> NDArray[np.float64]:
    """CPU time in microseconds of each of many calls, without what the fake took."""
    samples = np.empty(calls)
    with ready(size) as (engine, face, cuda):
        # The least of several: what disturbs these would be taken off the figure.
        unseen, clock = min(cuda.unseen_ns() for _ in range(5)), _clock_ns()
        cuda.timed = True
        gc.disable()
        try:
            for place in range(calls):
                inside, made = cuda.spent_cpu_ns, cuda.total
                start = time.thread_time_ns()
                engine.infer(face)
                whole = time.thread_time_ns() - start
                inside = cuda.spent_cpu_ns - inside + int(unseen * (cuda.total - made))
                samples[place] = (whole - inside - clock) / 1e3
        finally:
            gc.enable()
            cuda.timed = False
    return samples


def wall(size: int, calls: int = CALLS) -> NDArray[np.float64]:
    """Wall time in microseconds of each of many calls, what the fake does included."""
    samples = np.empty(calls)
    with ready(size) as (engine, face, _):
        for place in range(calls):
            start = time.perf_counter_ns()
            engine.infer(face)
            samples[place] = (time.perf_counter_ns() - start) / 1e3
    return samples


def profile(size: int, calls: int = CALLS) -> pstats.Stats:
    """What of a call takes how long, what the fake does included."""
    with ready(size) as (engine, face, _):
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(calls):
            engine.infer(face)
        profiler.disable()
    return pstats.Stats(profiler)


def _clock_ns() -> float:
    """What reading the clock twice adds to the time between."""
    return float(
        np.median([-(time.thread_time_ns() - time.thread_time_ns()) for _ in range(1_000)])
    )


def main(given: Sequence[str] | None = None) -> int:
    """Prints the figures, and where the time goes; 1 where the budget is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(given)
    met = True
    for size in SIZES:
        medians = []
        for _ in range(options.repeats):
            p50, p90 = np.percentile(overhead(size), (50, 90))
            medians.append(p50)
            print(f"{size} x {size}: CPU time of infer {p50:.1f} us, 90th percentile {p90:.1f} us")
        # The least counts: what else runs on the machine only adds.
        met = met and min(medians) < MOST_US
        p50, p90 = np.percentile(wall(size), (50, 90))
        print(f"{size} x {size}: with the fake, wall {p50:.1f} us, 90th percentile {p90:.1f} us")
        profile(size).sort_stats("tottime").print_stats(20)
    print(f"the budget of {MOST_US:.0f} us is {'met' if met else 'not met'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
