"""Streams and events of the fake driver: lazy queues, so that a missing synchronisation shows.

Work runs only when somebody waits for it: the host for a stream, an event or the context, or a stream that runs for
an event of another. Between streams there is no order but what events, and the legacy default stream, impose.
A query runs one piece of work, so that a loop over it comes to an end.
"""

from __future__ import annotations

import threading
from typing import Any

from cuda.bindings import driver

from tests.gpu.fake_calls import STICKY, CUresult, Refused, driver_call
from tests.gpu.fake_context import Context, Contexts, Device, number
from tests.gpu.fake_queue import Capture, Event, Run, Stream, Work

LEGACY, PER_THREAD = 1, 2
_NON_BLOCKING = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
_NO_TIMING = int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
_MODE = driver.CUstreamCaptureMode


class Streams(Contexts):
    """Streams and events.

    Attributes:
        eager: Work runs as it is enqueued, not as late as possible.
    """

    def __init__(self, device: Device, *, eager: bool, null: bool) -> None:
        super().__init__(device, null=null)
        self.eager = eager
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.captures: list[Capture] = []
        self._default: dict[tuple[int, int], Stream] = {}  # (context, 1 or -thread)

    def stream(self, handle: Any) -> Stream:
        """The stream of a handle in the current context."""
        value, context = number(handle), self.current()
        if value in (0, LEGACY, PER_THREAD):
            kind = -threading.get_ident() if value == PER_THREAD else LEGACY
            key = (context.handle, kind)
            if key not in self._default:
                self._default[key] = Stream(max(value, LEGACY), context, blocking=True)
            return self._default[key]
        stream = self.streams.get(value)
        if stream is None or stream.context is not context:
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return stream

    def enqueue(self, stream: Stream, run: Run) -> Work | None:
        """Puts work on a stream, or into the graph that it records; the work, if it is to run."""
        if stream.capture is not None:
            if not stream.capture.valid:
                raise Refused(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
            stream.capture.work.append(run)
            return None
        self.not_under_capture(stream)
        if self.null:
            return None
        for other in self._all() if stream.blocking else ():
            if LEGACY in (stream.handle, other.handle) and self._ordered(stream, other):
                self._append(stream, self._waiting(other.queue[-1]))
        work = self._append(stream, run)
        if self.eager:
            self.finish(work)
        return work

    def finish(self, work: Work) -> None:
        """Runs a stream until this piece of its work is done."""
        while not work.done:
            self._step(work.stream)

    def drain(self, stream: Stream) -> None:
        """Runs everything on a stream."""
        while stream.queue:
            self._step(stream)

    def unsafe(self) -> None:
        """What must not happen in a thread that captures; spoils the capture."""
        for capture in self.captures:
            mine = capture.thread == threading.get_ident()
            if capture.mode == _MODE.CU_STREAM_CAPTURE_MODE_GLOBAL or (
                mine and capture.mode == _MODE.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            ):
                self.spoil(capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)

    def spoil(self, capture: Capture, code: Any) -> None:
        """Invalidates a capture, and refuses the call with a code."""
        capture.valid = False
        raise Refused(code)

    def not_under_capture(self, stream: Stream) -> None:
        """The legacy stream cannot be used while a stream captures that waits for it."""
        if stream.handle == LEGACY and self.captures:
            for other in self.streams.values():
                if other.blocking and other.capture and other.context is stream.context:
                    self.spoil(other.capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)

    def die(self, code: Any) -> None:
        """See Calls: what was enqueued is lost."""
        super().die(code)
        for stream in self._all():
            for work in stream.queue:
                work.done = True
            stream.queue.clear()

    def destroyed(self, context: Context) -> None:
        """See Contexts."""
        super().destroyed(context)
        for stream in self._all():
            if stream.context is context:
                self.drain(stream)

    def _all(self) -> list[Stream]:
        return [*self.streams.values(), *self._default.values()]

    def _ordered(self, stream: Stream, other: Stream) -> bool:
        same = other is not stream and other.context is stream.context
        return same and other.blocking and bool(other.queue)

    def _append(self, stream: Stream, run: Run) -> Work:
        work = Work(stream, run)
        stream.queue.append(work)
        return work

    def _waiting(self, work: Work) -> Run:
        return lambda: self.finish(work)

    def _step(self, stream: Stream) -> None:
        work = stream.queue.popleft()
        try:
            work.run()
        except Refused as refused:
            if refused.code in STICKY and self.dead is None:
                self.die(refused.code)
            raise
        finally:
            work.done = True

    def _event(self, handle: Any) -> Event:
        event = self.events.get(number(handle))
        if event is None:
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return event

    def _not_captured(self, event: Event) -> None:
        if event.captured is not None:
            raise Refused(CUresult.CUDA_ERROR_CAPTURED_EVENT)

    def _synchronizable(self, handle: Any) -> Stream:
        stream = self.stream(handle)
        if stream.capture is not None:
            self.spoil(stream.capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        self.not_under_capture(stream)
        self.unsafe()
        return stream

    @driver_call(1)
    def cuStreamCreate(self, Flags: int) -> Any:  # noqa: N802
        if int(Flags) not in (0, _NON_BLOCKING):
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        stream = Stream(self.handle(), self.current(), int(Flags) != _NON_BLOCKING)
        self.streams[stream.handle] = stream
        return driver.CUstream(stream.handle)

    @driver_call(after=True)
    def cuStreamDestroy(self, hStream: Any) -> None:  # noqa: N802
        stream = self.streams.get(number(hStream))
        if stream is None:
            self.violation("a stream was destroyed that does not exist")
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        if stream.capture is not None:
            self.captures.remove(stream.capture)
        try:
            self.drain(stream)  # the real one lets it come to its end
        finally:
            del self.streams[stream.handle]

    @driver_call(after=True, work=True)
    def cuStreamSynchronize(self, hStream: Any) -> None:  # noqa: N802
        stream = self._synchronizable(hStream)
        if stream.handle == LEGACY:  # waits for the streams that it is ordered with
            for other in self._all():
                if self._ordered(stream, other):
                    self.drain(other)
        self.drain(stream)

    @driver_call(work=True)
    def cuStreamQuery(self, hStream: Any) -> None:  # noqa: N802
        stream = self._synchronizable(hStream)
        if stream.queue:
            self._step(stream)
        if stream.queue:
            raise Refused(CUresult.CUDA_ERROR_NOT_READY)

    @driver_call(after=True, work=True)
    def cuCtxSynchronize(self) -> None:  # noqa: N802
        self.unsafe()
        for stream in self._all():
            if stream.context is self.current():
                self.drain(stream)

    @driver_call(1)
    def cuEventCreate(self, Flags: int) -> Any:  # noqa: N802
        handle = self.handle()
        self.events[handle] = Event(self.current(), not int(Flags) & _NO_TIMING)
        return driver.CUevent(handle)

    @driver_call(after=True)
    def cuEventDestroy(self, hEvent: Any) -> None:  # noqa: N802
        if self.events.pop(number(hEvent), None) is None:
            self.violation("an event was destroyed that does not exist")
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)

    @driver_call()
    def cuEventRecord(self, hEvent: Any, hStream: Any) -> None:  # noqa: N802
        event, stream = self._event(hEvent), self.stream(hStream)
        if event.context is not stream.context:
            raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        if stream.capture is not None and not stream.capture.valid:
            raise Refused(CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        event.captured, event.recorded = stream.capture, True
        event.work = None if stream.capture is not None else self.enqueue(stream, event.stamp)
        if self.null:  # it has happened
            event.stamp()

    @driver_call(work=True)
    def cuStreamWaitEvent(self, hStream: Any, hEvent: Any, Flags: int) -> None:  # noqa: N802
        event, stream = self._event(hEvent), self.stream(hStream)
        if event.captured is not None:
            if stream.capture is event.captured:
                return
            if event.captured in self.captures and stream.capture is None:
                raise NotImplementedError("a capture over several streams")
            raise Refused(CUresult.CUDA_ERROR_CAPTURED_EVENT)
        if stream.capture is not None and event.recorded:
            self.spoil(stream.capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
        if event.work is not None and not event.work.done and event.work.stream is not stream:
            self.enqueue(stream, self._waiting(event.work))

    @driver_call(after=True)
    def cuEventSynchronize(self, hEvent: Any) -> None:  # noqa: N802
        event = self._event(hEvent)
        self._not_captured(event)
        self.unsafe()
        if event.work is not None:
            self.finish(event.work)

    @driver_call()
    def cuEventQuery(self, hEvent: Any) -> None:  # noqa: N802
        event = self._event(hEvent)
        self._not_captured(event)
        self.unsafe()
        if event.work is not None and not event.work.done:
            self._step(event.work.stream)
            if not event.work.done:
                raise Refused(CUresult.CUDA_ERROR_NOT_READY)

    @driver_call(1)
    def cuEventElapsedTime(self, hStart: Any, hEnd: Any) -> float:  # noqa: N802
        start, end = self._event(hStart), self._event(hEnd)
        for event in (start, end):
            self._not_captured(event)
            if not event.timing or not event.recorded:
                raise Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
            if event.work is not None and not event.work.done:
                raise Refused(CUresult.CUDA_ERROR_NOT_READY)
        return (end.when_ns - start.when_ns) / 1e6
