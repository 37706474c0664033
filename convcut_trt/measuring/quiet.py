"""Waiting until this process leaves the cores alone: what is timed next has them to itself.

Linux tells of every thread whether it runs. The time that a process has worked does not: that of a thread on
another core is brought up to date by the kernel's tick alone, every 4 ms or 10, and in between a thread that spins
looks idle.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

LONGEST_S = 0.1
"""After so long it is not waited any longer."""
_LOOK_S = 0.0005
THREADS = Path("/proc/self/task")
_RUNS = "R"  # or waits for a core; proc_pid_stat(5)


def until_quiet() -> None:
    """Returns when no other thread of this process runs, or after ``LONGEST_S``; where that is not told, then."""
    if not THREADS.is_dir():
        time.sleep(LONGEST_S)
        return
    end = time.perf_counter() + LONGEST_S
    while others_run() and time.perf_counter() < end:
        time.sleep(_LOOK_S)


def others_run() -> bool:
    """Whether another thread of this process runs or waits for a core; for systems with /proc."""
    own = threading.get_native_id()
    return any(_state(task) == _RUNS for task in THREADS.iterdir() if task.name != str(own))


def _state(task: Path) -> str:
    try:
        # The name in front of it may hold blanks and brackets.
        return (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:  # it has ended
        return ""
