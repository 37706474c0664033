"""The fake driver's stream capture and graphs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from cuda.bindings import driver

from tests.gpu.fake_calls import CUresult, Refused, driver_call
from tests.gpu.fake_context import Context, Device, number
from tests.gpu.fake_memory import Memory
from tests.gpu.fake_queue import Capture, Run
from tests.gpu.fake_stream import LEGACY

_STATUS = driver.CUstreamCaptureStatus


@dataclass(eq=False)
class Graph:
    """Recorded work: what was captured, with the addresses it was captured with."""

    context: Context
    work: tuple[Run, ...]

    def run(self) -> None:
        """Runs it once."""
        for run in self.work:
            run()


class Graphs(Memory):
    """Capture and graphs."""

    def __init__(self, device: Device, *, eager: bool, null: bool) -> None:
        super().__init__(device, eager=eager, null=null)
        self.graphs: dict[int, Graph] = {}
        self.executables: dict[int, Graph] = {}

    @driver_call()
    def cuStreamBeginCapture(self, hStream: Any, mode: Any) -> None:  # noqa: N802
        if not isinstance(mode, driver.CUstreamCaptureMode):
            raise TypeError("mode is to be a CUstreamCaptureMode")
        stream = self.stream(hStream)
        if stream.handle == LEGACY:
            raise Refused(CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        if stream.capture is not None:
            raise Refused(CUresult.CUDA_ERROR_ILLEGAL_STATE)
        stream.capture = Capture(mode, threading.get_ident())
        self.captures.append(stream.capture)

    @driver_call(1, after=True)
    def cuStreamEndCapture(self, hStream: Any) -> Any:  # noqa: N802
        stream = self.stream(hStream)
        capture = stream.capture
        if capture is None:
            raise Refused(CUresult.CUDA_ERROR_ILLEGAL_STATE)
        relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        if capture.mode != relaxed and capture.thread != threading.get_ident():
            self.spoil(capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)
        stream.capture = None
        self.captures.remove(capture)
        if not capture.valid or self.refusing:
            raise Refused(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        handle = self.handle()
        self.graphs[handle] = Graph(stream.context, tuple(capture.work))
        return driver.CUgraph(handle)

    @driver_call(1)
    def cuStreamIsCapturing(self, hStream: Any) -> Any:  # noqa: N802
        stream = self.stream(hStream)
        self.not_under_capture(stream)
        if stream.capture is None:
            return _STATUS.CU_STREAM_CAPTURE_STATUS_NONE
        if stream.capture.valid:
            return _STATUS.CU_STREAM_CAPTURE_STATUS_ACTIVE
        return _STATUS.CU_STREAM_CAPTURE_STATUS_INVALIDATED

    @driver_call(1)
    def cuGraphInstantiate(self, hGraph: Any, flags: int) -> Any:  # noqa: N802
        graph = self.graphs.get(number(hGraph))
        if graph is None or flags != 0:
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        handle = self.handle()
        self.executables[handle] = Graph(graph.context, graph.work)
        return driver.CUgraphExec(handle)

    @driver_call(after=True)
    def cuGraphDestroy(self, hGraph: Any) -> None:  # noqa: N802
        self._destroy(self.graphs, hGraph, "graph")

    @driver_call(after=True)
    def cuGraphExecDestroy(self, hGraphExec: Any) -> None:  # noqa: N802
        self._destroy(self.executables, hGraphExec, "executable graph")

    def _destroy(self, of: dict[int, Graph], handle: Any, what: str) -> None:
        if of.pop(number(handle), None) is None:
            self.violation(f"an {what} was destroyed that does not exist")
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)

    @driver_call()
    def cuGraphUpload(self, hGraphExec: Any, hStream: Any) -> None:  # noqa: N802
        self._executable(hGraphExec)
        self.stream(hStream)

    @driver_call(work=True)
    def cuGraphLaunch(self, hGraphExec: Any, hStream: Any) -> None:  # noqa: N802
        executable, stream = self._executable(hGraphExec), self.stream(hStream)
        self.enqueue(stream, executable.run)

    def _executable(self, handle: Any) -> Graph:
        executable = self.executables.get(number(handle))
        if executable is None or executable.context is not self.current():
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return executable
