"""Temperature and rejection: known answers are found again, and what cannot be reached is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from convcut_trt.errors import InputError
from convcut_trt.stats import wilson
from export.calibration import (
    HIGHEST,
    LOWEST,
    MINIMUM_ANSWERS,
    choose_threshold,
    curve,
    fit_temperature,
    selective,
)
from export.metrics import figures

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def _drawn(temperature: float, count: int = 20_000) -> tuple[Floats, Labels]:
    """Logits, and labels drawn with the probabilities that these have at a temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(count, 5)) * 3
    below = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (random.random((count, 1)) > below).sum(axis=1).clip(max=4)
    return logits.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_drew_the_labels_is_found(temperature: float) -> None:
    logits, labels = _drawn(temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.03)
    assert fit_temperature(logits * 1.5, labels) == pytest.approx(1.5 * fitted, rel=1e-3)


def test_no_other_temperature_is_likelier_and_the_calibration_error_falls() -> None:
    logits, labels = _drawn(2.5, count=3000)
    fitted = fit_temperature(logits, labels)

    def at(temperature: float) -> dict[str, float]:
        return figures(softmax(logits / temperature, axis=1), labels)

    assert all(at(fitted)["nll"] < at(fitted * factor)["nll"] for factor in (0.9, 0.99, 1.01, 1.1))
    assert at(fitted)["ece"] < 0.02 < 0.15 < at(1.0)["ece"]


def test_without_a_mistake_and_without_a_clue_the_temperature_stays_within_bounds() -> None:
    logits = np.eye(4, dtype=np.float32) * 9
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(LOWEST, rel=0.05)
    assert fit_temperature(logits, np.arange(4)[::-1].copy()) == pytest.approx(HIGHEST, rel=1e-3)


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), "0 answers"),
        (np.zeros((4, 3)), np.zeros(3, np.int64), "3 labels"),
        (np.full((1, 3), np.nan), np.zeros(1, np.int64), "NaN"),
        (np.array([[0.0, np.inf]]), np.zeros(1, np.int64), "NaN"),
    ],
)
def test_logits_that_fit_nothing_are_refused(logits: Floats, labels: Labels, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        fit_temperature(logits.astype(np.float32), labels)


def _answers(sure: list[float], right: list[bool]) -> tuple[Floats, Labels]:
    """Two classes, the first always answered, as surely as said; it is the label where ``right``."""
    probabilities = np.array([[value, 1 - value] for value in sure], np.float32)
    return probabilities, np.where(right, 0, 1)


def test_the_curve_is_the_one_worked_out_by_hand() -> None:
    # Two are equally sure: they are answered together.
    sure, right = [0.6, 0.9, 0.8, 0.8, 0.7], [False, True, True, False, True]
    trade = curve(*_answers(sure, right))
    np.testing.assert_allclose(trade.threshold, [0.9, 0.8, 0.7, 0.6], rtol=1e-6)
    np.testing.assert_allclose(trade.coverage, [0.2, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(trade.accuracy, [1.0, 2 / 3, 3 / 4, 3 / 5])
    assert trade.area == pytest.approx(0.4 * 1 / 3 + 0.2 * 1 / 4 + 0.2 * 2 / 5)
    assert [point["coverage"] for point in trade.points()] == [0.2, 0.6, 0.8, 1.0]
    backwards = curve(*_answers(sure[::-1], right[::-1]))
    np.testing.assert_array_equal(backwards.right, trade.right)


def test_the_area_is_the_mean_risk_over_the_surest_answers() -> None:
    random = np.random.default_rng(0)
    sure = np.sort(random.uniform(0.5, 1, 1000))[::-1]
    right = random.random(1000) < sure
    trade = curve(*_answers(sure.tolist(), right.tolist()))
    risks = [1 - right[:count].mean() for count in range(1, 1001)]
    assert trade.area == pytest.approx(np.mean(risks), rel=1e-3)  # float32 makes a few equally sure
    points = trade.points()
    assert len(points) == 100
    assert points[-1]["accuracy"] == pytest.approx(right.mean())
    assert points[89]["coverage"] == pytest.approx(0.9, abs=2e-3)


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy() -> None:
    # The surest 50 are right, then every second one is.
    sure = np.linspace(0.99, 0.6, 100)
    right = [place < 50 or place % 2 == 1 for place in range(100)]
    probabilities, labels = _answers(sure.tolist(), right)
    trade = curve(probabilities, labels)
    threshold = choose_threshold(trade, 0.9)
    assert threshold is not None
    report = selective(probabilities, labels, threshold)
    # 62 answers with 56 right ones are the most with 90 % or more.
    assert (report["answered"], report["accuracy"]) == (62, 56 / 62)
    assert report["coverage"] == 0.62
    assert report["coverage_interval"] == list(wilson(62, 100))
    assert report["accuracy_interval"] == list(wilson(56, 62))
    assert choose_threshold(trade, 0.7) == 0.0
    assert selective(probabilities, labels, 0.0)["answered"] == 100


def test_an_accuracy_that_is_not_reached_has_no_threshold() -> None:
    right = [place >= 5 for place in range(100)]  # the surest are wrong
    probabilities, labels = _answers(np.linspace(0.99, 0.6, 100).tolist(), right)
    assert choose_threshold(curve(probabilities, labels), 0.96) is None
    # A few surest answers that happen to be right reach nothing.
    few = curve(probabilities[5:][: MINIMUM_ANSWERS - 1], labels[5:][: MINIMUM_ANSWERS - 1])
    assert choose_threshold(few, 0.5) is None
    assert choose_threshold(curve(probabilities[5:], labels[5:]), 0.96) == 0.0


def test_a_threshold_above_all_answers_gives_none() -> None:
    report = selective(*_answers([0.6, 0.7], [True, True]), 0.8)
    assert (report["answered"], report["coverage"]) == (0, 0.0)
    assert report["accuracy"] is report["accuracy_interval"] is None


@pytest.mark.parametrize("wanted", [0.0, 1.0, -1.0, 90.0, math.nan])
def test_an_accuracy_outside_0_to_1_is_refused(wanted: float) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        choose_threshold(curve(*_answers([0.6], [True])), wanted)
