"""What every call of a fake goes through: it is counted, timed, failed on demand, refused on a lost context."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cuda.bindings import driver

CUresult = driver.CUresult
SUCCESS = CUresult.CUDA_SUCCESS
# After one of these every later call on the context gives it again.
STICKY = frozenset(
    {
        CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
        CUresult.CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUresult.CUDA_ERROR_MISALIGNED_ADDRESS,
        CUresult.CUDA_ERROR_LAUNCH_FAILED,
        CUresult.CUDA_ERROR_LAUNCH_TIMEOUT,
        CUresult.CUDA_ERROR_ASSERT,
        CUresult.CUDA_ERROR_ECC_UNCORRECTABLE,
    }
)

Method = TypeVar("Method", bound=Callable[..., Any])
DriverFunction = Callable[..., tuple[Any, ...]]


class Refused(Exception):
    """Inside the fake: the call answers with this code."""

    def __init__(self, code: Any) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class Fault:
    """The call that is to fail: the ``left``-th from here, of all or of one name."""

    left: int
    name: str | None
    code: Any


class Calls:
    """Counts and failures, shared by the fake driver and the fake TensorRT above it.

    Attributes:
        calls: How often each call was made.
        log: The names of the last calls, in order.
        violations: What a real GPU would have let pass, or crashed on, and no program should do.
        dead: The error after which every call gives it again; None while the context lives.
        timed: Whether ``spent_ns`` and ``spent_cpu_ns`` are kept.
        null: Work is neither enqueued nor run, and calls cost next to nothing; for soak tests and timing.
        spent_ns: Wall time inside the fakes; exact while one thread alone calls them.
        spent_cpu_ns: CPU time inside the fakes, likewise; see ``FakeCuda.unseen_ns``.
    """

    def __init__(self, *, null: bool) -> None:
        self.null = null
        self.cuda = self  # where ``timed`` looks for it
        self.lock = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.log: deque[str] = deque(maxlen=10_000)
        self.violations: list[str] = []
        self.dead: Any = None
        self.timed = False
        self.spent_ns = self.spent_cpu_ns = 0
        self.refusing = False  # the call under way frees or waits, and will be said to have failed
        self.faults: list[Fault] = []

    @property
    def total(self) -> int:
        """Calls of any kind so far."""
        return self.calls.total()

    def fail(
        self, nth: int = 1, name: str | None = None, code: Any = CUresult.CUDA_ERROR_UNKNOWN
    ) -> None:
        """Makes the n-th call from now fail, 1 being the next; of all calls, or of those of one name.

        A call that creates or enqueues then does nothing. One that frees or waits does its work and reports the
        error all the same, as a driver does with the error of an earlier launch. Calls of TensorRT answer None
        or False. After a code of ``STICKY`` all later calls fail.
        """
        self.faults.append(Fault(nth, name, code))

    def forget_faults(self) -> None:
        """No more calls will fail."""
        self.faults.clear()

    def begin(self, name: str) -> Any:
        """Counts a call; the code with which it has to fail, or None."""
        self.calls[name] += 1
        self.log.append(name)
        for fault in self.faults:
            if fault.name in (None, name):
                fault.left -= 1
                if fault.left == 0:
                    self.faults.remove(fault)
                    if fault.code in STICKY and self.dead is None:
                        self.die(fault.code)
                    return fault.code
        return None

    def die(self, code: Any) -> None:
        """The context is lost."""
        self.dead = code

    def violation(self, text: str) -> None:
        """Records what no program should do."""
        self.violations.append(text)

    def require_context(self) -> None:
        """Raises Refused in a thread without a current context."""
        raise NotImplementedError


def timed(method: Method, fast: Callable[..., Any] | None = None) -> Method:
    """One call at a time, its time kept apart where asked for.

    Args:
        method: Of a Calls, or of something that has one, ``cuda``.
        fast: Does for it in null mode, without the lock, while no call is to fail.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        calls = self.cuda
        if calls.timed:
            cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
            try:
                with calls.lock:
                    return method(self, *args, **named)
            finally:
                calls.spent_ns += time.perf_counter_ns() - wall
                calls.spent_cpu_ns += time.thread_time_ns() - cpu
        if fast is not None and calls.null and not calls.faults and calls.dead is None:
            return fast(self)
        with calls.lock:
            return method(self, *args, **named)

    return call  # type: ignore[return-value]


def driver_call(
    answers: int = 0,
    *,
    context: bool = True,
    after: bool = False,
    survives: bool = False,
    work: bool = False,
) -> Callable[[Callable[..., Any]], DriverFunction]:
    """Makes a method a function of the driver: ``(CUresult, answers...)``, None for them after an error.

    Args:
        answers: How many values follow the status.
        context: Needs a current context.
        after: Frees or waits: does so even when it is to fail.
        survives: Works after the context is lost.
        work: Enqueues or waits: in null mode nothing but the context is looked at.
    """

    def decorate(body: Callable[..., Any]) -> DriverFunction:
        name = body.__name__

        def call(self: Calls, *args: Any, **named: Any) -> tuple[Any, ...]:
            code, got = self.begin(name), None
            if self.dead is not None and not survives:
                code = self.dead
            if code is None or after:
                self.refusing = code is not None
                try:
                    if context and self.dead is None:
                        self.require_context()
                    if not (work and self.null):
                        got = body(self, *args, **named)
                except Refused as refused:
                    code = code or refused.code
            if code is not None:
                return (code, *(None,) * answers)
            return (SUCCESS, got) if answers == 1 else (SUCCESS, *(got or ()))

        def fast(self: Calls) -> tuple[Any, ...]:
            self.calls[name] += 1  # not exact while several threads call
            self.log.append(name)
            try:
                self.require_context()
            except Refused as refused:
                return (refused.code,)
            return (SUCCESS,)

        return timed(functools.wraps(body)(call), fast if work else None)

    return decorate
