"""What the fake driver's streams are made of."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.gpu.fake_context import Context

Run = Callable[[], object]


@dataclass(eq=False)
class Capture:
    """A stream's work while it is recorded."""

    mode: Any
    thread: int
    work: list[Run] = field(default_factory=list)
    valid: bool = True


@dataclass(eq=False)
class Stream:
    """A queue. ``blocking``: ordered with the legacy stream."""

    handle: int
    context: Context
    blocking: bool
    queue: deque[Work] = field(default_factory=deque)
    capture: Capture | None = None


@dataclass(eq=False, slots=True)
class Work:
    """One piece of work in a queue."""

    stream: Stream
    run: Run
    done: bool = False


@dataclass(eq=False)
class Event:
    """``work`` is the newest record of it, ``captured`` the capture that this record is part of."""

    context: Context
    timing: bool
    work: Work | None = None
    captured: Capture | None = None
    recorded: bool = False
    when_ns: int = 0

    def stamp(self) -> None:
        """It happens."""
        self.when_ns = time.perf_counter_ns()
