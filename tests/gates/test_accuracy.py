"""Gates on labelled faces: a loss is shown, excluded, or said to be open; small classes are counted only."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt import gates
from convcut_trt.gates import Gate
from convcut_trt.gates.accuracy import CLASS_IMAGES, check_labelled

CLASSES = ("neutral", "happiness", "contempt")
LIMITS = gates.budgets("fp16")


def answers(labels: NDArray[np.int64], wrong: int, sure: float = 0.65) -> NDArray[np.float32]:
    """Probabilities that are ``sure`` of the label, of the next class for the first ``wrong`` faces."""
    given = np.where(np.arange(len(labels)) < wrong, (labels + 1) % len(CLASSES), labels)
    rest = (1 - sure) / (len(CLASSES) - 1)
    return np.where(np.eye(len(CLASSES))[given] > 0, sure, rest).astype(np.float32)


def check(
    labels: NDArray[np.int64],
    before: int,
    after: int,
    precision: str = "fp16",
) -> dict[str, Gate]:
    found = check_labelled(
        answers(labels, after), answers(labels, before), labels, CLASSES, gates.budgets(precision)
    )
    return {gate.name: gate for gate in found}


def of_classes(*counts: int) -> NDArray[np.int64]:
    """Labels, so many of each class, the rarest first."""
    return np.repeat(np.arange(len(counts)), counts)[::-1].copy()


def test_fp32_has_no_such_gates() -> None:
    labels = of_classes(5, 5)
    assert check(labels, 0, 5, "fp32") == {}


def test_without_labels_they_are_not_run_and_say_what_measures_them() -> None:
    given = answers(of_classes(5, 5), 0)
    found = check_labelled(given, given, None, CLASSES, LIMITS)
    assert [gate.name for gate in found] == ["accuracy", "classes", "calibration"]
    for gate in found:
        assert (gate.value, gate.verdict) == (None, "not run")
        assert "--data FACES" in gate.detail


@pytest.mark.parametrize(
    ("faces", "before", "after", "verdict"),
    [
        (5816, 0, 0, "pass"),
        (5816, 900, 880, "pass"),  # a gain
        (5816, 0, 5, "pass"),
        (5816, 0, 12, "not shown"),  # lost 0.2 points, up to 0.33 by chance
        (5816, 0, 18, "fail"),  # the estimate itself is below -0.3 points
        (5816, 0, 600, "fail"),
        (400, 0, 0, "not shown"),  # nothing changed, and 400 faces do not exclude that it would
        (400, 0, 2, "fail"),
        (1, 0, 0, "not shown"),
        (1, 0, 1, "fail"),
    ],
)
def test_accuracy_is_lost_kept_or_open(faces: int, before: int, after: int, verdict: str) -> None:
    gate = check(of_classes(faces), before, after)["accuracy"]
    assert gate.verdict == verdict, gate
    assert gate.budget == -0.003
    assert (
        f"of {faces}, {max(0, after - before)} lost, {max(0, before - after)} gained" in gate.detail
    )
    assert ("faces would show it" in gate.detail) == (verdict == "not shown")


def test_the_number_of_faces_that_would_show_it_does() -> None:
    gate = check(of_classes(400), 0, 0)["accuracy"]
    needed = int(gate.detail.rpartition("; ")[2].split()[0])
    assert check(of_classes(needed), 0, 0)["accuracy"].verdict == "pass"
    assert check(of_classes(needed - 2), 0, 0)["accuracy"].verdict == "not shown"


def test_each_precision_has_its_own_margin() -> None:
    labels = of_classes(5816)
    verdicts = {kind: check(labels, 0, 18, kind)["accuracy"].verdict for kind in ("fp16", "int8")}
    assert verdicts == {"fp16": "fail", "int8": "pass"}


def test_a_class_that_is_shown_to_lose_fails_however_good_the_rest() -> None:
    found = check(of_classes(20000, 200), 0, 20)  # the first 20 are of the second class
    assert found["accuracy"].verdict == "pass"
    gate = found["classes"]
    assert gate.verdict == "fail"
    assert gate.value == pytest.approx(-0.1)
    assert gate.detail == "worst: happiness, 20 lost and 0 gained of 200"


@pytest.mark.parametrize(
    ("faces", "wrong", "verdict"),
    [(5000, 0, "pass"), (5000, 20, "pass"), (200, 1, "not shown"), (200, 5, "not shown")],
)
def test_what_a_class_may_lose_by_chance_fails_nothing(
    faces: int, wrong: int, verdict: str
) -> None:
    gate = check(of_classes(0, faces), 0, wrong)["classes"]
    assert gate.verdict == verdict, gate


def test_small_classes_are_counted_only() -> None:
    few = CLASS_IMAGES - 1
    gate = check(of_classes(5000, 0, few), 0, few)["classes"]
    assert gate.verdict == "pass"
    assert gate.detail.endswith(f"under {CLASS_IMAGES} faces: contempt -{few} of {few}")
    alone = check(of_classes(few), 0, few)["classes"]
    assert (alone.value, alone.verdict) == (None, "not shown")
    assert f"neutral -{few} of {few}" in alone.detail


def test_probabilities_that_are_surer_than_right_are_seen_where_no_label_changes() -> None:
    labels = of_classes(1000, 1000)
    wanted = answers(labels, 700)  # 65 % sure, 65 % right
    limits = gates.budgets("int8")
    found = {
        sure: check_labelled(answers(labels, 700, sure), wanted, labels, CLASSES, limits)
        for sure in (0.66, 0.95)
    }
    for sure, verdict in ((0.66, "pass"), (0.95, "fail")):
        accuracy, classes, calibration = found[sure]
        assert (accuracy.verdict, classes.verdict) == ("pass", "pass")
        assert calibration.verdict == verdict
        assert calibration.value == pytest.approx(sure - 0.65, abs=1e-3)
