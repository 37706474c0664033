"""What every object of the fake TensorRT has: its driver, its logger, calls that fail as the real ones do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from tests.gpu.fake_calls import Refused, timed
from tests.gpu.fake_context import Context
from tests.gpu.fake_cuda import FakeCuda

Method = TypeVar("Method", bound=Callable[..., Any])


class _Severity(Enum):
    """Of a message."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """Takes messages: subclasses define ``log``."""

    Severity = _Severity
    INTERNAL_ERROR = _Severity.INTERNAL_ERROR
    ERROR = _Severity.ERROR
    WARNING = _Severity.WARNING
    INFO = _Severity.INFO
    VERBOSE = _Severity.VERBOSE

    def log(self, severity: _Severity, msg: str) -> None:
        """Takes a message."""
        raise RuntimeError("pure virtual function log called")


class Logger(ILogger):
    """Prints."""

    def __init__(self, min_severity: _Severity = _Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: _Severity, msg: str) -> None:
        """Takes a message."""
        if severity.value <= self.min_severity.value:
            print(f"[TRT] [{severity.name[0]}] {msg}")


class IProfiler:
    """Is told the time of each operation: subclasses define ``report_layer_time``."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Takes the time of one."""
        raise RuntimeError("pure virtual function report_layer_time called")


class TrtObject:
    """An object of TensorRT, alive on the GPU until it is deleted. A subclass says its ``kind``."""

    kind = ""
    logger: ILogger
    cuda: FakeCuda
    _context: Context | None = None

    def born(self, cuda: FakeCuda, logger: ILogger) -> None:
        """Lives from here, in the current context."""
        self.cuda, self.logger = cuda, logger
        self._context = cuda.current()
        cuda.objects.add(self)

    def error(self, text: str) -> None:
        """Tells the logger."""
        self.logger.log(_Severity.ERROR, f"[fake] Error Code 1: {text}")

    def gone(self) -> None:
        """Gives back what it holds; its context is alive."""

    def __del__(self) -> None:
        context = self._context
        if context is None:  # never lived
            return
        with self.cuda.lock:
            # Without a context of its own a thread gets the primary one from the CUDA runtime.
            stack = self.cuda.stack()
            elsewhere = bool(stack) and stack[-1] != context.handle
            if not context.alive or elsewhere:
                where = "in another context" if elsewhere else "after its context"
                self.cuda.violation(f"a TensorRT object ({self.kind}) was deleted {where}")
            self.gone()


def trt_call(failed: Any = None, *, gpu: bool = True) -> Callable[[Method], Method]:
    """A call of TensorRT that answers ``failed``, and tells the logger, where it cannot be done.

    Args:
        failed: The answer.
        gpu: It uses the GPU, so that this thread needs a current context.
    """

    def decorate(body: Method) -> Method:
        name = body.__name__

        @functools.wraps(body)
        def call(self: TrtObject, *args: Any, **named: Any) -> Any:
            cuda = self.cuda
            code = cuda.begin(name) or cuda.dead
            if code is None and gpu and not cuda.stack():
                cuda.violation(f"{name} was called in a thread without a current context")
                code = cuda.CUresult.CUDA_ERROR_INVALID_CONTEXT
            if code is None:
                try:
                    return body(self, *args, **named)
                except Refused as refused:
                    code = refused.code
            self.error(f"Cuda Runtime (In {name}: {code.name})")
            return failed

        return timed(call)  # type: ignore[return-value]

    return decorate
