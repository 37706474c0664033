"""Timing in pairs: the ratio of two engines, and when it is said to be one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt import measure
from convcut_trt.measure import Timings, paired

FACES = np.zeros((2, 4, 4, 3), np.uint8)


class Clock:
    """Stands in for ``time``: goes on when something is done, not when the machine is busy with other things."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6  # reading it takes time too
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "time", CLOCK)


class Sleeper:
    """A session that takes a known time, and notes when it was asked."""

    outputs = ("map",)

    def __init__(self, seconds: float, name: str, log: list[str]) -> None:
        self.seconds, self.name, self.log = seconds, name, log

    def run(self, images: NDArray[np.uint8], out: Any = None) -> dict[str, NDArray[np.float32]]:
        assert len(images) == len(FACES)
        self.log.append(self.name)
        CLOCK.now += self.seconds
        return {}

    def close(self) -> None: ...

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *error: object) -> None: ...


def test_the_slower_of_two_is_told_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 9)
    log: list[str] = []
    told: list[tuple[str, int, int]] = []
    sessions = {"one": Sleeper(0.004, "one", log), "two": Sleeper(0.008, "two", log)}
    timings = paired(sessions, FACES, lambda *args: told.append(args))
    assert timings.batch == 2
    assert {name: len(values) for name, values in timings.rounds.items()} == {"one": 9, "two": 9}
    assert timings.milliseconds("one") == pytest.approx(4, rel=0.5)
    ratio = timings.ratio("one", "two")
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(2, rel=0.3)
    assert ratio.faster
    assert not timings.ratio("two", "one").faster
    assert told[0] == ("timing, batch 2", 0, 9)
    assert told[-1] == ("timing, batch 2", 9, 9)


def test_they_take_turns_in_no_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 12)
    monkeypatch.setattr(measure, "WARM_UP_S", 0.0)
    monkeypatch.setattr(measure, "SLOT_S", 0.0)
    log: list[str] = []
    names = ["one", "two", "three"]
    paired({name: Sleeper(0.0, name, log) for name in names}, FACES, lambda *args: None)
    rounds = [
        tuple(log[i : i + 3]) for i in range(3, len(log), 3)
    ]  # after one call each to warm up
    assert len(rounds) == 12
    assert all(sorted(turn) == sorted(names) for turn in rounds)
    assert len(set(rounds)) > 1


def test_noise_is_not_a_difference() -> None:
    random = np.random.default_rng(1)
    rounds = {name: random.lognormal(0, 0.2, 21) for name in ("one", "two")}
    ratio = Timings(1, rounds).ratio("one", "two")
    assert ratio.low < 1 < ratio.high
    assert not ratio.faster


def test_what_slows_both_does_not_count() -> None:
    # A machine that is twice as slow for some rounds: the ratio within a round stays what it is.
    busy = np.repeat([1.0, 2.0, 5.0], 7)
    ratio = Timings(1, {"one": busy, "two": 1.1 * busy}).ratio("one", "two")
    assert ratio.value == pytest.approx(1.1)
    assert (ratio.low, ratio.high) == pytest.approx((1.1, 1.1))
