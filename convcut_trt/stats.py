"""Statistics of the gates, the benchmark and the evaluation: how sure a measured share, change or figure is.

Two-sided intervals are 95 %, one-sided bounds 95 %. Everything is numpy and the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcut_trt.errors import InputError

F64 = NDArray[np.float64]

RESAMPLES = 2000
_TWO_SIDED = NormalDist().inv_cdf(0.975)
_ONE_SIDED = NormalDist().inv_cdf(0.95)
_CHUNK = 2**22  # weights held at once: 32 MB


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, JASA 22, 209-212; without continuity correction).

    Raises:
        InputError: No trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InputError(f"{successes} of {trials} is no share: give 0 to n of at least one trial")
    share, z2 = successes / trials, _TWO_SIDED**2
    spread = _TWO_SIDED * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    middle, scale = share + z2 / (2 * trials), 1 + z2 / trials
    # At none and at all of the trials one end is 0 or 1, but for rounding.
    low = (middle - spread) / scale if successes else 0.0
    high = (middle + spread) / scale if successes < trials else 1.0
    return low, high


def calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the likeliest class (Guo et al. 2017, ICML; bins of equal width).

    Args:
        probabilities: [N, K], rows sum to 1.
        labels: [N], 0 ... K - 1.
        bins: How many.

    Raises:
        InputError: No faces, or another number of labels.
    """
    shares, wanted = np.asarray(probabilities, np.float64), np.asarray(labels)
    if not len(shares) or len(shares) != len(wanted):
        raise InputError(
            f"a calibration error needs a label for each answer: {len(shares)} answers, {len(wanted)} labels"
        )
    surest = shares.max(axis=1)
    right = shares.argmax(axis=1) == wanted
    member = np.clip(np.ceil(surest * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(member, weights=right - surest, minlength=bins)
    return float(np.abs(gaps).sum() / len(shares))


@dataclass(frozen=True)
class PairedChange:
    """What became of the accuracy when the same images were answered twice.

    Attributes:
        images: n, all images.
        lost: b, right before and wrong now.
        gained: c, wrong before and right now.
        change: (c - b) / n.
        lower: One-sided 95 % lower bound of the change.
        margin: The lowest change that is acceptable, below 0.
        verdict: ``pass``: the bound is at or above the margin; ``fail``: the change itself is below it;
            ``not shown``: neither.
        images_needed: Where it is not shown, how many images would show it if the shares of lost and gained
            answers stay what they are; None elsewhere, and where the change is the margin itself.
    """

    images: int
    lost: int
    gained: int
    change: float
    lower: float
    margin: float
    verdict: str
    images_needed: int | None


def non_inferiority(lost: int, gained: int, images: int, margin: float) -> PairedChange:
    """Tests on McNemar's cells whether an accuracy fell by no more than a margin.

    The bound inverts Tango's score test (1998, Statistics in Medicine 17, 891-908), which Fagerland, Lydersen and
    Laake (2014, Statistics in Medicine 33, 2850-2875) recommend for any number of pairs. The textbook's
    change - 1.645 se is of no use here: where no answer changed it is 0 after a single image.

    Args:
        lost: Images answered right before and wrong now.
        gained: Images answered wrong before and right now.
        images: All images.
        margin: The lowest acceptable change of the accuracy, -0.003 for -0.3 points.

    Raises:
        InputError: Counts that do not fit each other, or a margin outside -1 ... 0.
    """
    if images < 1 or lost < 0 or gained < 0 or lost + gained > images:
        raise InputError(
            f"{lost} lost and {gained} gained answers do not fit {images} images: count the same images twice"
        )
    if not -1 < margin < 0:
        raise InputError(
            f"margin {margin} is no loss: give a share below 0, -0.003 for -0.3 points"
        )
    change = (gained - lost) / images
    lower = _lower_bound(lost, gained, images)
    verdict = "pass" if lower >= margin else "fail" if change < margin else "not shown"
    needed = None
    if verdict == "not shown" and change > margin:
        # At fixed shares the statistic grows with the root of the number of images.
        ratio = _ONE_SIDED / _tango(lost, gained, images, margin)
        needed = max(images + 1, math.ceil(images * ratio**2))
    return PairedChange(images, lost, gained, change, lower, margin, verdict, needed)


def _tango(lost: int, gained: int, images: int, change: float) -> float:
    """Tango's statistic, normal if ``change`` is the true one: above 0 where more was gained than that."""
    linear = (2 * images + lost - gained) * change - lost - gained
    spread = change * (1 - change)
    root = math.sqrt(max(0.0, linear**2 + 8 * images * lost * spread))
    share_lost = (root - linear) / (4 * images)  # the likeliest, given the change
    return (gained - lost - images * change) / math.sqrt(images * (2 * share_lost + spread))


def _lower_bound(lost: int, gained: int, images: int) -> float:
    low, high = -1.0, (gained - lost) / images
    for _ in range(60):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _tango(lost, gained, images, middle) > _ONE_SIDED:
            low = middle
        else:
            high = middle
    return low


def bootstrap(
    statistic: Callable[[F64], ArrayLike],
    rows: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> F64:
    """The 95 % percentile interval of a statistic (Efron and Tibshirani 1993, chapter 13).

    A resample is a weight for each row: how often it was drawn.

    Args:
        statistic: Maps weights float64 [R, rows] to [R] or [R, M] values, none of them NaN.
        rows: Number of rows.
        resamples: How many.
        seed: Of the draws.

    Returns:
        float64 [2] or [2, M]: the lower and the upper ends.

    Raises:
        InputError: No rows.
    """
    if rows < 1:
        raise InputError(f"a bootstrap needs rows: there are {rows}")
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, max(1, _CHUNK // rows)):
        count = min(max(1, _CHUNK // rows), resamples - start)
        drawn = generator.integers(rows, size=(count, rows)) + rows * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        parts.append(np.asarray(statistic(weights.astype(np.float64)), np.float64))
    ends: F64 = np.quantile(np.concatenate(parts), [0.025, 0.975], axis=0)
    return ends


def studentised(
    values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The symmetric 95 % bootstrap-t interval of a mean (Efron and Tibshirani 1993, section 12.5; Hall 1992, 3.5).

    For few values, as of a dozen openings: percentiles of resampled means are too narrow there (of 12 recorded
    openings they covered 87 %, these 97 %: ``bench/results/openings.md``).

    Args:
        values: [N], one for each unit that is drawn.
        resamples: How many.
        seed: Of the draws.

    Returns:
        Lower and upper end; minus and plus infinity for one value. Of two or three they are far apart.

    Raises:
        InputError: No values.
    """
    given = np.asarray(values, np.float64)
    count = len(given)
    if not count:
        raise InputError("a bootstrap needs rows: there are no values")
    if count == 1:
        return -math.inf, math.inf
    mean, error = float(given.mean()), float(_standard_error(given[None])[0])
    if error == 0:
        return mean, mean
    drawn = given[np.random.default_rng(seed).integers(count, size=(resamples, count))]
    # A resample of one value again and again knows nothing of its own error: it is not taken for none.
    errors = np.maximum(_standard_error(drawn), error / 1000)
    shares = np.abs(drawn.mean(axis=1) - mean) / errors
    half = float(np.quantile(shares, 0.95, method="higher")) * error
    return mean - half, mean + half


def _standard_error(rows: F64) -> F64:
    """Of the mean of each row."""
    count = rows.shape[1]
    errors: F64 = rows.std(axis=1, ddof=1) / math.sqrt(count)
    return errors
