"""Ratios of times: their intervals, and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convcut_trt.measuring.measure import Ratio, Timings, log_ratio


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.03, 1.05, "faster"),
        (1.005, 1.05, "faster"),
        (0.95, 0.97, "slower"),
        (0.95, 0.999, "slower"),
        (0.985, 1.015, "same"),
        (1.001, 1.019, "same"),  # shown to be faster, by less than matters
        (0.982, 0.999, "same"),
        (0.97, 1.01, "inconclusive"),
        (0.99, 1.04, "inconclusive"),
        (0.0, math.inf, "inconclusive"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    assert Ratio((low + high) / 2, low, high).verdict == verdict


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [({}, "faster"), ({"busy": "others took 60% of the CPU"}, "inconclusive")],
)
def test_on_a_flagged_machine_nothing_is_shown(flags: dict[str, str], verdict: str) -> None:
    times = {"one": np.full(9, 1.0), "two": np.full(9, 2.0)}
    assert Timings(1, times, flags).verdict("one", "two") == verdict


def test_noise_is_not_a_difference() -> None:
    random = np.random.default_rng(1)
    rounds = {name: random.lognormal(0, 0.2, 21) for name in ("one", "two")}
    ratio = Timings(1, rounds).ratio("one", "two")
    assert ratio.low < 1 < ratio.high
    assert ratio.verdict == "inconclusive"


def test_what_slows_both_does_not_count() -> None:
    # A machine that is twice as slow for some rounds: the ratio within a round stays what it is.
    busy = np.repeat([1.0, 2.0, 5.0], 7)
    timings = Timings(1, {"one": busy, "two": 1.1 * busy})
    ratio = timings.ratio("one", "two")
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.1, 1.1, 1.1))
    assert timings.milliseconds("one") == 2
    assert timings.ratio("two", "one").verdict == "slower"


def test_a_unit_may_hold_any_number_of_pairs() -> None:
    random = np.random.default_rng(2)
    busy = [random.lognormal(0, 0.5, size) for size in (3, 40, 200, 7, 90, 31, 8, 60)]
    timings = Timings(4, {"one": busy, "two": [1.05 * unit for unit in busy]})
    assert timings.log_ratios("one", "two") == pytest.approx([math.log(1.05)] * 8)
    assert timings.ratio("one", "two").verdict == "faster"
    assert timings.rounds["one"] == pytest.approx([np.median(unit) for unit in busy])


def test_one_unit_says_nothing_of_the_spread() -> None:
    ratio = Timings(1, {"one": np.array([1.0]), "two": np.array([2.0])}).ratio("one", "two")
    assert ratio.value == pytest.approx(2)
    assert (ratio.low, ratio.high) == (0, math.inf)
    assert ratio.verdict == "inconclusive"


def test_an_outlier_in_one_pair_does_not_count() -> None:
    one, other = np.full(11, 2.0), np.full(11, 3.0)
    one[4], other[7] = 500.0, 0.1
    assert log_ratio(one, other) == pytest.approx(math.log(1.5))
