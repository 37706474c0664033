"""The process that parses and builds, apart from the caller's: ``python -m`` this module.

Native builders abort, exhaust memory and print what they like. Here that ends one process and
fills one log. The request comes as a line of JSON on stdin, which stays open as long as the parent
lives. Answers go out on what was stdout: lines of JSON, the last followed by the engine's bytes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from convcut_trt.backends.trt_build import Request, build
from convcut_trt.errors import ConvcutError


def main() -> None:
    """Builds what the request on stdin asks for."""
    # What native code prints belongs to the log, so stdout is taken away from it.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    request = Request.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def progress(phase: str, done: int, total: int) -> None:
        with lock:  # builders report from several threads
            _report(reports, {"phase": phase, "done": done, "total": total})

    try:
        result, engine = build(request, progress)
    except ConvcutError as error:
        _report(reports, {"error": str(error), "kind": type(error).__name__})
    except Exception as error:
        traceback.print_exc()
        _report(reports, {"error": f"{type(error).__name__}: {error}", "kind": "BuildError"})
    else:
        _report(reports, {**result, "peak_memory": _peak_memory(), "engine": len(engine)})
        reports.write(engine)
        reports.flush()


def _report(reports: BinaryIO, entry: dict[str, Any]) -> None:
    reports.write(json.dumps(entry).encode() + b"\n")
    reports.flush()


def _end_with_parent() -> None:
    """Ends this process when stdin does, that is when the parent is gone however it went."""
    # Builders release the interpreter while they work, so this thread is heard.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _peak_memory() -> int | None:
    """Bytes; None where the system does not tell."""
    # Not getrusage: its maximum includes the parent's memory from before exec.
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes.split()[1]) * 1024


if __name__ == "__main__":
    main()
