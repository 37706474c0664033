"""A session that runs for weeks: memory stays flat."""

from __future__ import annotations

import gc
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from convcut_trt.backends.trt_session import TensorRTSession
from tests.gpu.application import LEGACY, Application, application
from tests.gpu.machine import faces, machine

ROUND = 1_000
WARM_UP = 4  # rounds, until the fakes' own logs are full
GROWTH = 2 << 20  # bytes of the process that the interpreter may take meanwhile
TRACED = 4 << 10  # bytes of Python objects: a few bytes a call would be more


def resident() -> int:
    """Bytes of this process in memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def calls(session: TensorRTSession, app: Application) -> None:
    """A thousand inferences: single faces, batches in parts, on the GPU, with a clone."""
    one, many = faces(1), faces(9)
    images = app.exporter(one, LEGACY)
    for call in range(ROUND - 23):
        session.run(one if call % 20 else many[: 1 + call % 9])
    for _ in range(20):
        session.run_on_device(images)
    with session.clone() as clone:
        for _ in range(3):
            clone.run(one)
    app.forget()


def soak(folder: Path, inferences: int) -> tuple[int, int]:
    """Bytes by which the process, and Python's own objects in it, grow over many inferences."""
    with machine(folder, null=True) as gpu:
        with gpu.open(tail=True) as session, application(gpu.cuda) as app:
            for _ in range(WARM_UP):
                calls(session, app)
            alive = gpu.cuda.leaks()
            gc.collect()
            before = resident()
            for _ in range(inferences // ROUND):
                calls(session, app)
            gc.collect()
            grown = resident() - before
            tracemalloc.start()
            for _ in range(WARM_UP):
                calls(session, app)
            gc.collect()
            first, _ = tracemalloc.get_traced_memory()
            for _ in range(2):
                calls(session, app)
            gc.collect()
            second, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert gpu.cuda.leaks() == alive
        gpu.check()
    return grown, second - first


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="no /proc on this system")
@pytest.mark.parametrize("inferences", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_memory_is_flat(tmp_path: Path, inferences: int) -> None:
    # In a process of its own: what other tests have left grows and shrinks as it likes.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        grown, traced = alone.submit(soak, tmp_path, inferences).result()
    assert grown < GROWTH
    assert traced < TRACED
