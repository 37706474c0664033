"""Comparing engines: in turns inside an opening, and opened anew many times.

Two sessions of one engine differ from opening to opening, by where their memory happens to lie, far more than the
calls of one opening tell. So the unit that counts is the opening: all contenders are opened freshly, in random
order, and called in turns, in random blocks and their mirror images (ABBA): what else runs hits all alike.

Threads spin after a call in the hope of the next one: those of onnxruntime for 45 ms, those of torch for 3. They
would take a core from whoever is next, and the one that spins longest would win. So ``quiet`` waits in front of a
timed call until nothing spins, and makes a call first that does not count: it wakes the own threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import numpy as np

from convcut_trt.backends.base import Runnable
from convcut_trt.measuring import conditions
from convcut_trt.measuring.measure import Timings
from convcut_trt.measuring.quiet import until_quiet
from convcut_trt.measuring.timed import F32, F64, FIX, U8, Timed, asking, no_garbage_collection

LEAST = 8
"""Openings that a comparison needs."""
WARM_UP_SHARE = 0.1
"""Of an opening's time, before its timed calls."""


@dataclass(frozen=True)
class Contender:
    """Something to be compared.

    Attributes:
        name: For people and results; unlike that of every other contender.
        open: Opens it afresh.
        batches: Faces of the calls, each uint8 [B, S, S, 3], taken in turns.
        budget: Largest difference of a probability that is allowed.
        wanted: The right probabilities of each batch, float32 [B, K]; None takes the first answer to each.
        fix: What to do where it answers wrong; ends the message.
    """

    name: str
    open: Callable[[], AbstractContextManager[Runnable]]
    batches: Sequence[U8]
    budget: float
    wanted: Sequence[F32] | None = None
    fix: str = FIX


def opening(
    contenders: Sequence[Contender],
    seconds: float,
    random: np.random.Generator,
    quiet: bool = False,
    at_end: Callable[[], None] = lambda: None,
) -> dict[str, F64]:
    """Opens every contender and calls them in turns.

    Args:
        contenders: Two or more.
        seconds: Of the calls, a tenth of them to warm up.
        random: Draws the order of opening and of every block.
        quiet: Wait before each call until nobody's threads spin; for contenders with several.
        at_end: Called right after the last call, while all are open still.

    Returns:
        Name -> milliseconds, float64 [blocks, 2]: the call in the block, and the one in its mirror image.

    Raises:
        GateFailed: A wrong answer.
    """
    timed: dict[str, Timed] = {}
    with ExitStack() as stack:
        for place in random.permutation(len(contenders)):
            one = contenders[place]
            session = stack.enter_context(one.open())
            asks = asking(session, one.batches)
            timed[one.name] = Timed(one.name, asks, one.budget, one.wanted, one.fix)
        with no_garbage_collection():
            for _ in _until(seconds * WARM_UP_SHARE):
                _block(timed, random, quiet)
            blocks = [_block(timed, random, quiet) for _ in _until(seconds * (1 - WARM_UP_SHARE))]
        at_end()
    return {one.name: np.array([block[one.name] for block in blocks]) for one in contenders}


def _block(
    timed: Mapping[str, Timed], random: np.random.Generator, quiet: bool
) -> dict[str, list[float]]:
    order = random.permutation(list(timed))
    times: dict[str, list[float]] = {name: [] for name in timed}
    for name in (*order, *order[::-1]):
        if quiet:
            until_quiet()
            timed[name]()
        times[name].append(timed[name]())
    return times


def _until(seconds: float) -> Iterator[None]:
    """Goes on for some seconds, and at least once."""
    end = time.perf_counter() + seconds
    yield
    while time.perf_counter() < end:
        yield


class Versus:
    """A comparison, one opening after the other, every timed call quiet; it may end after any of them.

    Attributes:
        before: The machine before the first opening.
        after: The same right after the last call of the last one: what holds a GPU back is gone once it idles.
    """

    def __init__(
        self,
        contenders: Sequence[Contender],
        seconds: float,
        batch: int,
    ) -> None:
        """Nothing is opened yet.

        Args:
            contenders: Two or more, of different names.
            seconds: Of calls in each opening.
            batch: Faces in a call.
        """
        self._contenders, self._seconds, self._batch = tuple(contenders), seconds, batch
        self._random = np.random.default_rng(0)
        self._units: dict[str, list[F64]] = {one.name: [] for one in self._contenders}
        self.before = self.after = conditions.read()

    def open_again(self) -> None:
        """One more opening.

        Raises:
            GateFailed: A wrong answer.
        """
        samples = opening(
            self._contenders, self._seconds, self._random, quiet=True, at_end=self._look
        )
        for name, times in samples.items():
            self._units[name].append(of_blocks(times))

    def _look(self) -> None:
        self.after = conditions.read()

    @property
    def openings(self) -> int:
        """How many there were."""
        return len(self._units[self._contenders[0].name])

    @property
    def timings(self) -> Timings:
        """What they gave: the units are the openings."""
        units = {name: tuple(times) for name, times in self._units.items()}
        return Timings(self._batch, units, conditions.flags(self.before, self.after))


def of_blocks(times: F64) -> F64:
    """One time a block, from ``opening``'s [blocks, 2]: in the geometric mean of both calls, drifts cancel out."""
    means: F64 = np.exp(np.log(times).mean(axis=1))
    return means
