"""CUDA graphs: work on a stream, recorded once and launched as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcut_trt.gpu.driver import Cuda


class Graph:
    """A recorded graph. Not thread-safe; the context has to be current for every call but ``close``."""

    def __init__(self, cuda: Cuda, stream: Any, work: Callable[[], object]) -> None:
        """Records what ``work`` puts on ``stream``; none of it runs yet.

        Capture is local to this thread: what others do meanwhile neither enters the graph nor breaks it.

        Raises:
            CudaError: Something in ``work`` cannot be recorded.
        """
        api = self._api = cuda.api
        self._cuda = cuda
        self._executable: Any = None
        mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        cuda.check(api.cuStreamBeginCapture(stream, mode), "cuStreamBeginCapture")
        try:
            work()
        except BaseException:
            # Ends the capture, else the stream could do nothing else ever again.
            status, graph = api.cuStreamEndCapture(stream)
            if status == api.CUresult.CUDA_SUCCESS:
                api.cuGraphDestroy(graph)
            raise
        graph = cuda.check(api.cuStreamEndCapture(stream), "cuStreamEndCapture")
        try:
            self._executable = cuda.check(api.cuGraphInstantiate(graph, 0), "cuGraphInstantiate")
        finally:
            api.cuGraphDestroy(graph)

    def launch(self, stream: Any) -> None:
        """Puts the whole graph on a stream.

        Raises:
            CudaError: The driver refused.
        """
        self._cuda.check(self._api.cuGraphLaunch(self._executable, stream), "cuGraphLaunch")

    def close(self) -> None:
        """Frees it. A second call does nothing."""
        executable, self._executable = self._executable, None
        if executable is not None:
            self._api.cuGraphExecDestroy(executable)
