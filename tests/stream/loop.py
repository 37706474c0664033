"""An engine, a detector, a clock and cameras that are told what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from convcut_trt.health import Health
from convcut_trt.home import find_model
from convcut_trt.sources import Frame

SPEC = find_model("conv-cut-mini").spec
SECOND = 10**9


class FakeEngine:
    """Answers the first class the surer, the brighter the face; notes its batches."""

    spec = SPEC

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        self.batches: list[int] = []
        self._work = work

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(batch))
        self._work()
        first = batch.mean(axis=(1, 2, 3)) / 255
        rest = np.repeat((1 - first)[:, None] / 7, 7, axis=1)
        return {"probabilities": np.concatenate([first[:, None], rest], axis=1).astype(np.float32)}


class Boxes:
    """A detector that has found these boxes before it looks."""

    def __init__(self, *boxes: tuple[float, ...]) -> None:
        self._boxes = boxes

    def __call__(self, frame_rgb: np.ndarray) -> Any:
        assert frame_rgb.dtype == np.uint8 and frame_rgb.shape[2] == 3
        return self._boxes


class Clock:
    """Nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


def picture(level: int = 128, height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def frames(count: int, first: int = 0) -> list[Frame]:
    return [
        Frame(picture(number % 256), 7 * SECOND + number * SECOND // 30, "camera", number)
        for number in range(first, first + count)
    ]


def source_threads() -> int:
    return sum(thread.name == "convcut-source" for thread in threading.enumerate())


def balanced(health: Health) -> bool:
    return health.frames == health.processed + health.bad + health.dropped


class Silent:
    """A camera that gives frames when it is told to, and stops when asked to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.closed = 0
        self._stopped = False

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while self.go.acquire(timeout=10) and not self._stopped:
            yield Frame(picture(), number, sequence=number)
            number += 1

    def stop(self) -> None:
        self._stopped = True
        self.go.release()

    def close(self) -> None:
        self.closed += 1


def forever() -> Iterator[Frame]:
    number = 0
    while True:
        yield Frame(picture(), number, sequence=number)
        number += 1
