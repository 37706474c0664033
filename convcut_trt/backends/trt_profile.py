"""Time of each operation of a TensorRT session, by its profiler: what trtexec prints with --dumpProfile."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.trt_session import TensorRTSession
from convcut_trt.backends.trt_slot import Memory, Slot

_WARM_UP = 3


def operation_times(
    session: TensorRTSession, batch: int, runs: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float32]]:
    """Times each operation, in runs one after the other, each waited for.

    TensorRT puts events around its operations. The runs are not CUDA graphs, whose operations stand closer to each
    other, so that the sum of all operations is more than what ``trt_timed.gpu_times`` finds. A tail kernel is not
    among them. The session goes on as it was: the runs have an execution context of their own.

    Args:
        session: An open engine whose last call was for ``batch`` faces in host memory.
        batch: Faces in a run.
        runs: How many.

    Returns:
        Name of each operation -> milliseconds in each run, float64 [runs], in the order in which TensorRT tells
        them; empty where it tells none. And the probabilities of the last run, float32 [batch, K].

    Raises:
        InputError: The session is closed.
        CudaError: The GPU failed, or TensorRT refused to tell.
    """

    def timed(memory: Memory) -> tuple[list[list[tuple[str, float]]], NDArray[np.float32]]:
        loaded, cuda, stream = session._loaded, session._cuda, memory.stream.handle
        slot = Slot(loaded, memory, batch)
        try:
            # The answers of the call before must not stand for those of the runs: 0xFF is NaN.
            size = memory.staged_answers.nbytes
            answer = cuda.api.cuMemsetD8Async(memory.answers, 0xFF, size, stream)
            cuda.check(answer, "cuMemsetD8Async")
            for _ in range(_WARM_UP):
                slot._put(through_host=False)
            run: list[tuple[str, float]] = []
            _watch(slot._context, _profiler(loaded._trt, run))
            found = []
            for _ in range(runs):
                slot._put(through_host=False)
                cuda.synchronize(stream)
                if not _report(slot._context):
                    raise loaded.refusal("tell the times of its operations")
                found.append(run.copy())
                run.clear()
            slot.fetch()
            cuda.synchronize(stream)
            return found, slot.answers["probabilities"][:batch].copy()
        finally:
            cuda.api.cuStreamSynchronize(stream)  # what failed may still be running
            slot.close()

    told, probabilities = session._alone(timed)
    names = dict.fromkeys(name for run in told for name, _ in run)
    times = {name: np.zeros(runs) for name in names}
    for place, run in enumerate(told):
        for name, milliseconds in run:
            times[name][place] += milliseconds
    return times, probabilities


# A frame that an error keeps alive must not hold the execution context, which goes with the slot.
def _watch(context: Any, profiler: Any) -> None:
    # As trtexec does: told after the run, so that nothing is waited for inside it.
    context.enqueue_emits_profile = False
    context.profiler = profiler


def _report(context: Any) -> bool:
    return bool(context.report_to_profiler())


def _profiler(trt: ModuleType, told: list[tuple[str, float]]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        """Keeps what it is told. May not raise: native code calls it."""

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            told.append((layer_name, ms))

    return Profiler()
