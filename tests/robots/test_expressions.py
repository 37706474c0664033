"""What is said of a face: ROS4HRI's words, no words where it has none, and boxes in both conventions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt.datasets.ferplus import CLASSES
from convcut_trt.errors import InputError
from convcut_trt.robots import messages as m
from convcut_trt.robots.expressions import (
    UNKNOWN,
    Box,
    classification,
    detection,
    expression,
    label_info,
    region,
    ros_label,
)
from tests.robots.cases import STAMP

WORDS = ("neutral", "happy", "surprised", "sad", "angry", "disgusted", "scared", "contempt")


def certain(name: str, probability: float = 0.9) -> NDArray[np.float32]:
    """Probabilities with most of it on one class."""
    rest = (1 - probability) / (len(CLASSES) - 1)
    return np.array([probability if c == name else rest for c in CLASSES], np.float32)


@pytest.mark.parametrize(("name", "word"), list(zip(CLASSES, WORDS, strict=True)))
def test_words(name: str, word: str) -> None:
    assert ros_label(name) == word
    said = expression(name, 0.75, 0.4, STAMP)
    silent = m.Expression(STAMP, UNKNOWN)
    assert said == (silent if name == "contempt" else m.Expression(STAMP, word, confidence=0.75))
    assert (said.valence, said.arousal) == (0.0, 0.0)


@pytest.mark.parametrize("word", ["happy", "bored", "furious"])
def test_a_network_that_speaks_ros4hri(word: str) -> None:
    assert expression(word, 1.0, 0.0, STAMP).expression == word


@pytest.mark.parametrize(
    ("label", "probability", "claimed"),
    [
        ("fear", 0.4, True),
        ("fear", 0.3999, False),
        ("fear", math.nan, False),
        (UNKNOWN, 0.9, False),
        ("contempt", 0.9, False),
        ("boredom", 0.9, False),
    ],
)
def test_nothing_is_claimed(label: str, probability: float, claimed: bool) -> None:
    said = expression(label, probability, 0.4, STAMP)
    assert said.expression == ("scared" if claimed else UNKNOWN)
    assert said.confidence == (probability if claimed else 0.0)


def test_all_probabilities_go_out_sorted() -> None:
    probabilities = np.array([0.05, 0.1, 0.05, 0.2, 0.0, 0.25, 0.05, 0.3], np.float32)
    sent = classification(CLASSES, probabilities, STAMP)
    assert sent.header == STAMP
    names = [result.class_id for result in sent.results]
    assert names == [
        "contempt",
        "disgusted",
        "sad",
        "happy",
        "neutral",
        "surprised",
        "scared",
        "angry",
    ]
    assert [result.score for result in sent.results] == sorted(probabilities.tolist(), reverse=True)
    assert m.Classification.decode(sent.encode()) == sent


@pytest.mark.parametrize(
    "probabilities", [np.zeros(7), np.zeros((1, 8)), np.full(8, np.nan), np.full(8, np.inf)]
)
def test_probabilities_that_are_refused(probabilities: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="8 classes"):
        classification(CLASSES, probabilities.astype(np.float32), STAMP)


def test_a_detection_has_the_centre_of_its_box() -> None:
    found = detection(CLASSES, certain("anger"), (10.0, 20.0, 30.0, 41.0), "f00001", STAMP)
    assert found.bbox == m.BoundingBox2D(m.Pose2D(m.Point2D(25.0, 40.5)), 30.0, 41.0)
    assert (found.id, found.header, len(found.results)) == ("f00001", STAMP, len(CLASSES))
    assert found.results[0].hypothesis == m.ObjectHypothesis("angry", float(np.float32(0.9)))
    array = m.Detection2DArray(STAMP, (found,))
    assert m.Detection2DArray.decode(array.encode()) == array


@pytest.mark.parametrize(
    ("box", "shares"),
    [
        ((160.0, 120.0, 320.0, 240.0), (0.25, 0.25, 0.75, 0.75)),
        ((-64.0, -48.0, 128.0, 96.0), (0.0, 0.0, 0.1, 0.1)),
        ((600.0, 460.0, 100.0, 100.0), (0.9375, 23 / 24, 1.0, 1.0)),
        ((900.0, 900.0, 10.0, 10.0), (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_regions(box: Box, shares: Box) -> None:
    seen = region(box, (640, 480), 0.8, STAMP)
    assert (seen.xmin, seen.ymin, seen.xmax, seen.ymax) == pytest.approx(shares)
    assert (seen.header, seen.c) == (STAMP, 0.8)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", range(4))
def test_boxes_that_are_refused(bad: float, place: int) -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    values[place] = bad
    box = (values[0], values[1], values[2], values[3])
    with pytest.raises(InputError, match="drop the face"):
        region(box, (640, 480), 1.0, STAMP)
    with pytest.raises(InputError, match="drop the face"):
        detection(CLASSES, certain("fear"), box, "a", STAMP)


def test_label_info_uses_the_same_names() -> None:
    info = label_info(CLASSES, 0.35, STAMP)
    assert [(entry.class_id, entry.class_name) for entry in info.class_map] == list(
        enumerate(WORDS)
    )
    assert info.threshold == 0.35
