"""The oracle: bytes are read in a process of its own, where only errors of ours may come of them.

A parser may take what it is given or refuse it with a ``ConvcutError``. Any other exception is a finding, and so
are more memory or time than a reader is allowed, and the death of the process.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from convcut_trt.errors import ConvcutError

Read = Callable[[bytes, Path], None]
"""What is fuzzed: a function of a module, called with the bytes and a folder of its own."""

_WALL = 20  # seconds of the clock for each of the processor: others compute here, too
_NO_MEMORY = ("MemoryError", "bad allocation", "bad_alloc", "Failed to allocate", "memory ran out")
_OURS = ("/convcut_trt/", "/export/")


class Outcome(NamedTuple):
    """What came of one input.

    Attributes:
        kind: ``taken``, ``refused`` or ``wrong``.
        place: Of what is wrong, the same for every input that shows it.
        detail: For people.
    """

    kind: str
    place: str = ""
    detail: str = ""

    @property
    def costly(self) -> bool:
        """Whether seeing it again takes long: then its input is not made smaller."""
        return self.place == "hang" or self.place.startswith("died")


class Limits(NamedTuple):
    """What one input may cost.

    Attributes:
        seconds: Of the processor.
        mebibytes: Of addresses, beyond what the process had before.
    """

    seconds: float = 5.0
    mebibytes: int = 1024


class Reader:
    """The process that reads; after one that died comes another."""

    def __init__(self, folder: Path) -> None:
        """Starts nothing yet.

        Args:
            folder: Where readers may write; it is not cleaned between inputs.
        """
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def read(self, read: Read, content: bytes, limits: Limits) -> Outcome:
        """Has one input read."""
        pipe = self._pipe or self._start()
        pipe.send((read, content, limits))
        try:
            if pipe.poll(limits.seconds * _WALL):
                outcome: Outcome = pipe.recv()
                return outcome
        except EOFError:
            return self._died(limits)
        self.close()
        return Outcome("wrong", "hang", f"no answer in {limits.seconds * _WALL:g} s")

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_serve, args=(theirs, self._folder), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _died(self, limits: Limits) -> Outcome:
        if self._process is None:
            raise RuntimeError("nothing was started")
        self._process.join()
        code = self._process.exitcode or 0
        self.close()
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        if name == "SIGPROF":
            return Outcome("wrong", "hang", f"more than {limits.seconds:g} s of the processor")
        return Outcome("wrong", f"died: {name}", "its traceback is on stderr")


def _serve(pipe: Connection, folder: Path) -> None:
    faulthandler.enable()
    # Prints where it is, then does what the signal does by default: ends the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    while True:
        try:
            read, content, limits = pipe.recv()
        except EOFError:
            return
        resource.setrlimit(resource.RLIMIT_AS, (_addresses() + (limits.mebibytes << 20), hard))
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)
        outcome = _outcome(read, content, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        pipe.send(outcome)


def _outcome(read: Read, content: bytes, folder: Path) -> Outcome:
    try:
        read(content, folder)
    except ConvcutError as error:
        causes = [f"{type(cause).__name__}: {cause}" for cause in _causes(error)]
        if short := [text for text in causes if any(sign in text for sign in _NO_MEMORY)]:
            return Outcome("wrong", f"memory: {_place(error)}", short[-1])
        return Outcome("refused", detail=causes[0])
    except BaseException as error:  # also what Rust raises when it panics
        return Outcome("wrong", f"{type(error).__name__}: {_place(error)}", traceback.format_exc())
    return Outcome("taken")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised over, ``from None`` or not."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__context__


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(part in frame.filename for part in _OURS)] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _addresses() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
