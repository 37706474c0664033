"""The newest frame of a source: a thread reads, a slot of one keeps what came last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.sources import Frame, Source, as_frame

PATIENCE_S = 5.0  # for a source that is blocked when the stream is closed


@dataclass(frozen=True)
class Intake:
    """What came in so far.

    Attributes:
        frames: Given by the source.
        dropped: Replaced by a newer one, or left over at the end.
        silent_s: For how long a frame has been awaited; 0 before the start and after the end.
    """

    frames: int
    dropped: int
    silent_s: float


class Newest:
    """Reads a source in a thread of its own. ``take`` is for one thread, the rest for any."""

    def __init__(self, source: Source, every: bool, clock: Callable[[], int]) -> None:
        """Nothing is read before ``start``.

        Args:
            source: See ``sources``; closed at the end.
            every: The source waits until its last frame is taken: none is dropped.
            clock: Nanoseconds, monotonic.
        """
        self._source = source
        self._every = every
        self._clock = clock
        self._changed = threading.Condition()
        self._slot: tuple[Frame, int] | None = None
        self._frames = self._dropped = 0
        self._awaited: int | None = None  # since when a frame is awaited
        self._error: BaseException | None = None
        self._stop = self._over = False
        # A daemon: where a source never returns, the process can still end.
        self._thread = threading.Thread(target=self._read, name="convcut-source", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._awaited = self._clock()
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the source has ended and its last frame is taken."""
        return self._over and self._slot is None

    def take(self, wait_s: float) -> tuple[Frame, int] | None:
        """The newest frame and when it arrived, by the clock; None when there is none within ``wait_s``.

        Raises:
            ConvcutError: The source failed, and all it gave before is taken. Said once.
        """
        with self._changed:
            if self._slot is None and not self._over:
                self._changed.wait(wait_s)
            taken, self._slot = self._slot, None
            if taken is not None:
                self._awaited = self._clock()
                self._changed.notify_all()
                return taken
            error, self._error = self._error, None
        if isinstance(error, ConvcutError):
            raise error
        if error is not None:
            raise InputError(f"the source failed: {type(error).__name__}: {error}") from error
        return None

    def intake(self) -> Intake:
        """The counts, of one moment."""
        with self._changed:
            waiting = self._awaited is not None and self._slot is None and not self._over
            silent = self._clock() - self._awaited if waiting and self._awaited is not None else 0
            return Intake(self._frames, self._dropped, silent / 1e9)

    def close(self) -> bool:
        """Ends the source and waits for its thread; again does nothing.

        Returns:
            Whether the thread ended; False after ``PATIENCE_S`` in a source that does not return.
        """
        with self._changed:
            first, self._stop = not self._stop, True
            self._changed.notify_all()
        if first:
            getattr(self._source, "stop", _nothing)()
        if self._thread.ident is None:
            if first:
                getattr(self._source, "close", _nothing)()
            return True
        if self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)
        with self._changed:
            self._dropped += self._slot is not None
            self._slot = None
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            iterator = iter(self._source)
            try:
                for number, item in enumerate(iterator):
                    if not self._put(as_frame(item, number)):
                        break
            finally:
                getattr(iterator, "close", _nothing)()
                if iterator is not self._source:
                    getattr(self._source, "close", _nothing)()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Keeps a frame; False when the stream has stopped instead."""
        with self._changed:
            if self._every:
                self._changed.wait_for(lambda: self._slot is None or self._stop)
            if self._stop:
                return False
            self._frames += 1
            self._dropped += self._slot is not None
            self._awaited = self._clock()
            self._slot = frame, self._awaited
            self._changed.notify_all()
        return True


def _nothing() -> None:
    pass
