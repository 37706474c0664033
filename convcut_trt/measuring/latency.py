"""How long one engine takes: opening, first call, steady, after idle, from frame to label, on the GPU alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from convcut_trt.backends import probe
from convcut_trt.backends.base import Runnable
from convcut_trt.gates import Step
from convcut_trt.measuring import conditions, energy
from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.distribution import Distribution
from convcut_trt.measuring.energy import Energy
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.results import (
    IDLE,
    ON_GPU,
    STEADY,
    WHOLE,
    Measured,
    Memory,
    Series,
)
from convcut_trt.measuring.timed import F32, F64, U8, Timed, asking, sample, settle
from convcut_trt.preprocess import faces as faces_of

CAMERA_HZ = 30.0
_CHUNK = 100  # runs on the GPU between two looks at the clock
_NO_GPU = "it computes on the CPU, where steady is all there is"
_NOT_OURS = "only sessions of TensorRT are timed on the GPU"
_NOT_ASKED = "it is not asked: it tells its own times, on the GPU"


class Measuring:
    """An engine or peer being measured. What is done so far is kept, wherever it is stopped."""

    def __init__(self, entrant: Entrant, batches: tuple[int, ...], seconds: float) -> None:
        """Nothing is opened yet.

        Args:
            entrant: Which.
            batches: Faces in a call; the first is also the batch of the energy.
            seconds: Of calls in each series.
        """
        self.entrant = entrant
        self._batches, self._seconds = batches, seconds
        self._series: list[Series] = []
        self._timed: list[Timed] = []
        self._not_measured: dict[str, str] = {}
        self._memory = Memory(None, None, None, None)
        self._energy: Energy | None = None
        self._open_ms = self._first_ms = 0.0
        self._before: Conditions | None = None
        self._after: Conditions | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything to be kept."""
        return bool(self._series)

    def found(self) -> Measured:
        """What was found so far; how many faces it answers right is not measured here."""
        after = self._after or conditions.read()
        before = self._before or after
        return Measured(
            subject=self.entrant.subject,
            open_ms=self._open_ms,
            first_ms=self._first_ms,
            difference=max((timed.worst for timed in self._timed), default=0.0),
            series=tuple(self._series),
            not_measured=dict(self._not_measured),
            memory=self._memory,
            energy=self._energy,
            accuracy=None,
            before=before,
            after=after,
            flags=conditions.flags(before, after),
        )

    def run(self, step: Step) -> None:
        """Measures everything.

        Args:
            step: Called as ``step(phase, done, total)``.

        Raises:
            GateFailed: An answer was wrong.
            CudaError: The GPU failed.
        """
        entrant, name = self.entrant, self.entrant.name
        self._before = conditions.read()
        if entrant.own_times is not None:
            for batch in self._batches:
                step(f"{name}, batch {batch}", 0, 1)
                self._keep(ON_GPU, batch, True, entrant.own_times(batch, self._seconds))
            self._not_measured = dict.fromkeys((STEADY, IDLE, WHOLE), _NOT_ASKED)
            return
        empty, free = _resident(), None if entrant.on_cpu else _gpu_free()
        with ExitStack() as stack:
            start = time.perf_counter()
            session = stack.enter_context(entrant.open())
            self._open_ms = (time.perf_counter() - start) * 1000
            for number, batch in enumerate(self._batches):
                timed = self._faces(session, batch)
                first = timed()
                if not number:
                    self._first_ms = first
                settled = settle(timed)
                times = sample(timed, self._seconds, f"{name}, batch {batch}", step)
                self._keep(STEADY, batch, settled, times)
                self._on_gpu(session, timed, batch, settled, step)
            timed = self._faces(session, self._batches[0])
            period = 1 / CAMERA_HZ
            # a second of the rhythm lets the clocks fall as they will
            sample(timed, min(1.0, self._seconds), f"{name}, after idle", step, period)
            times = sample(timed, self._seconds, f"{name}, after idle", step, period)
            self._keep(IDLE, self._batches[0], True, times)
            whole = self._whole(session)
            settled = settle(whole)
            times = sample(whole, self._seconds, f"{name}, frame to label", step)
            self._keep(WHOLE, 1, settled, times)
            self._energy = self._measure_energy(timed, step)
            # At once: what holds a GPU back is gone when it idles.
            self._after = conditions.read()
            self._memory = _memory(empty, free)

    def _faces(self, session: Runnable, batch: int) -> Timed:
        """From faces in host memory to answers there."""
        faces, wanted = self.entrant.work.batches(batch)
        return self._add(asking(session, faces), wanted)

    def _add(self, asks: Sequence[Callable[[], F32]], wanted: Sequence[F32]) -> Timed:
        entrant = self.entrant
        self._timed.append(Timed(entrant.name, asks, entrant.budget, wanted, entrant.fix))
        return self._timed[-1]

    def _whole(self, session: Runnable) -> Timed:
        """From a frame and a box in host memory to a label."""
        work = self.entrant.work
        spec = work.spec

        def ask(frame: U8, box: tuple[float, float, float, float]) -> F32:
            face = faces_of(frame, [box], spec.size, spec.margin)
            probabilities = session.run(face)["probabilities"]
            spec.classes[int(probabilities[0].argmax())]
            return probabilities

        asks = [partial(ask, *seen) for seen in zip(work.frames, work.boxes, strict=True)]
        wanted = [work.wanted[place : place + 1] for place in range(len(asks))]
        return self._add(asks, wanted)

    def _keep(self, way: str, batch: int, settled: bool, times: F64) -> None:
        self._series.append(Series(way, batch, settled, Distribution.of(times)))

    def _on_gpu(
        self, session: Runnable, timed: Timed, batch: int, settled: bool, step: Step
    ) -> None:
        if self.entrant.on_cpu:
            self._not_measured[ON_GPU] = _NO_GPU
            return
        from convcut_trt.backends.trt_session import TensorRTSession
        from convcut_trt.backends.trt_timed import gpu_times

        if not isinstance(session, TensorRTSession):
            self._not_measured[ON_GPU] = _NOT_OURS
            return
        parts: list[F64] = []
        end = time.perf_counter() + self._seconds
        total = round(self._seconds * 10)
        while not parts or time.perf_counter() < end:
            left = max(0.0, end - time.perf_counter())
            step(f"{self.entrant.name}, GPU, batch {batch}", total - round(left * 10), total)
            place = timed.place
            timed()  # brings its faces to the GPU
            times, answers = gpu_times(session, batch, _CHUNK)
            timed.check(place, answers)
            parts.append(times)
        self._keep(ON_GPU, batch, settled, np.concatenate(parts))

    def _measure_energy(self, timed: Timed, step: Step) -> Energy | None:
        with energy.meter(self.entrant.on_cpu) as found:
            if found is None:
                return None
            return energy.per_inference(found, timed, self._batches[0], self._seconds, step)


def _memory(empty: int | None, free: int | None) -> Memory:
    resident, left = _resident(), None if free is None else _gpu_free()
    peak = _peak()
    grown = None if resident is None or empty is None else resident - empty
    return Memory(
        process=resident,
        engine=grown if grown is None or grown > 0 else None,
        # Linux counts either loosely, in parts that each core keeps for a while
        peak=None if peak is None else max(peak, resident or 0),
        gpu=None if free is None or left is None else free - left,
    )


def _resident() -> int | None:
    """Bytes of this process in memory; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpu_free() -> int | None:
    """Bytes; None where the GPU has no memory of its own, or NVML does not tell."""
    from convcut_trt.measuring import nvml

    found = probe.gpu()
    if isinstance(found, str):
        return None
    with nvml.opened() as library:
        device = library.device(found) if library else None
        return device.memory_free() if device else None
