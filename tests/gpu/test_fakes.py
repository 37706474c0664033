"""The fake driver is as strict as a real one, and stricter where a real one would only be lucky."""

from __future__ import annotations

import ctypes
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver

from tests.gpu.buffers import (
    LEGACY,
    NON_BLOCKING,
    SIZE,
    THREAD_LOCAL,
    Buffers,
    captured,
    in_a_thread,
)
from tests.gpu.fake_cuda import FakeCuda, ok, with_context

CUresult = driver.CUresult
FUNCTIONS = sorted(name for name in dir(FakeCuda) if re.match(r"cu[A-Z]", name))


@pytest.fixture
def cuda() -> FakeCuda:
    return with_context()


@pytest.fixture
def buffers(cuda: FakeCuda) -> Buffers:
    return Buffers(cuda)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_arguments_and_answers_of_the_real_one(name: str) -> None:
    text = getattr(driver, name).__doc__
    head = re.match(r"\w+\((.*)\)", text.split("\n")[0])
    assert head
    wanted = [
        re.sub(r":.*", "", part).split()[-1].strip("*") for part in head[1].split(",") if part
    ]
    found = list(inspect.signature(getattr(FakeCuda, name)).parameters)[1:]
    assert found == wanted
    returns = re.search(r"\n( *)Returns\n *-------\n(.*?)(?:\n *\n|$)", text, re.DOTALL)
    assert returns
    answers = re.findall(rf"^{returns[1]}(\w+)", returns[2], re.MULTILINE)
    cuda = FakeCuda()
    cuda.fail(code=CUresult.CUDA_ERROR_UNKNOWN)
    answer = getattr(cuda, name)(*[0] * len(found))
    assert answer == (CUresult.CUDA_ERROR_UNKNOWN, *[None] * (len(answers) - 1))


def test_enums_and_handles_are_the_real_ones_and_nothing_else_is_there(cuda: FakeCuda) -> None:
    assert cuda.CUresult is driver.CUresult
    assert isinstance(ok(cuda.cuMemAlloc(1)), cuda.CUdeviceptr)
    for name in ("cuMemAllocManaged", "CUnonsense", "nonsense"):
        assert not hasattr(cuda, name)


def test_a_thread_without_a_context_is_refused(buffers: Buffers) -> None:
    cuda, wrong = buffers.cuda, CUresult.CUDA_ERROR_INVALID_CONTEXT
    assert in_a_thread(lambda: cuda.cuMemAlloc(1)) == (wrong, None)
    assert in_a_thread(lambda: cuda.cuStreamSynchronize(buffers.stream)) == (wrong,)
    assert in_a_thread(cuda.cuCtxPopCurrent) == (wrong, None)
    assert FakeCuda().cuDeviceGetCount() == (CUresult.CUDA_ERROR_NOT_INITIALIZED, None)


def test_contexts_are_a_stack_of_each_thread(buffers: Buffers) -> None:
    cuda = buffers.cuda
    before = cuda.stack()
    foreign = cuda.foreign_context()
    ok(cuda.cuCtxPushCurrent(foreign))
    assert cuda.stack() == [*before, foreign]
    assert in_a_thread(cuda.stack) == []
    # what belongs to the primary context cannot be used in another
    assert buffers.copy_in() == CUresult.CUDA_ERROR_INVALID_HANDLE
    assert int(ok(cuda.cuCtxPopCurrent())) == foreign
    assert cuda.stack() == before
    assert buffers.copy_in() == CUresult.CUDA_SUCCESS


def test_the_last_release_of_the_primary_context_takes_all_with_it(buffers: Buffers) -> None:
    cuda = buffers.cuda
    ok(cuda.cuDevicePrimaryCtxRelease(0))
    assert cuda.cuMemAlloc(1)[0] == CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED
    assert cuda.leaks() == {"streams": 1, "reclaimed": 3}
    assert cuda.cuDevicePrimaryCtxRelease(0)[0] == CUresult.CUDA_ERROR_INVALID_CONTEXT
    assert len(cuda.violations) == 1


