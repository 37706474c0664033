"""Stream capture and graphs of the fake driver follow the rules of the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cuda.bindings import driver

from tests.gpu.buffers import LEGACY, SIZE, THREAD_LOCAL, Buffers, captured, in_a_thread
from tests.gpu.fake_cuda import ok, with_context

CUresult = driver.CUresult
RELAXED = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED


@pytest.fixture
def buffers() -> Buffers:
    return Buffers(with_context())


def test_a_graph_replays_what_was_captured(buffers: Buffers) -> None:
    cuda, executable = buffers.cuda, captured(buffers)
    ok(cuda.cuStreamSynchronize(buffers.stream))
    assert (buffers.target == 0).all()  # recorded, not run
    for value in (7, 9):
        buffers.source[:] = value
        ok(cuda.cuGraphLaunch(executable, buffers.stream))
        ok(cuda.cuStreamSynchronize(buffers.stream))
        assert (buffers.target == value).all()
    ok(cuda.cuGraphExecDestroy(executable))
    assert cuda.cuGraphLaunch(executable, buffers.stream)[0] == CUresult.CUDA_ERROR_INVALID_HANDLE
    cuda.check()


def test_a_capture_that_fails_at_its_end_leaves_no_graph(buffers: Buffers) -> None:
    cuda, taken = buffers.cuda, buffers.cuda.leaks()
    ok(cuda.cuStreamBeginCapture(buffers.stream, THREAD_LOCAL))
    cuda.fail(name="cuStreamEndCapture")
    assert cuda.cuStreamEndCapture(buffers.stream) == (CUresult.CUDA_ERROR_UNKNOWN, None)
    assert cuda.leaks() == taken
    captured(buffers)  # the stream is itself again


UNSUPPORTED = CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
FORBIDDEN: dict[str, tuple[Callable[[Buffers], Any], Any]] = {
    "wait for the stream": (lambda b: b.cuda.cuStreamSynchronize(b.stream), UNSUPPORTED),
    "ask the stream": (lambda b: b.cuda.cuStreamQuery(b.stream), UNSUPPORTED),
    "wait for the context": (lambda b: b.cuda.cuCtxSynchronize(), UNSUPPORTED),
    "allocate": (lambda b: b.cuda.cuMemAlloc(1), UNSUPPORTED),
    "free": (lambda b: b.cuda.cuMemFree(b.device), UNSUPPORTED),
    "allocate pinned": (lambda b: b.cuda.cuMemHostAlloc(1, 0), UNSUPPORTED),
    "copy without a stream": (lambda b: b.cuda.cuMemcpyHtoD(b.device, b.source, SIZE), UNSUPPORTED),
    "load a module": (lambda b: b.cuda.cuModuleLoadData(b"x"), UNSUPPORTED),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_a_capture_forbids_spoils_it(buffers: Buffers, what: str) -> None:
    cuda, (call, code) = buffers.cuda, FORBIDDEN[what]
    ok(cuda.cuStreamBeginCapture(buffers.stream, THREAD_LOCAL))
    assert call(buffers)[0] == code
    assert buffers.copy_in() == CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    status = ok(cuda.cuStreamIsCapturing(buffers.stream))
    assert status == driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_INVALIDATED
    answer = cuda.cuStreamEndCapture(buffers.stream)
    assert answer == (CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None)
    assert buffers.copy_in() == CUresult.CUDA_SUCCESS  # the stream is itself again


def test_events_in_a_capture_are_part_of_it(buffers: Buffers) -> None:
    cuda, event = buffers.cuda, ok(buffers.cuda.cuEventCreate(0))
    ok(cuda.cuEventRecord(event, buffers.stream))
    ok(cuda.cuStreamBeginCapture(buffers.stream, RELAXED))
    answer = cuda.cuStreamWaitEvent(buffers.stream, event, 0)
    assert answer == (CUresult.CUDA_ERROR_STREAM_CAPTURE_ISOLATION,)
    cuda.cuStreamEndCapture(buffers.stream)
    ok(cuda.cuStreamBeginCapture(buffers.stream, RELAXED))
    ok(cuda.cuEventRecord(event, buffers.stream))
    ok(cuda.cuStreamWaitEvent(buffers.stream, event, 0))
    assert cuda.cuEventSynchronize(event) == (CUresult.CUDA_ERROR_CAPTURED_EVENT,)
    ok(cuda.cuStreamEndCapture(buffers.stream))


def test_a_capture_is_its_threads_alone(buffers: Buffers) -> None:
    cuda, context = buffers.cuda, buffers.cuda.stack()[-1]

    def elsewhere() -> tuple[Any, Any]:
        ok(cuda.cuCtxPushCurrent(context))
        return cuda.cuMemAlloc(1)[0], cuda.cuStreamEndCapture(buffers.stream)[0]

    ok(cuda.cuStreamBeginCapture(buffers.stream, THREAD_LOCAL))
    wrong_thread = CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD
    assert in_a_thread(elsewhere) == (CUresult.CUDA_SUCCESS, wrong_thread)
    assert cuda.cuStreamEndCapture(buffers.stream)[0] != CUresult.CUDA_SUCCESS
    ok(cuda.cuStreamBeginCapture(buffers.stream, RELAXED))
    ok(cuda.cuMemAlloc(1))
    ok(cuda.cuStreamEndCapture(buffers.stream))
    assert cuda.cuStreamEndCapture(buffers.stream)[0] == CUresult.CUDA_ERROR_ILLEGAL_STATE
    assert cuda.cuStreamBeginCapture(LEGACY, THREAD_LOCAL)[0] == UNSUPPORTED


def test_the_legacy_stream_spoils_the_capture_of_a_blocking_one(buffers: Buffers) -> None:
    cuda, blocking = buffers.cuda, ok(buffers.cuda.cuStreamCreate(0))
    ok(cuda.cuStreamBeginCapture(buffers.stream, RELAXED))
    assert buffers.copy_out(LEGACY) == CUresult.CUDA_SUCCESS
    ok(cuda.cuStreamBeginCapture(blocking, RELAXED))
    assert buffers.copy_out(LEGACY) == CUresult.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
    assert cuda.cuStreamEndCapture(blocking)[0] != CUresult.CUDA_SUCCESS
    ok(cuda.cuStreamEndCapture(buffers.stream))
