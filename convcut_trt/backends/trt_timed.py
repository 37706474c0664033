"""GPU time of a TensorRT session: what trtexec measures with --noDataTransfers --useCudaGraph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.trt_session import TensorRTSession
from convcut_trt.backends.trt_slot import Memory

_WARM_UP = 3  # the first run is not captured, the second is


def gpu_times(
    session: TensorRTSession, batch: int, runs: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Times runs one behind the other, between events on the session's own stream.

    Faces stay where the session's last call brought them in GPU memory, and answers stay there too: nothing is
    copied. Every run lies between two events. The next is enqueued before the one is done, so that the GPU does not
    wait for the host, as long as a run takes longer than to enqueue it.

    Args:
        session: An open engine whose last call was for ``batch`` faces in host memory.
        batch: Faces in a run.
        runs: How many.

    Returns:
        Milliseconds, float64 [runs]; and the probabilities of the last run, float32 [batch, K].

    Raises:
        InputError: The session is closed.
        CudaError: The GPU failed.
    """

    def timed(memory: Memory) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        cuda, stream = session._cuda, memory.stream.handle
        api = cuda.api
        slot = session._slot(memory, batch)
        events: list[Any] = []
        try:
            for _ in range(runs + 1):
                events.append(cuda.check(api.cuEventCreate(0), "cuEventCreate"))
            # The answers of the call before must not stand for those of the runs: 0xFF is NaN.
            size = memory.staged_answers.nbytes
            answer = api.cuMemsetD8Async(memory.answers, 0xFF, size, stream)
            cuda.check(answer, "cuMemsetD8Async")
            for _ in range(_WARM_UP):
                session._enqueue(slot, through_host=False)
            cuda.check(api.cuEventRecord(events[0], stream), "cuEventRecord")
            for event in events[1:]:
                session._enqueue(slot, through_host=False)
                cuda.check(api.cuEventRecord(event, stream), "cuEventRecord")
            slot.fetch()
            cuda.synchronize(stream)
            passed = [
                cuda.check(api.cuEventElapsedTime(first, last), "cuEventElapsedTime")
                for first, last in zip(events, events[1:], strict=False)
            ]
        finally:
            for event in events:
                api.cuEventDestroy(event)
        return np.array(passed, np.float64), slot.answers["probabilities"][:batch].copy()

    return session._alone(timed)
