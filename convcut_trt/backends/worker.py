"""Runs ``child`` and turns whatever happens to it into one answer or one error."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from convcut_trt import errors
from convcut_trt.backends.base import Progress
from convcut_trt.errors import BuildError

# Whatever the current folder holds, the child imports what this process would.
_ROOT = Path(__file__).resolve().parents[2]
_LAST_WORDS = 2000  # characters; before them it may have done without something for lack of memory
# As C++, CUDA and TensorRT, Python, the C library and its loader say it.
_NO_MEMORY = re.compile(
    r"bad_alloc|out ?of ?memory|MemoryError|cannot allocate memory|failed to map segment", re.I
)
_SMALLER = "close other programs, build with a smaller --batch, or add swap"


@dataclass(frozen=True)
class Outcome:
    """What the child gave: its report, the engine, and all that it and its libraries said."""

    report: dict[str, Any]
    engine: bytes
    log: str


def build_apart(title: str, request: str, progress: Progress, timeout_s: float | None) -> Outcome:
    """Builds in a process of its own, which ends before this returns, however it returns.

    Args:
        title: The builder's name for messages.
        request: The child's request, one line of JSON.
        progress: Called from this thread.
        timeout_s: Seconds until the child is ended; None for ever.

    Raises:
        BuildError: The builder refused, crashed, was killed or took too long.
        ConvcutError: What else the child reported, as the class it had there.
    """
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                _command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                cwd=_ROOT,
                start_new_session=True,  # Ctrl-C in a terminal comes here only; this ends the child
            )
        except OSError as error:  # a fork that found no memory, for one
            raise BuildError(
                f"{title} could not be started ({error.strerror}): {_SMALLER}"
            ) from error
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            child.kill()

        timer = threading.Timer(timeout_s, give_up) if timeout_s is not None else None
        try:
            if timer:
                timer.start()
            phase, report, engine = _listen(child, request, progress)
            code = child.wait()
        finally:
            if timer:
                timer.cancel()
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):  # a request that nobody read
                    if pipe:
                        pipe.close()
        log.seek(0)
        said = log.read().decode(errors="replace")
    if code == 0 and len(engine) == report.get("engine"):
        return Outcome(report, engine, said)
    if "error" in report:
        if _NO_MEMORY.search(report["error"]):
            raise BuildError(f"{title} ran out of memory while {phase}: {_SMALLER}", log=said)
        kind = getattr(errors, report["kind"])
        raise kind(report["error"], log=said)
    if timed_out.is_set():
        raise BuildError(
            f"{title} was stopped after {timeout_s:g} s, while {phase}: give BuildOptions a longer timeout_s",
            log=said,
        )
    raise BuildError(_death(title, code, phase, said[-_LAST_WORDS:]), log=said)


def _listen(
    child: subprocess.Popen[bytes], request: str, progress: Progress
) -> tuple[str, dict[str, Any], bytes]:
    """Passes progress on until the last report; (phase, report, engine), empty where it died."""
    phase = "starting"
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child was started without pipes")
    try:
        child.stdin.write(request.encode() + b"\n")
        child.stdin.flush()  # and left open: its end tells the child that this process is gone
    except BrokenPipeError:
        return phase, {}, b""  # it died at once; how is told by its exit
    while True:
        report = _line(child.stdout)
        if "phase" not in report:
            return phase, report, child.stdout.read(report.get("engine", 0))
        phase = report["phase"]
        progress(phase, report["done"], report["total"])


def _line(stream: IO[bytes]) -> dict[str, Any]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        return {}  # the end, or a line cut off by it
    entry: dict[str, Any] = json.loads(line)
    return entry


def _death(title: str, code: int, phase: str, last_words: str) -> str:
    name = signal.Signals(-code).name if code < 0 else ""
    if _NO_MEMORY.search(last_words):
        return f"{title} ran out of memory while {phase}: {_SMALLER}"
    if name == "SIGKILL":
        return f"{title} was killed while {phase}, most likely because memory ran out: {_SMALLER}"
    if name:
        return (
            f"{title} crashed ({name}) while {phase}: it does not survive this network; see its "
            "log, or build with --backend onnxruntime"
        )
    return f"{title} ended with code {code} while {phase}, without an engine: see its log"


def _command() -> list[str]:
    return [sys.executable, "-m", "convcut_trt.backends.child"]


def _environment() -> dict[str, str]:
    # The child has to find the same packages, whatever this process did to its path.
    paths = [os.path.abspath(path) for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
