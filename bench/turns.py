"""Times ways of doing one piece of GPU work against each other: in turns, each checked before it counts."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import ConvcutError, CudaError
from convcut_trt.gpu.driver import Cuda, Stream
from convcut_trt.gpu.resources import Resources
from convcut_trt.measuring.measure import Ratio, Timings

WAITED, BACK_TO_BACK, IN_GRAPH = "waited", "back to back", "in a graph"
WAYS = (WAITED, BACK_TO_BACK, IN_GRAPH)
"""waited: one call from Python until its answer is there. back to back: calls from Python one behind the other,
waited for once, divided. in a graph: GPU time between two events of many runs in one CUDA graph, divided."""
_KEPT = 12  # samples that a result keeps of each series
_LINE = 300  # characters of an error
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/]+/)+")  # of an absolute path


class Wrong(ConvcutError):
    """What was computed is not what it should be."""

    exit_code = 1


@dataclass(frozen=True)
class Effort:
    """How long a comparison takes.

    Attributes:
        rounds: In each of which every method has a turn in every way.
        slot_s: Seconds of a turn, about.
        most: Samples of a turn at most.
        runs: Runs in a graph, and calls back to back, that make one sample.
    """

    rounds: int = 11
    slot_s: float = 0.002
    most: int = 20
    runs: int = 32


class Method(Protocol):
    """One way to do the work. Everything it enqueues goes to the stream of the meter."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def ways(self) -> tuple[str, ...]:
        """Those of ``WAYS`` in which it can be timed."""

    def call(self) -> object:
        """Does it once, or enqueues it."""

    def capture(self, runs: int) -> Callable[[], object]:
        """Records it ``runs`` times as one CUDA graph; what is returned launches that."""

    def poison(self) -> None:
        """Fills the outputs with what no answer is."""

    def check(self) -> float:
        """The error of the outputs; raises Wrong where it is too large."""


class Meter:
    """Takes samples, in microseconds. The GPU's context has to be current for every call."""

    def __init__(self, cuda: Cuda, stream: Stream, resources: Resources) -> None:
        self.cuda, self.stream = cuda, stream
        self._events = [cuda.check(cuda.api.cuEventCreate(0), "cuEventCreate") for _ in range(2)]
        for event in self._events:
            resources.owns(partial(cuda.api.cuEventDestroy, event))

    def wait(self) -> None:
        """Until everything on the stream is done."""
        self.cuda.synchronize(self.stream.handle)

    def waited(self, call: Callable[[], object]) -> float:
        """One call, until the GPU is done with it."""
        start = time.perf_counter_ns()
        call()
        self.wait()
        return (time.perf_counter_ns() - start) / 1e3

    def back_to_back(self, call: Callable[[], object], runs: int) -> float:
        """A call of many."""
        start = time.perf_counter_ns()
        for _ in range(runs):
            call()
        self.wait()
        return (time.perf_counter_ns() - start) / 1e3 / runs

    def on_gpu(self, launch: Callable[[], object], runs: int) -> float:
        """GPU time of one of the runs in a launch."""
        first, last = self._events
        launch()  # keeps the GPU busy while the host enqueues what is timed
        self._record(first)
        launch()
        self._record(last)
        self.wait()
        api = self.cuda.api
        passed = self.cuda.check(api.cuEventElapsedTime(first, last), "cuEventElapsedTime")
        return float(passed) * 1e3 / runs

    def _record(self, event: Any) -> None:
        answer = self.cuda.api.cuEventRecord(event, self.stream.handle)
        self.cuda.check(answer, "cuEventRecord")