def test_nothing_runs_before_somebody_waits(buffers: Buffers) -> None:
    cuda = buffers.cuda
    assert buffers.copy_in() == buffers.copy_out() == CUresult.CUDA_SUCCESS
    assert (buffers.target == 0).all()
    ok(cuda.cuStreamSynchronize(buffers.stream))
    assert (buffers.target == 5).all()
    cuda.check()


def test_eager_work_runs_at_once() -> None:
    buffers = Buffers(with_context(eager=True))
    buffers.copy_in()
    buffers.copy_out()
    assert (buffers.target == 5).all()


def test_null_work_never_runs_but_needs_its_context() -> None:
    cuda = with_context(null=True)
    buffers = Buffers(cuda)
    assert buffers.copy_in() == buffers.copy_out() == CUresult.CUDA_SUCCESS
    ok(cuda.cuStreamSynchronize(buffers.stream))
    assert (buffers.target == 0).all()
    refused = (CUresult.CUDA_ERROR_INVALID_CONTEXT,)
    assert in_a_thread(lambda: cuda.cuStreamSynchronize(buffers.stream)) == refused
    cuda.fail(name="cuStreamSynchronize")
    assert cuda.cuStreamSynchronize(buffers.stream) == (CUresult.CUDA_ERROR_UNKNOWN,)


def test_streams_are_ordered_by_events_alone(buffers: Buffers) -> None:
    cuda, other = buffers.cuda, ok(buffers.cuda.cuStreamCreate(NON_BLOCKING))
    buffers.copy_in()
    buffers.copy_out(other)
    ok(cuda.cuStreamSynchronize(other))
    assert (buffers.target == 0xFF).all()  # the poison of fresh device memory
    event = ok(cuda.cuEventCreate(0))
    ok(cuda.cuEventRecord(event, buffers.stream))
    ok(cuda.cuStreamWaitEvent(other, event, 0))
    ok(cuda.cuEventDestroy(event))  # the wait stays
    buffers.copy_out(other)
    ok(cuda.cuStreamSynchronize(other))
    assert (buffers.target == 5).all()


@pytest.mark.parametrize("flags", [0, NON_BLOCKING])
def test_the_legacy_stream_waits_for_blocking_streams(cuda: FakeCuda, flags: Any) -> None:
    buffers = Buffers(cuda)
    buffers.stream = ok(cuda.cuStreamCreate(flags))
    buffers.copy_in()
    buffers.copy_out(LEGACY)
    ok(cuda.cuStreamSynchronize(LEGACY))
    assert (buffers.target == (0xFF if flags else 5)).all()


def test_blocking_streams_wait_for_the_legacy_stream(buffers: Buffers) -> None:
    cuda, blocking = buffers.cuda, ok(buffers.cuda.cuStreamCreate(0))
    buffers.stream = LEGACY
    buffers.copy_in()
    buffers.copy_out(blocking)
    ok(cuda.cuStreamSynchronize(blocking))
    assert (buffers.target == 5).all()


def test_a_loop_over_a_query_ends(buffers: Buffers) -> None:
    cuda, event = buffers.cuda, ok(buffers.cuda.cuEventCreate(0))
    buffers.copy_in()
    buffers.copy_out()
    ok(cuda.cuEventRecord(event, buffers.stream))
    asked = 1
    while cuda.cuEventQuery(event)[0] == CUresult.CUDA_ERROR_NOT_READY:
        asked += 1
    assert asked == 3
    assert (buffers.target == 5).all()


def test_events_take_the_time(buffers: Buffers) -> None:
    cuda = buffers.cuda
    first, last = ok(cuda.cuEventCreate(0)), ok(cuda.cuEventCreate(0))
    assert cuda.cuEventElapsedTime(first, last)[0] == CUresult.CUDA_ERROR_INVALID_HANDLE
    ok(cuda.cuEventRecord(first, buffers.stream))
    buffers.copy_in()
    ok(cuda.cuEventRecord(last, buffers.stream))
    assert cuda.cuEventElapsedTime(first, last)[0] == CUresult.CUDA_ERROR_NOT_READY
    ok(cuda.cuEventSynchronize(last))
    assert ok(cuda.cuEventElapsedTime(first, last)) > 0


