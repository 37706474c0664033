"""Statistics: against published intervals, exact enumeration, and simulations with a fixed seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt import stats
from convcut_trt.errors import InputError
from convcut_trt.stats import bootstrap, non_inferiority, wilson

F64 = NDArray[np.float64]


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 30), (17, 30), (2375, 2870)])
def test_wilsons_interval_is_scipys(successes: int, trials: int) -> None:
    reference = pytest.importorskip("scipy.stats").binomtest(successes, trials)
    ends = reference.proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_wilsons_interval_is_the_one_worked_out_by_hand() -> None:
    # 3 of 4: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert wilson(3, 4) == pytest.approx((0.30064, 0.95441), abs=1e-5)


def test_none_and_all_are_possible_to_the_last_digit() -> None:
    for trials in range(1, 200):
        assert wilson(0, trials)[0] == 0
        assert wilson(trials, trials)[1] == 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 5)])
def test_counts_that_are_no_share_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(InputError, match="no share"):
        wilson(successes, trials)


def test_the_bound_is_tangos_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airway reactivity before and after a transplantation (Bentur et al. 2009), as given by Fagerland, Lydersen
    # and Laake (2014): 21 pairs, 7 against 1; two-sided 95 % interval of the difference -0.517 to -0.026.
    monkeypatch.setattr(stats, "_ONE_SIDED", 1.959964)
    assert non_inferiority(7, 1, 21, -0.9).lower == pytest.approx(-0.517, abs=5e-4)
    assert -non_inferiority(1, 7, 21, -0.9).lower == pytest.approx(-0.026, abs=5e-4)


@pytest.mark.parametrize(("lost", "gained", "images"), [(7, 1, 21), (0, 3, 50), (20, 18, 5816)])
def test_at_the_bound_the_likeliest_shares_lie_1645_deviations_off(
    lost: int, gained: int, images: int
) -> None:
    lower = non_inferiority(lost, gained, images, -0.5).lower
    # The likeliest share of lost answers when gained - lost is fixed, by trying a hundred thousand.
    share = np.linspace(max(0.0, -lower), (1 - lower) / 2, 100_001)[1:-1]
    likelihood = (
        lost * np.log(share)
        + gained * np.log(share + lower)
        + (images - lost - gained) * np.log(1 - 2 * share - lower)
    )
    best = share[likelihood.argmax()]
    deviation = math.sqrt((2 * best + lower - lower**2) / images)
    assert ((gained - lost) / images - lower) / deviation == pytest.approx(1.6449, rel=2e-3)


@pytest.mark.parametrize("images", [1, 256, 5816])
def test_where_nothing_changed_the_bound_still_is_not_zero(images: int) -> None:
    change = non_inferiority(0, 0, images, -0.003)
    assert change.lower == pytest.approx(-(1.644854**2) / (images + 1.644854**2), rel=1e-5)


@pytest.mark.parametrize(
    ("images", "lost", "gained"), [(100, 0.03, 0.02), (300, 0.02, 0.02), (300, 0.05, 0.01)]
)
def test_the_bound_holds_in_95_of_100_cases(images: int, lost: float, gained: float) -> None:
    """Exact: over every pair of cells that has a probability worth counting."""
    covered = total = 0.0
    factorials = [math.lgamma(number + 1) for number in range(images + 1)]
    for b in range(41):
        for c in range(41):
            probability = math.exp(
                factorials[images]
                - factorials[b]
                - factorials[c]
                - factorials[images - b - c]
                + b * math.log(lost)
                + c * math.log(gained)
                + (images - b - c) * math.log(1 - lost - gained)
            )
            if probability > 1e-7:
                total += probability
                covered += probability * (
                    non_inferiority(b, c, images, -0.5).lower <= gained - lost
                )
    assert total > 0.9999
    assert 0.935 <= covered <= 0.985


@pytest.mark.parametrize(
    ("lost", "gained", "images", "verdict"),
    [
        (20, 18, 5816, "pass"),
        (0, 0, 900, "pass"),
        (0, 0, 256, "not shown"),
        (30, 25, 3000, "not shown"),
        (3, 0, 1000, "not shown"),  # the margin itself
        (4, 0, 1000, "fail"),
        (1, 0, 1, "fail"),
    ],
)
def test_verdicts(lost: int, gained: int, images: int, verdict: str) -> None:
    change = non_inferiority(lost, gained, images, -0.003)
    assert change.verdict == verdict
    assert (change.lost, change.gained, change.images) == (lost, gained, images)
    assert change.margin == -0.003
    assert change.change == pytest.approx((gained - lost) / images)
    assert change.lower <= change.change
    decides = verdict == "not shown" and change.change > -0.003
    assert (change.images_needed is not None) == decides


def test_a_bound_at_the_margin_passes() -> None:
    lower = non_inferiority(6, 5, 1000, -0.003).lower
    assert non_inferiority(6, 5, 1000, lower).verdict == "pass"
    assert non_inferiority(6, 5, 1000, math.nextafter(lower, 0)).verdict == "not shown"


def test_the_number_of_images_that_would_decide_does() -> None:
    for images in (1, 10, 256, 899):
        assert non_inferiority(0, 0, images, -0.003).images_needed == 900
    assert non_inferiority(0, 0, 900, -0.003).verdict == "pass"
    assert non_inferiority(0, 0, 899, -0.003).verdict == "not shown"
    # 6 lost and 5 gained of 1,000, and the same shares of more.
    needed = non_inferiority(6, 5, 1000, -0.003).images_needed
    assert needed is not None
    enough = math.ceil(needed / 1000)
    assert non_inferiority(6 * enough, 5 * enough, 1000 * enough, -0.003).verdict == "pass"
    less = enough - 1
    assert non_inferiority(6 * less, 5 * less, 1000 * less, -0.003).verdict == "not shown"


@pytest.mark.parametrize(
    ("lost", "gained", "images", "margin", "said"),
    [
        (0, 0, 0, -0.003, "do not fit 0 images"),
        (-1, 0, 10, -0.003, "-1 lost"),
        (0, -1, 10, -0.003, "-1 gained"),
        (6, 5, 10, -0.003, "do not fit 10 images"),
        (0, 0, 10, 0.003, "0.003 is no loss"),
        (0, 0, 10, 0.0, "no loss"),
        (0, 0, 10, -1.0, "no loss"),
        (0, 0, 10, math.nan, "no loss"),
    ],
)
def test_cells_and_margins_that_make_no_sense_are_refused(
    lost: int, gained: int, images: int, margin: float, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        non_inferiority(lost, gained, images, margin)


def _mean(values: F64) -> Callable[[F64], F64]:
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(10, 2, 1000)
    low, high = bootstrap(_mean(values), 1000)
    error = values.std() / math.sqrt(1000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_rows_of_a_median_and_of_two_statistics_at_once() -> None:
    values = np.arange(101.0)

    def both(weights: F64) -> F64:
        half = weights.cumsum(axis=1) >= weights.sum(axis=1, keepdims=True) / 2
        return np.stack([values[half.argmax(axis=1)], _mean(values)(weights)], axis=1)

    ends = bootstrap(both, 101)
    assert ends.shape == (2, 2)
    assert (ends[0] < 50).all() and (ends[1] > 50).all()
    # A median is less sure than a mean of the same, even values.
    assert ends[1, 0] - ends[0, 0] > ends[1, 1] - ends[0, 1]


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_a_resample_is_as_many_draws_as_there_are_rows(rows: int) -> None:
    seen: list[F64] = []

    def watched(weights: F64) -> F64:
        seen.append(weights)
        return weights[:, 0]

    low, high = bootstrap(watched, rows)
    weights = np.concatenate(seen)
    assert weights.shape == (2000, rows)
    assert (weights.sum(axis=1) == rows).all()
    # How often one row is drawn is binomial: rows times, with a probability of 1 / rows.
    assert weights.mean(axis=0) == pytest.approx(np.ones(rows), abs=0.1)
    assert weights.var(axis=0) == pytest.approx(np.full(rows, 1 - 1 / rows), abs=0.2)
    assert (low, high) == ((1, 1) if rows == 1 else (0, {2: 2, 30: 3}[rows]))


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=50)
    first = bootstrap(_mean(values), 50)
    assert (bootstrap(_mean(values), 50, seed=1) != first).any()
    monkeypatch.setattr(stats, "_CHUNK", 333 * 50)
    np.testing.assert_array_equal(bootstrap(_mean(values), 50), first)


@pytest.mark.parametrize("rows", [0, -1])
def test_no_rows_are_refused(rows: int) -> None:
    with pytest.raises(InputError, match="needs rows"):
        bootstrap(lambda weights: weights.sum(axis=1), rows)


def test_the_calibration_error_is_the_gap_between_sureness_and_truth() -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    labels = np.array([0] * 9 + [1])
    assert stats.calibration_error(sure, labels) == pytest.approx(0, abs=1e-12)
    assert stats.calibration_error(sure, np.zeros(10, int)) == pytest.approx(0.1)
    assert stats.calibration_error(np.array([[1.0, 0.0]]), [1]) == 1
    two = np.array(
        [[0.6, 0.4]] * 2 + [[0.95, 0.05]] * 2
    )  # in two bins, whose gaps do not cancel out
    assert stats.calibration_error(two, [0, 0, 1, 0]) == pytest.approx((0.4 + 0.45) / 2)


@pytest.mark.parametrize("bins", [15, 10])
def test_every_answer_is_in_the_bin_of_its_sureness(bins: int) -> None:
    random = np.random.default_rng(0)
    # Of 20 classes, so that some are less sure than the first bin is wide; and the surest there can be.
    answers = np.concatenate(
        [random.dirichlet([each] * 20, 100) for each in (0.01, 0.1, 1, 100)] + [np.eye(20)]
    ).astype(np.float16)
    exact = answers.astype(np.float64)  # float16 has not the digits to add them up
    # Right in every other bin: the gaps of neighbours have other signs, and would cancel out in one bin.
    likely, other = exact.argmax(axis=1), np.ceil(exact.max(axis=1) * bins) % 2
    labels = (likely + other.astype(int)) % 20
    surest, right = exact.max(axis=1), exact.argmax(axis=1) == labels
    assert surest.min() < 1 / 15 and surest.max() == 1
    expected = 0.0
    for number in range(bins):
        inside = (surest > number / bins) & (surest <= (number + 1) / bins)
        expected += abs(right[inside].sum() - surest[inside].sum()) / len(answers)
    given = [] if bins == 15 else [bins]
    assert stats.calibration_error(answers, labels, *given) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("answers", "labels"), [(np.zeros((0, 3)), []), (np.ones((2, 2)), [0])])
def test_a_calibration_error_needs_labels(answers: np.ndarray, labels: list[int]) -> None:
    with pytest.raises(InputError, match="needs a label for each answer"):
        stats.calibration_error(answers, labels)


def test_the_studentised_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(10, 2, 1000)
    low, high = stats.studentised(values)
    error = values.std() / math.sqrt(1000)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_studentised_interval_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).normal(10, 2, 12).astype(np.float16)
    first = stats.studentised(values)
    assert stats.studentised(values) == stats.studentised(values, seed=0) == first
    assert stats.studentised(values, seed=1) != first
    assert stats.studentised(values.astype(np.float64)) == first  # nothing is added up in float16


@pytest.mark.parametrize("count", [8, 12])
@pytest.mark.parametrize("kind", ["normal", "laplace"])
def test_the_studentised_interval_holds_for_few_values(count: int, kind: str) -> None:
    random = np.random.default_rng(3)
    held = percentiles = 0
    for _ in range(400):
        values = getattr(random, kind)(0, 1, count)
        low, high = stats.studentised(values, resamples=500)
        held += low <= 0 <= high
        low, high = bootstrap(_mean(values), count, resamples=500)
        percentiles += low <= 0 <= high
    assert 0.93 <= held / 400 <= 0.99
    assert percentiles < held  # why there is another


def test_values_that_say_nothing_of_their_error() -> None:
    assert stats.studentised([3.0]) == (-math.inf, math.inf)
    assert stats.studentised([1.5] * 8) == (1.5, 1.5)
    # Of two values half of the resamples are one of them twice.
    low, high = stats.studentised([1.0, 2.0])
    assert low < -100
    assert high > 100
    # The same but for rounding, seven of them to the last bit.
    low, high = stats.studentised([0.7] * 7 + [0.7 + 1e-12])
    assert 0.7 - 1e-8 < low < high < 0.7 + 1e-8
    with pytest.raises(InputError, match="^a bootstrap needs rows: there are no values$"):
        stats.studentised([])