@dataclass(frozen=True)
class Comparison:
    """What was found of each method.

    Attributes:
        samples: Way -> method -> microseconds, float64 [rounds, n].
        errors: Method -> the larger error of its call and its graph.
        reasons: Method -> why it was not measured.
        wrong: The methods among ``reasons`` that answered wrong.
    """

    samples: Mapping[str, Mapping[str, NDArray[np.float64]]]
    errors: Mapping[str, float]
    reasons: Mapping[str, str]
    wrong: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """Method -> way -> median, 90th and 99th percentile and a few samples; or why there are none."""
        found: dict[str, Any] = {name: {"reason": text} for name, text in self.reasons.items()}
        for name, error in self.errors.items():
            found[name] = {"error": error}
            for way, series in self.samples.items():
                if name in series:
                    found[name][way] = _figures(series[name].ravel())
        return found

    def ratio(self, way: str, name: str, other: str) -> Ratio | None:
        """How many times as fast one method is as another; None where one was not measured."""
        series = self.samples[way]
        if name not in series or other not in series:
            return None
        medians = {key: np.median(series[key], axis=1) / 1e3 for key in (name, other)}
        return Timings(0, medians).ratio(name, other)


def compare(
    meter: Meter, methods: Sequence[Method], effort: Effort, random: np.random.Generator
) -> Comparison:
    """Checks every method, then times them in rounds of random order.

    A method that fails or answers wrong is left out, and its reason is told.

    Raises:
        CudaError: The context is lost.
    """
    turns: list[tuple[str, str, Callable[[], float], int]] = []
    errors: dict[str, float] = {}
    reasons: dict[str, str] = {}
    wrong: list[str] = []
    for method in methods:
        try:
            ready, errors[method.name] = _ready(meter, method, effort)
            turns += ready
        except Wrong as error:
            wrong.append(method.name)
            reasons[method.name] = one_line(error)
        # Whatever a library raises: the others are still to be measured.
        except Exception as error:
            if isinstance(error, CudaError) and error.fatal:
                raise
            reasons[method.name] = one_line(error)
    taken: dict[str, dict[str, list[list[float]]]] = {way: {} for way in WAYS}
    with _no_garbage_collection():
        for _ in range(effort.rounds):
            for place in random.permutation(len(turns)):
                way, name, sample, count = turns[place]
                taken[way].setdefault(name, []).append([sample() for _ in range(count)])
    samples = {
        way: {name: np.array(rounds) for name, rounds in series.items()}
        for way, series in taken.items()
    }
    return Comparison(samples, errors, reasons, tuple(wrong))


def _ready(
    meter: Meter, method: Method, effort: Effort
) -> tuple[list[tuple[str, str, Callable[[], float], int]], float]:
    """Way, name, what takes a sample, and samples of a turn; and the error."""
    error = _checked(meter, method, method.call)
    samplers: dict[str, Callable[[], float]] = {
        WAITED: lambda: meter.waited(method.call),
        BACK_TO_BACK: lambda: meter.back_to_back(method.call, effort.runs),
    }
    if IN_GRAPH in method.ways:
        launch = method.capture(effort.runs)
        error = max(error, _checked(meter, method, launch))
        samplers[IN_GRAPH] = lambda: meter.on_gpu(launch, effort.runs)
    turns = []
    for way in method.ways:
        sampler = samplers[way]
        sampler()  # the first is slow
        start = time.perf_counter()
        sampler()
        count = effort.slot_s / max(time.perf_counter() - start, 1e-9)
        turns.append((way, method.name, sampler, int(min(max(count, 1), effort.most))))
    return turns, error


def _checked(meter: Meter, method: Method, launch: Callable[[], object]) -> float:
    for _ in range(3):  # compilers and caches need a few
        launch()
    method.poison()
    launch()
    meter.wait()
    return method.check()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _figures(samples: NDArray[np.float64]) -> dict[str, Any]:
    p50, p90, p99 = np.percentile(samples, (50, 90, 99))
    kept = samples[np.linspace(0, len(samples) - 1, min(_KEPT, len(samples))).astype(int)]
    return {
        "p50": round(float(p50), 3),
        "p90": round(float(p90), 3),
        "p99": round(float(p99), 3),
        "samples": [round(float(sample), 3) for sample in kept],
        "of": len(samples),
    }


def one_line(error: BaseException) -> str:
    """Kind and text of an error, without what only its machine knows."""
    text = _FOLDERS.sub("", " ".join(f"{type(error).__name__}: {error}".split()))
    return text if len(text) <= _LINE else text[: _LINE - 4] + " ..."
