"""Work in a process of its own: its memory and its GPU are its own, and whatever ends it ends nothing else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from convcut_trt.errors import BuildError, ConvcutError, CudaError
from convcut_trt.gates import Step

_TOLD_S = 0.2  # between two steps: telling them must not disturb what is timed
_GRACE_S = 10.0


class Crashed(BuildError):
    """The process ended without an answer."""


def apart(work: Callable[..., Any], *arguments: Any, step: Step) -> Any:
    """Calls ``work(*arguments, step)`` in a new process, which ends before this returns, however it returns.

    Args:
        work: A function of a module, which the process imports.
        arguments: Like the answer, anything that can be pickled.
        step: Called here as ``step(phase, done, total)``, not for every step that ``work`` tells.

    Returns:
        What ``work`` returned.

    Raises:
        ConvcutError: What ``work`` raised.
        Crashed: The process was killed, crashed, or ended with an error of no such class, which it printed.
    """
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_child, args=(sending, work, arguments), daemon=True)
    process.start()
    sending.close()  # the child's copy is the last one: its end is the end of what can be received
    try:
        while True:
            kind, told = receiving.recv()
            if kind == "step":
                step(*told)
            elif kind == "raised":
                raise told
            else:
                return told
    except EOFError:
        process.join()
        raise Crashed(_death(process.exitcode or 0)) from None
    except BaseException:
        _interrupt(process.pid)
        raise
    finally:
        receiving.close()
        process.join(_GRACE_S)
        process.kill()
        process.join()


def _child(sending: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    phase, told_at = "", 0.0

    def step(now: str, done: int, total: int) -> None:
        nonlocal phase, told_at
        if now != phase or time.monotonic() > told_at + _TOLD_S:
            phase, told_at = now, time.monotonic()
            sending.send(("step", (now, done, total)))

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # nobody waits for an answer then
        try:
            sending.send(("returned", work(*arguments, step)))
        except CudaError as error:  # takes more than its text to be made anew
            sending.send(("raised", BuildError(str(error), log=error.log)))
        except ConvcutError as error:
            sending.send(("raised", error))


def _interrupt(pid: int | None) -> None:
    """Lets it clean up, as Ctrl-C does, which comes here alone where it does not come from a terminal."""
    with contextlib.suppress(OSError):
        if pid is not None:
            os.kill(pid, signal.SIGINT)


def _death(code: int) -> str:
    if code >= 0:
        return f"its process ended with code {code} and without an answer"
    name = signal.Signals(-code).name
    why = ", most likely because memory ran out" if name == "SIGKILL" else ""
    return f"its process crashed ({name}){why}"
