"""Results as ROS 2 topics: which, with what in them, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from convcut_trt.health import Health, Percentiles
from convcut_trt.robots.idl import Message
from convcut_trt.robots.messages import (
    Detection2DArray,
    DiagnosticArray,
    DiagnosticStatus,
    Expression,
    IdsList,
    LabelInfo,
    NormalizedRegionOfInterest2D,
)
from convcut_trt.robots.publish import RosSink, diagnostics
from tests.results import ABOUT, CLASSES, SECOND, face, result

START = 1_700_000_000 * SECOND


class Topic:
    """A publisher that remembers."""

    def __init__(self, kind: type[Message], latched: bool) -> None:
        self.kind, self.latched = kind, latched
        self.messages: list[Message] = []
        self.closed = False

    def publish(self, message: Message) -> None:
        assert not self.closed and type(message) is self.kind
        assert type(message).decode(message.encode()) is not None
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True


class Remembering:
    """A wire that remembers all topics that ever were."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.closed = False

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> Topic:
        assert topic not in self.topics or self.topics[topic].closed, "advertised twice"
        self.topics[topic] = Topic(kind, latched)
        return self.topics[topic]

    def close(self) -> None:
        self.closed = True

    def open(self) -> set[str]:
        return {name for name, topic in self.topics.items() if not topic.closed}


def health(**values: object) -> Health:
    calm = {
        **{"running": True, "stalled": False, "silent_s": 0.0, "frames": 9, "processed": 8},
        **{"dropped": 1, "missed": 0, "bad": 0, "bad_boxes": 0, "stalls": 0, "last_error": ""},
        "latency": {"total": Percentiles(0.010, 0.020, 0.030)},
    }
    return Health(**{**calm, **values})  # type: ignore[arg-type]


@pytest.fixture
def wire() -> Remembering:
    return Remembering()


def test_a_face_is_on_its_topics_with_the_header_of_the_image(wire: Remembering) -> None:
    sink = RosSink(wire, ABOUT)
    sink.send(result(face(track=7)))
    (words,) = wire.topics["/humans/faces/f00007/expression"].messages
    assert isinstance(words, Expression)
    assert (words.expression, round(words.confidence, 6)) == ("scared", 0.8)
    assert words.header.stamp.ns == START
    assert words.header.frame_id == "camera_color_optical_frame"
    (region,) = wire.topics["/humans/faces/f00007/roi"].messages
    assert isinstance(region, NormalizedRegionOfInterest2D)
    sides = (region.xmin, region.ymin, region.xmax, region.ymax)
    assert sides == pytest.approx((10 / 160, 20 / 120, 40 / 160, 60 / 120))
    (tracked,) = wire.topics["/humans/faces/tracked"].messages
    assert isinstance(tracked, IdsList) and tracked.ids == ("f00007",)
    (found,) = wire.topics["/humans/faces/detections"].messages
    assert isinstance(found, Detection2DArray)
    (one,) = found.detections
    assert one.id == "f00007" and (one.bbox.size_x, one.bbox.size_y) == (30, 40)
    scores = [entry.hypothesis.score for entry in one.results]
    assert scores == sorted(scores, reverse=True) and np.isclose(sum(scores), 1)
    assert region.header == tracked.header == found.header == one.header == words.header


def test_labels_are_latched_and_carry_the_threshold(wire: Remembering) -> None:
    RosSink(wire, ABOUT, "robot/people/")
    topic = wire.topics["/robot/people/label_info"]
    assert topic.latched
    (info,) = topic.messages
    assert isinstance(info, LabelInfo) and info.threshold == ABOUT.reject
    assert [entry.class_id for entry in info.class_map] == list(range(len(CLASSES)))


@pytest.mark.parametrize(
    ("label", "confidence", "said"),
    [
        ("happiness", 0.8, "happy"),
        ("contempt", 0.9, "unknown"),  # REP-155 has no word for it
        ("happiness", 0.49, "unknown"),  # below the threshold
        ("unknown", 0.8, "unknown"),
    ],
)
def test_what_cannot_be_said_is_unknown(
    wire: Remembering, label: str, confidence: float, said: str
) -> None:
    RosSink(wire, ABOUT).send(result(face(label=label, confidence=confidence)))
    (words,) = wire.topics["/humans/faces/f00001/expression"].messages
    assert isinstance(words, Expression)
    assert words.expression == said
    assert (words.confidence > 0) == (said != "unknown")


def test_a_frame_without_faces_says_so(wire: Remembering) -> None:
    sink = RosSink(wire, ABOUT)
    sink.send(result())
    (tracked,) = wire.topics["/humans/faces/tracked"].messages
    (found,) = wire.topics["/humans/faces/detections"].messages
    assert isinstance(tracked, IdsList) and tracked.ids == ()
    assert isinstance(found, Detection2DArray) and found.detections == ()


def test_topics_of_a_face_that_is_gone_are_withdrawn(wire: Remembering) -> None:
    sink = RosSink(wire, ABOUT)
    sink.send(result(face(track=1), face(track=2)))
    of_one = {"/humans/faces/f00001/roi", "/humans/faces/f00001/expression"}
    for number in range(1, 4):
        sink.send(result(face(track=2), timestamp=START + number * SECOND))
        assert (of_one <= wire.open()) == (number <= 2)
    assert "/humans/faces/f00002/expression" in wire.open()
    # a thousand people later nothing is left of them
    for number in range(4, 1004):
        sink.send(result(face(track=number), timestamp=START + number * SECOND))
    assert len(wire.open()) < 16


def test_a_clock_that_jumps_back_withdraws_nothing_that_is_seen(wire: Remembering) -> None:
    sink = RosSink(wire, ABOUT)
    sink.send(result(face(), timestamp=START))
    sink.send(result(face(), timestamp=START - 3600 * SECOND))
    topic = wire.topics["/humans/faces/f00001/expression"]
    assert not topic.closed and len(topic.messages) == 2


def test_everything_is_withdrawn_at_the_end(wire: Remembering) -> None:
    sink = RosSink(wire, ABOUT)
    sink.send(result(face()))
    sink.report(health())
    sink.close()
    sink.close()
    assert wire.open() == set() and wire.closed


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ({}, DiagnosticStatus.OK),
        ({"bad": 1, "last_error": "a broken picture"}, DiagnosticStatus.WARN),
        ({"missed": 3}, DiagnosticStatus.WARN),
        ({"bad_boxes": 1}, DiagnosticStatus.WARN),
        ({"stalled": True, "silent_s": 9.0}, DiagnosticStatus.STALE),
    ],
)
def test_diagnostics(wire: Remembering, state: dict[str, object], level: int) -> None:
    RosSink(wire, ABOUT).report(health(**state))
    (message,) = wire.topics["/diagnostics"].messages
    assert isinstance(message, DiagnosticArray)
    (status,) = message.status
    assert status.level == level
    figures = {entry.key: entry.value for entry in status.values}
    assert figures["processed"] == "8" and figures["total p99 ms"] == "30.00"
    if "last_error" in state:
        assert status.message == state["last_error"]
    assert message == diagnostics(health(**state), ABOUT, message.header.stamp.ns)
