"""The thread in which a node's answers are made, and how they get to the thread that spins the node.

Inference takes milliseconds, callbacks of a node must not: while one runs, a single-threaded executor hears no
other topic, timer or lifecycle service, and a multi-threaded one would run inferences over each other and publish
them out of order. So callbacks only keep the newest data; one worker thread answers; and it hands each answer to
the executor's thread, which publishes it. The worker waits until the answer is taken: where publishing is slow,
images are dropped before they are answered, and counted there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.newest import PATIENCE_S


class Answers(Protocol):
    """What makes the answers: waits for data, and yields; a ``Stream`` is one."""

    def __iter__(self) -> Iterator[Any]:
        """Runs in the worker's thread."""

    def stop(self) -> None:
        """Ends the iteration after the answer in work; from any thread, returns at once."""


class Worker:
    """Iterates answers in a thread. All its methods are for the executor's thread.

    Attributes:
        rate: Answers per second at most; 0 is no limit.
        error: What ended the answers, if anything did; one sentence.
    """

    def __init__(self, answers: Answers, rate: float, wake: Callable[[], None]) -> None:
        """Does nothing before ``start``.

        Args:
            answers: Iterated once.
            rate: See above.
            wake: Called in the worker's thread when there is something to ``take``, or an error.
        """
        self.rate = rate
        self.error: ConvcutError | None = None
        self._answers, self._wake = answers, wake
        self._changed = threading.Condition()
        self._answer: Any = None
        self._stopping = False
        # A daemon: where an inference never returns, the process can still end.
        self._thread = threading.Thread(target=self._run, name="convcut-answers", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def take(self) -> Any:
        """The answer that waits, or None."""
        with self._changed:
            answer, self._answer = self._answer, None
            self._changed.notify_all()
        return answer

    def stop(self) -> bool:
        """Ends the thread; what is not taken yet is lost.

        Returns:
            Whether it ended; False after ``newest.PATIENCE_S`` in an inference that does not return.
        """
        self._answers.stop()
        with self._changed:
            self._stopping, self._answer = True, None
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for answer in self._answers:
                if not self._give(answer):
                    return
        except ConvcutError as error:
            self.error = error
        except Exception as error:
            self.error = InputError(f"the node failed: {type(error).__name__}: {error}")
        self._wake()

    def _give(self, answer: Any) -> bool:
        """Waits until the answer is taken, and for the next one's time; False when the worker stops instead."""
        given = time.monotonic()
        with self._changed:
            if self._stopping:
                return False
            self._answer = answer
        self._wake()
        with self._changed:
            self._changed.wait_for(lambda: self._answer is None or self._stopping)
            if self.rate:
                rest = given + 1 / self.rate - time.monotonic()
                self._changed.wait_for(lambda: self._stopping, max(0.0, rest))
            return not self._stopping