def _free_twice(buffers: Buffers) -> None:
    ok(buffers.cuda.cuMemFree(buffers.device))
    buffers.cuda.cuMemFree(buffers.device)


def _use_after_free(buffers: Buffers) -> None:
    ok(buffers.cuda.cuMemFree(buffers.device))
    buffers.copy_in()


def _free_under_work(buffers: Buffers) -> None:
    buffers.copy_in()
    ok(buffers.cuda.cuMemFree(buffers.device))
    buffers.cuda.cuStreamSynchronize(buffers.stream)


def _free_pinned_under_work(buffers: Buffers) -> None:
    buffers.copy_in()
    ok(buffers.cuda.cuMemFreeHost(buffers.source.ctypes.data))
    buffers.cuda.cuStreamDestroy(buffers.stream)


def _use_pinned_after_free(buffers: Buffers) -> None:
    ok(buffers.cuda.cuMemFreeHost(buffers.source.ctypes.data))
    assert buffers.copy_in() == CUresult.CUDA_ERROR_INVALID_VALUE


def _copy_too_much(buffers: Buffers) -> None:
    data = np.zeros(SIZE + 1, np.uint8)
    buffers.cuda.cuMemcpyHtoD(buffers.device, data, data.nbytes)


def _write_beside(buffers: Buffers) -> None:
    ctypes.memset(int(buffers.device) + SIZE, 0, 1)


def _write_after_free(buffers: Buffers) -> None:
    ok(buffers.cuda.cuMemFreeHost(buffers.target.ctypes.data))
    buffers.target[0] = 0


def _device_for_host(buffers: Buffers) -> None:
    buffers.cuda.cuMemcpyHtoDAsync(buffers.device, int(buffers.device), SIZE, buffers.stream)


def _destroy_twice(buffers: Buffers) -> None:
    ok(buffers.cuda.cuStreamDestroy(buffers.stream))
    buffers.cuda.cuStreamDestroy(buffers.stream)


def _pageable_capture(buffers: Buffers) -> None:
    cuda, data = buffers.cuda, np.zeros(SIZE, np.uint8)
    ok(cuda.cuStreamBeginCapture(buffers.stream, THREAD_LOCAL))
    answer = cuda.cuMemcpyHtoDAsync(buffers.device, data.ctypes.data, SIZE, buffers.stream)
    assert answer == (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)


def _stale_graph(buffers: Buffers) -> None:
    cuda, executable = buffers.cuda, captured(buffers)
    ok(cuda.cuMemFree(buffers.device))
    ok(cuda.cuGraphLaunch(executable, buffers.stream))
    answer = cuda.cuStreamSynchronize(buffers.stream)
    assert answer == (CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,)


MISTAKES = (
    _free_twice,
    _use_after_free,
    _free_under_work,
    _free_pinned_under_work,
    _use_pinned_after_free,
    _copy_too_much,
    _write_beside,
    _write_after_free,
    _device_for_host,
    _destroy_twice,
    _pageable_capture,
    _stale_graph,
)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_violation(buffers: Buffers, mistake: Callable[[Buffers], None]) -> None:
    buffers.cuda.check()
    mistake(buffers)
    with pytest.raises(AssertionError):
        buffers.cuda.check()


