"""Faces that others have found: the newest crop of each, all answered in one batch, each smoothed by itself."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.health import KEPT, Health, percentiles
from convcut_trt.robots.images import frame_of
from convcut_trt.robots.messages import Header, Image, Time
from convcut_trt.sources import Frame
from convcut_trt.stream import Answering
from convcut_trt.track import Tracker, Tracking

STALL_S = 5.0
_WHOLE = np.array(
    [[0.0, 0.0, 1.0, 1.0]]
)  # one place for all crops of a face: its tracker never looks elsewhere


@dataclass(frozen=True)
class Answer:
    """What is said of one face.

    Attributes:
        face: Its id.
        header: Of its image.
        label: After smoothing, or "unknown".
        confidence: The label's smoothed probability.
    """

    face: str
    header: Header
    label: str
    confidence: float


@dataclass(frozen=True, eq=False)
class _Crop:
    face: str
    frame: Frame
    pixels: NDArray[np.uint8]  # uint8 RGB [size, size, 3]
    arrived: int


class Crops:
    """The faces that are followed. Iterated in one thread; the rest is for one other.

    A crop is taken whole, its largest centred square resized: there is no box in it to put a margin around.
    """

    def __init__(self, engine: Answering, tracking: Tracking) -> None:
        """Follows no face yet."""
        self._engine, self._tracking = engine, tracking
        self._changed = threading.Condition()
        self._stopping = False
        self._trackers: dict[str, Tracker] = {}
        self._waiting: dict[str, tuple[bytes, int]] = {}
        self._awaited = monotonic_ns()
        self._counts: Counter[str] = Counter()
        self._rows: deque[tuple[int, ...]] = deque(maxlen=KEPT)
        self._last_error = ""

    def follow(self, face: str) -> None:
        """Takes crops of this face from now on."""
        with self._changed:
            if not self._trackers:
                self._awaited = monotonic_ns()
            self._trackers[face] = self._tracker()

    def forget(self, face: str) -> None:
        """Takes no more of it; its smoothing is forgotten, too."""
        with self._changed:
            del self._trackers[face]
            self._counts["dropped"] += self._waiting.pop(face, None) is not None

    def retune(self, tracking: Tracking) -> None:
        """Smooths in another way; from the next crop on, starting anew."""
        with self._changed:
            self._tracking = tracking
            self._trackers = {face: self._tracker() for face in self._trackers}

    def _tracker(self) -> Tracker:
        spec = self._engine.spec
        return Tracker(spec.classes, self._tracking, spec.reject)

    def put(self, face: str, data: bytes) -> None:
        """Keeps the newest crop of a face: the bytes of an ``Image``."""
        now = monotonic_ns()
        with self._changed:
            if face not in self._trackers:
                return
            self._counts["stalls"] += self._silent(now) > STALL_S
            self._counts["frames"] += 1
            self._counts["dropped"] += face in self._waiting
            self._waiting[face] = data, now
            self._awaited = now
            self._changed.notify_all()

    def _silent(self, now: int) -> float:
        """Seconds for which a crop has been awaited; nobody awaits one while there is no face."""
        return (now - self._awaited) / 1e9 if self._trackers and not self._stopping else 0.0

    def stop(self) -> None:
        """Ends the iteration."""
        with self._changed:
            self._stopping = True
            self._counts["dropped"] += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[list[Answer]]:
        """The answers to one batch after the other.

        Raises:
            ConvcutError: The engine failed.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                batch, self._waiting = self._waiting, {}
            yield self._answers(batch)

    def _answers(self, batch: dict[str, tuple[bytes, int]]) -> list[Answer]:
        begun = monotonic_ns()
        crops = [crop for face in batch if (crop := self._decoded(face, *batch[face]))]
        if not crops:
            return []
        decoded = monotonic_ns()
        raw = self._engine.infer(np.stack([crop.pixels for crop in crops]))["probabilities"]
        if not np.isfinite(raw).all():
            raise InputError("the engine answered NaN: check it with `convcut-trt verify`")
        inferred = monotonic_ns()
        answers = []
        with self._changed:
            for crop, shares in zip(crops, raw, strict=True):
                tracker = self._trackers.get(crop.face)
                if tracker is None:  # gone while its crop was answered
                    self._counts["dropped"] += 1
                    continue
                (face,) = tracker.update(crop.frame.timestamp, _WHOLE, shares[None])
                header = Header(Time.from_ns(crop.frame.timestamp), crop.frame.frame_id)
                answers.append(Answer(crop.face, header, face.label, face.confidence))
                now = monotonic_ns()
                self._counts["processed"] += 1
                times = (crop.arrived, begun, decoded, decoded, inferred, now)
                self._rows.append((*np.diff(times).tolist(), now - crop.arrived))
        return answers

    def _decoded(self, face: str, data: bytes, arrived: int) -> _Crop | None:
        frame = frame_of(data, Image.decode, 0, 0)
        try:
            return _Crop(face, frame, self._engine.spec.face(frame.picture()), arrived)
        except InputError as error:
            with self._changed:
                self._counts["bad"] += 1
                self._last_error = f"face {face}: {error}"
            return None

    def health(self) -> Health:
        """How it does; ``frames`` are crops."""
        with self._changed:
            counts, rows, silent = (
                self._counts.copy(),
                list(self._rows),
                self._silent(monotonic_ns()),
            )
            stalled = silent > STALL_S
            return Health(
                running=not self._stopping,
                stalled=stalled,
                silent_s=silent,
                frames=counts["frames"],
                processed=counts["processed"],
                dropped=counts["dropped"],
                missed=0,
                bad=counts["bad"],
                bad_boxes=0,
                stalls=counts["stalls"] + stalled,
                last_error=self._last_error,
                latency=percentiles(rows),
            )
