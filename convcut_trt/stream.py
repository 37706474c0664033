"""The robot loop: frames in, faces with steady expressions out, and never behind by more than one frame.

    with Stream(engine, source) as stream, stop_on_signals(stream):
        for result in stream:
            print(result.frame.timestamp, [(face.track, face.label) for face in result.faces])

A thread reads the source and keeps the newest frame only (``newest``); everything else happens in the thread that
iterates, one frame after the other, in the order of the source. A frame in which no face is found is answered, too.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.faces.crop import cut_faces
from convcut_trt.faces.detect import Detector, crop_margin
from convcut_trt.faces.detect import detector as open_detector
from convcut_trt.health import KEPT, Health, percentiles
from convcut_trt.newest import Newest
from convcut_trt.sources import Frame, Pixels, Source, open_source
from convcut_trt.spec import ModelSpec
from convcut_trt.track import Face, Tracker, Tracking

_POLL_S = 0.1  # how late a signal, or a stall, is noticed while no frame comes


class Answering(Protocol):
    """What a stream needs of an engine."""

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""

    def infer(self, batch: Pixels, /) -> Mapping[str, NDArray[np.float32]]:
        """``probabilities`` [N, K] of faces [N, size, size, 3]."""


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to one frame.

    Attributes:
        frame: As the source gave it, with its own timestamp, frame id and sequence number.
        picture: The same, uint8 RGB [H, W, 3].
        faces: In the detector's order.
        latency: Seconds from the frame's arrival to this answer.
        late: Whether that is more than the deadline.
    """

    frame: Frame
    picture: Pixels
    faces: tuple[Face, ...]
    latency: float
    late: bool