def program(cuda: FakeCuda) -> Any:
    """Some calls that give everything back; the first code that is no success."""
    codes: list[Any] = []

    def call(name: str, *arguments: Any) -> Any:
        code, *answer = getattr(cuda, name)(*arguments)
        codes.append(code)
        return answer[0] if answer else code

    taken = [
        ("cuMemFree", call("cuMemAlloc", SIZE)),
        ("cuMemFreeHost", call("cuMemHostAlloc", SIZE, 0)),
        ("cuStreamDestroy", call("cuStreamCreate", 0)),
        ("cuEventDestroy", call("cuEventCreate", 0)),
        ("cuModuleUnload", call("cuModuleLoadData", b"x")),
    ]
    call("cuCtxSynchronize")
    for free, handle in taken:
        if handle is not None:
            call(free, handle)
    return next((code for code in codes if code != CUresult.CUDA_SUCCESS), None)


def test_any_call_can_be_made_to_fail(cuda: FakeCuda) -> None:
    before, taken = cuda.total, cuda.leaks()
    assert program(cuda) is None
    calls, code = cuda.total - before, CUresult.CUDA_ERROR_OUT_OF_MEMORY
    for nth in range(1, calls + 1):
        cuda.fail(nth, code=code)
        assert program(cuda) == code
        # a call that frees does so and then says that something before it went wrong
        assert cuda.leaks() == taken
    cuda.fail(calls + 1, code=code)
    assert program(cuda) is None
    cuda.forget_faults()
    cuda.fail(2, name="cuMemAlloc")
    assert program(cuda) is None
    assert program(cuda) == CUresult.CUDA_ERROR_UNKNOWN
    cuda.check()


def test_an_error_that_kills_the_context_stays(buffers: Buffers) -> None:
    cuda, code = buffers.cuda, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    buffers.copy_in()
    buffers.copy_out()
    cuda.fail(name="cuStreamSynchronize", code=code)
    assert cuda.cuStreamSynchronize(buffers.stream) == (code,)
    assert (buffers.target == 0).all()  # what was enqueued is lost
    assert buffers.copy_in() == code
    assert cuda.cuMemAlloc(1) == (code, None)
    frees = [
        cuda.cuMemFree(buffers.device),
        cuda.cuMemFreeHost(buffers.source.ctypes.data),
        cuda.cuMemFreeHost(buffers.target.ctypes.data),
        cuda.cuStreamDestroy(buffers.stream),
        cuda.cuDevicePrimaryCtxRelease(0),
    ]
    assert frees == [(code,)] * 5
    assert cuda.leaks() == {}  # to have tried is enough
    ok(cuda.cuCtxPopCurrent())
    cuda.check()


def test_memory_is_counted_and_described(cuda: FakeCuda) -> None:
    free, total = ok(cuda.cuMemGetInfo())
    address = ok(cuda.cuMemAlloc(1 << 20))
    assert ok(cuda.cuMemGetInfo()) == (free - (1 << 20), total)
    assert cuda.cuMemAlloc(total)[0] == CUresult.CUDA_ERROR_OUT_OF_MEMORY
    assert cuda.cuMemAlloc(0)[0] == CUresult.CUDA_ERROR_INVALID_VALUE
    attributes, inside = driver.CUpointer_attribute, int(address) + 5
    kind = cuda.cuPointerGetAttribute(attributes.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside)
    assert ok(kind) == driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    context = cuda.cuPointerGetAttribute(attributes.CU_POINTER_ATTRIBUTE_CONTEXT, inside)
    assert int(ok(context)) == cuda.stack()[-1]
    host = np.zeros(1, np.uint8).ctypes.data
    answer = cuda.cuPointerGetAttribute(attributes.CU_POINTER_ATTRIBUTE_CONTEXT, host)
    assert answer == (CUresult.CUDA_ERROR_INVALID_VALUE, None)


def test_the_time_inside_is_kept_apart(cuda: FakeCuda) -> None:
    cuda.cuMemGetInfo()
    assert cuda.spent_ns == 0
    cuda.timed = True
    cuda.cuMemGetInfo()
    assert cuda.spent_ns > 0
    assert cuda.calls["cuMemGetInfo"] == list(cuda.log).count("cuMemGetInfo") == 2
    assert cuda.unseen_ns() > 0
    assert cuda.timed
