"""The loop that ``bench.soak`` runs, and what it notes of itself: about once a minute, without growing by it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.soak_ends import Camera, Journal
from convcut_trt.faces.detect import Detector
from convcut_trt.health import Health
from convcut_trt.progress import Progress
from convcut_trt.robots.sinks import About
from convcut_trt.stream import Answering, Result, Stream, stop_on_signals

COLUMNS = (
    *("seconds", "answered", "dropped", "p50_ms", "p99_ms", "least_lag_ms", "cpu_ms", "waited_ms"),
    *("rss_mib", "pss_mib", "uss_mib", "blocks", "collections", "fds", "threads"),
    *("wall_ms", "load"),
)
"""Of a sample: when; frames answered and dropped since the last one; their latency, from the arrival of a frame to
its answer; the least time from a frame's stamp to its answer; CPU time of the process a frame, and how long the
loop's thread stood ready without a core; memory: resident, its share of what is shared, its own; blocks of Python's
allocator; full garbage collections so far; open files; threads; by how much the wall clock has gained on the
monotonic one since the start; the machine's load average."""
F64 = NDArray[np.float64]


def period(seconds: float) -> float:
    """Seconds between two samples: a minute; below an hour a 60th of the run, at least half a second."""
    return min(60.0, max(0.5, seconds / 60))


class Notes:
    """The samples. All memory for them is taken, and touched, at the start.

    Attributes:
        due: When the next one is, by the monotonic clock.
    """

    def __init__(self, camera: Camera) -> None:
        """Begins now."""
        seconds = camera.frames / camera.rate
        self._camera, self._period = camera, period(seconds)
        self._rows = np.full((int(seconds / self._period) + 1, len(COLUMNS)), -1.0)
        self._count = 0
        self._latencies: list[float] = []
        self._lags: list[int] = []
        self._start = time.monotonic()
        self.due = self._start + self._period
        self._wall = time.time_ns() - time.monotonic_ns()
        self._dropped = 0
        self._before = (time.process_time(), _waited_ns())

    def add(self, result: Result) -> None:
        """Notes an answer that has been sent."""
        self._latencies.append(result.latency)
        self._lags.append(self._camera.lag(result.frame.timestamp))

    def sample(self, health: Health) -> None:
        """Notes the loop as it is now."""
        cpu, waited = self._before
        self._before = now = (time.process_time(), _waited_ns())
        answered = len(self._latencies)
        p50, p99 = np.percentile(self._latencies, (50, 99)) * 1e3
        lag = min(self._lags) / 1e6
        self._latencies.clear()
        self._lags.clear()
        dropped, self._dropped = health.dropped - self._dropped, health.dropped
        self._rows[self._count] = (
            *(time.monotonic() - self._start, answered, dropped, p50, p99, lag),
            *((now[0] - cpu) * 1e3 / answered, (now[1] - waited) / 1e6 / answered),
            *_memory(),
            *(sys.getallocatedblocks(), gc.get_stats()[-1]["collections"]),
            *(len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))),
            (time.time_ns() - time.monotonic_ns() - self._wall) / 1e6,
            os.getloadavg()[0],
        )
        self._count += 1
        # One that comes late, as after a pause of the machine, moves all that follow.
        self.due = max(self.due, time.monotonic() - self._period) + self._period

    @property
    def waits(self) -> bool:
        """Whether a sample is due, there is room for it, and there was an answer since the last."""
        room = self._count < len(self._rows)
        return room and bool(self._latencies) and time.monotonic() >= self.due

    def columns(self) -> dict[str, list[float]]:
        """Name -> values, see ``COLUMNS``."""
        rows = self._rows[: self._count].round(4).T.tolist()
        return dict(zip(COLUMNS, rows, strict=True))


def _memory() -> tuple[float, float, float]:
    """Resident, proportional and private memory of this process, MiB (proc_pid_smaps(5))."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return kib["Rss"] / 1024, kib["Pss"] / 1024, private / 1024


def _waited_ns() -> int:
    """For how long the main thread has stood ready without a core (proc_pid_schedstat(5))."""
    return int(Path("/proc/self/schedstat").read_text().split()[1])


def soak(
    engine: Answering, camera: Camera, folder: Path, progress: Progress, find: Detector
) -> dict[str, Any]:
    """Runs the loop until the camera ends, or until Ctrl-C or SIGTERM. In the main thread.

    Args:
        engine: Asked for every face.
        camera: The source.
        folder: For the sink's file.
        progress: Told once a second.
        find: The detector.

    Returns:
        ``samples`` by column; ``counts`` of the whole run; ``complete``, whether the camera came to its end.
    """
    spec = engine.spec
    with (
        closing(Journal(folder, About(spec.name, spec.classes, spec.reject), camera)) as journal,
        Stream(engine, camera, detector=find) as stream,
        stop_on_signals(stream),
    ):
        # What was freed until now would be taken again first, and hide what leaks.
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # glibc's
        notes, shown = Notes(camera), time.monotonic()
        for result in stream:
            journal.send(result)
            notes.add(result)
            if notes.waits:
                journal.turn()
                notes.sample(stream.health())
            if time.monotonic() >= shown:
                shown += 1
                progress("soaking", result.frame.sequence + 1, camera.frames)
        stream.close()
        journal.close()
        health = asdict(stream.health())
    counts = {key: health[key] for key in ("frames", "processed", "dropped", "bad", "bad_boxes")}
    counts |= {key: getattr(journal, key) for key in ("lines", "altered", "unordered")}
    return {
        "samples": notes.columns(),
        "counts": counts,
        "complete": counts["frames"] == camera.frames,
    }