class Stream:
    """Answers the frames of a source; an iterable of ``Result``, once; a context manager.

    It ends when the source is exhausted, after ``stop`` or ``close``, or with one error: that of the source, the
    detector or the engine. However it ends, the source is closed and its thread joined. The engine stays open.
    """

    def __init__(
        self,
        engine: Answering,
        source: Source | str | Path | int,
        *,
        detector: Detector | None = None,
        tracking: Tracking | None = None,
        newest: bool | None = None,
        deadline: float | None = None,
        stall: float = 5.0,
        on_stall: Callable[[Health], object] | None = None,
        skip_bad: bool = True,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Opens the source, if it is a name; reads nothing yet.

        Args:
            engine: From ``load``. All faces of a frame are one batch.
            source: See ``sources``; a string, path or number goes through ``sources.open_source``.
            detector: Finds the faces; ``whole_picture`` where each picture is one. None is ``detect.detector()``.
            tracking: How faces are followed and smoothed.
            newest: Whether a newer frame replaces the one that waits; if not, the source waits. None is what the
                source says by its attribute ``live``, and True where it says nothing.
            deadline: Seconds from the arrival of a frame to its answer. A later answer is counted and marked
                ``late``, but never withheld: else an engine that is too slow would never answer.
            stall: Seconds without a frame after which the source counts as stalled; the stream waits on.
            on_stall: Called once a stall, where the stream is iterated: may ``stop`` it, or raise.
            skip_bad: Frames that cannot be decoded, and impossible boxes, are left out and counted; if not, they
                end the stream.
            clock: Nanoseconds, monotonic.

        Raises:
            InputError: A bad time, or the source does not open.
            BackendMissing: The source takes OpenCV, which is not installed; or there is no face detector.
        """
        for name, seconds in (("deadline", deadline), ("stall", stall)):
            if seconds is not None and not seconds > 0:
                raise InputError(f"{name} = {seconds}: give seconds, more than 0")
        find = open_detector() if detector is None else detector
        opened = open_source(source) if isinstance(source, (str, Path, int)) else source
        live = bool(getattr(opened, "live", True)) if newest is None else newest
        self._engine = engine
        self._detector = find
        self._margin = crop_margin(find, engine.spec.margin)
        self._newest = Newest(opened, not live, clock)
        self._tracker = Tracker(engine.spec.classes, tracking, engine.spec.reject)
        self._deadline, self._stall, self._on_stall = deadline, stall, on_stall
        self._skip_bad = skip_bad
        self._clock = clock
        self._started = self._stopping = self._ended = self._stalled = False
        self._lock = threading.Lock()  # of the next three
        self._counts: Counter[str] = Counter()
        self._latencies: deque[tuple[int, ...]] = deque(maxlen=KEPT)
        self._last_error = ""

    def __iter__(self) -> Iterator[Result]:
        """Starts to read.

        Raises:
            InputError: The stream was iterated before, or is closed.
        """
        if self._started or self._stopping:
            raise InputError("a stream is iterated once: make another one")
        self._started = True
        return self._results()

    def _results(self) -> Iterator[Result]:
        try:
            if not self._stopping:
                self._newest.start()
            while not self._stopping:
                taken = self._newest.take(min(_POLL_S, self._stall))
                if taken is None:
                    if self._newest.over:
                        break
                    self._watch()
                    continue
                self._stalled = False
                result = self._answer(*taken)
                if result is not None:
                    yield result
        except ConvcutError as error:
            self._note(error)
            raise
        finally:
            self.close()

    def _watch(self) -> None:
        if self._stalled or self._newest.intake().silent_s <= self._stall:
            return
        self._stalled = True
        with self._lock:
            self._counts["stalls"] += 1
        if self._on_stall is not None:
            self._on_stall(self.health())

    def _answer(self, frame: Frame, arrived: int) -> Result | None:
        clock = self._clock
        begun = clock()
        try:
            picture = frame.picture()
        except InputError as error:
            if not self._skip_bad:
                raise
            self._note(error, bad=1)
            return None
        decoded = clock()
        boxes = self._boxes(frame, picture)
        found = clock()
        raw = self._probabilities(frame, picture, boxes)
        answered = clock()
        faces = self._tracker.update(frame.timestamp, boxes, raw)
        done = clock()
        total = done - arrived
        late = self._deadline is not None and total > self._deadline * 1e9
        stages = (begun - arrived, decoded - begun, found - decoded, answered - found)
        with self._lock:
            self._counts["processed"] += 1
            self._counts["missed"] += late
            self._latencies.append((*stages, done - answered, total))
        return Result(frame, picture, faces, total / 1e9, late)

    def _boxes(self, frame: Frame, picture: Pixels) -> NDArray[np.float64]:
        """float64 [N, 4]: what the detector found and what can be cut out of the picture."""
        try:
            boxes = np.asarray(self._detector(picture), np.float64)
        except ConvcutError:
            raise
        except Exception as error:
            raise _blamed("the detector", frame, error) from error
        if not boxes.size:
            return np.empty((0, 4))
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(
                f"the detector answered {list(boxes.shape)} numbers on frame {frame.sequence}: "
                "it has to give [N, 4], a row of x, y, width, height for each face"
            )
        height, width = picture.shape[:2]
        # Plain numbers: for the few faces of a frame, arrays take many times as long.
        good = [_inside(row, width, height) for row in boxes.tolist()]
        if all(good):
            return boxes
        bad = boxes[np.logical_not(good)].tolist()
        impossible = InputError(
            f"the detector gave impossible boxes on frame {frame.sequence} of {width}x{height} pixels: {bad}"
        )
        if not self._skip_bad:
            raise impossible
        self._note(impossible, bad_boxes=len(bad))
        return boxes[good]

    def _probabilities(
        self, frame: Frame, picture: Pixels, boxes: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        spec = self._engine.spec
        if not len(boxes):
            return np.empty((0, len(spec.classes)), np.float32)
        try:
            faces = cut_faces(picture, boxes, spec.size, self._margin)
            raw = self._engine.infer(faces)["probabilities"]
            sound = math.isfinite(raw.sum())
        except ConvcutError:
            raise
        except Exception as error:
            raise _blamed("the engine", frame, error) from error
        if not sound:
            raise InputError(
                f"the engine answered NaN on frame {frame.sequence}: check it with `convcut-trt verify`"
            )
        return raw

    def _note(self, error: ConvcutError, **counts: int) -> None:
        with self._lock:
            self._last_error = str(error)
            self._counts.update(counts)

    def health(self) -> Health:
        """A snapshot; from any thread, at any time."""
        intake = self._newest.intake()
        with self._lock:
            counts, error, rows = self._counts.copy(), self._last_error, list(self._latencies)
        return Health(
            running=self._started and not self._ended,
            stalled=intake.silent_s > self._stall,
            silent_s=intake.silent_s,
            frames=intake.frames,
            processed=counts["processed"],
            dropped=intake.dropped,
            missed=counts["missed"],
            bad=counts["bad"],
            bad_boxes=counts["bad_boxes"],
            stalls=counts["stalls"],
            last_error=error,
            latency=percentiles(rows),
        )

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` or ``close`` was called."""
        return self._stopping

    def stop(self) -> None:
        """Lets the iteration end after the frame in work; returns at once. May be called in a signal handler."""
        # No lock: a handler may have interrupted the thread that holds it.
        self._stopping = True

    def close(self) -> None:
        """Ends the stream: the source is closed, its thread joined. From any thread; again does nothing.

        Where the source does not return, ``health`` says so after ``newest.PATIENCE_S`` seconds.
        """
        self._stopping = True
        if not self._newest.close():
            self._note(InputError("the source does not return: its thread is left behind"))
        self._ended = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def stop_on_signals(stream: Stream) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM end the stream after the frame in work; a second one is a KeyboardInterrupt.

    In the main thread only, as Python has it for signals.
    """

    def handle(number: int, where: FrameType | None) -> None:
        if stream.stopping:
            raise KeyboardInterrupt
        stream.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _inside(box: Sequence[float], wide: int, high: int) -> bool:
    """Whether a box has an area, and some of it in a picture so wide and high; NaN is in none."""
    x, y, width, height = box
    sized = 0 < width < math.inf and 0 < height < math.inf
    return sized and -width < x < wide and -height < y < high


def _blamed(whom: str, frame: Frame, error: Exception) -> InputError:
    """What others' code raised, in one sentence."""
    return InputError(f"{whom} failed on frame {frame.sequence}: {type(error).__name__}: {error}")
