"""Stands in for the module ``cuda.bindings.driver`` where there is no GPU.

    cuda = FakeCuda()
    ... the code under test, with ``cuda`` for the module ...
    cuda.check()
    assert cuda.leaks() == {}

The functions have the names, arguments and answers of the real ones; enums and handle classes are the real ones.
Addresses are real and kernels compute, see ``fake_heap`` and ``host_kernels``. What runs when: ``fake_stream``.
Failing on demand, and what counts as one: ``fake_calls``.
"""

from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from typing import Any

from cuda.bindings import driver

from tests.gpu.fake_context import Device
from tests.gpu.fake_kernel import Kernels


class FakeCuda(Kernels):
    """The driver of one fake GPU.

    Args:
        device: What it says about its GPU.
        eager: Work runs as it is enqueued, not as late as possible.
        null: Work is not run at all, and calls cost next to nothing: for soak tests and timing.
    """

    def __init__(
        self, device: Device | None = None, *, eager: bool = False, null: bool = False
    ) -> None:
        super().__init__(device or Device(), eager=eager, null=null)
        self.objects: weakref.WeakSet[Any] = (
            weakref.WeakSet()
        )  # of the fake TensorRT, each with a ``kind``

    def __getattr__(self, name: str) -> Any:
        """Enums and handle classes of the real module; functions that the fake lacks are missing."""
        if name.startswith("CU") and isinstance(getattr(driver, name, None), type):
            return getattr(driver, name)
        raise AttributeError(f"the fake driver has no {name}")

    def leaks(self) -> dict[str, int]:
        """How much is alive of what has to be given back; ``reclaimed`` is memory that a context took with it."""
        if not self._alive():
            return {}
        gc.collect()  # what is left may only wait for it
        return self._alive()

    def _alive(self) -> dict[str, int]:
        with self.lock:
            kinds = [block.kind for block in self.heap.live.values()]
            alive = {
                "device": kinds.count("device"),
                "pinned": kinds.count("pinned"),
                "streams": len(self.streams),
                "events": len(self.events),
                "captures": len(self.captures),
                "graphs": len(self.graphs),
                "executables": len(self.executables),
                "modules": len(self.modules),
                "retained": self._primary.retained if self._primary else 0,
                "reclaimed": len(self.heap.reclaimed),
                **Counter(thing.kind for thing in self.objects),
            }
        return {name: count for name, count in alive.items() if count}

    def unseen_ns(self) -> float:
        """CPU time that a call takes beside what ``spent_cpu_ns`` counts: of getting there and back."""
        calls, before, self.timed = 10_000, self.timed, True
        spent, start = self.spent_cpu_ns, time.thread_time_ns()
        for _ in range(calls):
            self.cuDriverGetVersion()
        whole = time.thread_time_ns() - start
        self.timed = before
        return (whole - (self.spent_cpu_ns - spent)) / calls

    def check(self) -> None:
        """Fails where something happened that must not: see ``violations``."""
        with self.lock:
            self.heap.check()
            assert not self.violations, "\n".join(self.violations)


def ok(answer: tuple[Any, ...]) -> Any:
    """What a call of the driver gave back; fails where it refused."""
    assert answer[0] == driver.CUresult.CUDA_SUCCESS, answer[0]
    return answer[1] if len(answer) == 2 else answer[1:]


def with_context(**options: Any) -> FakeCuda:
    """A fake driver whose primary context is current to this thread; for the options see FakeCuda."""
    cuda = FakeCuda(**options)
    ok(cuda.cuInit(0))
    ok(cuda.cuCtxPushCurrent(ok(cuda.cuDevicePrimaryCtxRetain(ok(cuda.cuDeviceGet(0))))))
    return cuda
