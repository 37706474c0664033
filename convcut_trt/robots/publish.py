"""Results as ROS 2 topics, over whatever carries its messages: Zenoh, DDS, a ROS node, a file.

The topics are those of ROS4HRI (REP-155), below one that the user names, by default ``/humans/faces``:

- ``tracked``: IdsList, the faces of this frame;
- ``<id>/roi``: NormalizedRegionOfInterest2D, and ``<id>/expression``: Expression, see ``expressions``;
- ``detections``: Detection2DArray, all faces with all probabilities, smoothed;
- ``label_info``: LabelInfo, once, latched;

and ``/diagnostics``: DiagnosticArray, how the loop does. Headers are those of the image, never the time of sending.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from convcut_trt.robots.expressions import detection, expression, label_info, region
from convcut_trt.robots.idl import Message
from convcut_trt.robots.messages import (
    Detection2DArray,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    IdsList,
    KeyValue,
    Time,
)

if TYPE_CHECKING:
    from convcut_trt.health import Health
    from convcut_trt.robots.sinks import About
    from convcut_trt.stream import Result
    from convcut_trt.track import Face

FACES = "/humans/faces"
DIAGNOSTICS = "/diagnostics"
_GONE_NS = 2 * 10**9  # a face that is away for so long has lost its number: its topics can go


class Publisher(Protocol):
    """Sends messages of one type on one topic."""

    def publish(self, message: Message) -> None:
        """Sends one; never waits for a subscriber."""

    def close(self) -> None:
        """Withdraws the topic; again does nothing."""


class Wire(Protocol):
    """Carries ROS messages."""

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> Publisher:
        """Opens a topic.

        Args:
            topic: Its full name, with the leading slash.
            kind: Of its messages.
            latched: Who subscribes later gets the last message, too.
        """

    def close(self) -> None:
        """Ends all publishers; again does nothing."""


class RosSink:
    """The sink that publishes the topics above over a wire."""

    def __init__(self, wire: Wire, about: About, topic: str = FACES) -> None:
        """Publishes the labels.

        Args:
            wire: Closed with the sink.
            about: See ``sinks.About``.
            topic: What the topics lie below.
        """
        self._wire, self._about = wire, about
        self._root = "/" + topic.strip("/")
        self._publishers: dict[str, Publisher] = {}
        self._seen: dict[str, int] = {}  # id of a face -> timestamp of its last frame
        now = Header(Time.from_ns(time.time_ns()))
        info = label_info(about.classes, about.reject, now)
        self._publish(f"{self._root}/label_info", info, latched=True)

    def send(self, result: Result) -> None:
        """Publishes one frame's faces, and withdraws the topics of those that are gone."""
        for topic, message in frame_messages(result, self._about):
            self._publish(f"{self._root}/{topic}", message)
        now = result.frame.timestamp
        self._seen.update({face_id(face): now for face in result.faces})
        for gone in [name for name, seen in self._seen.items() if abs(now - seen) > _GONE_NS]:
            del self._seen[gone]
            for topic in (f"{self._root}/{gone}/roi", f"{self._root}/{gone}/expression"):
                self._publishers.pop(topic).close()

    def report(self, health: Health) -> None:
        """Publishes the diagnostics."""
        self._publish(DIAGNOSTICS, diagnostics(health, self._about, time.time_ns()))

    def _publish(self, topic: str, message: Message, latched: bool = False) -> None:
        publisher = self._publishers.get(topic)
        if publisher is None:
            publisher = self._wire.advertise(topic, type(message), latched)
            self._publishers[topic] = publisher
        publisher.publish(message)

    def close(self) -> None:
        """Withdraws everything."""
        for publisher in self._publishers.values():
            publisher.close()
        self._publishers.clear()
        self._wire.close()


def face_id(face: Face) -> str:
    """The name of a face in topics: a letter first, as ROS wants it of names, and of one length."""
    return f"f{face.track:05d}"


def frame_messages(result: Result, about: About) -> Iterator[tuple[str, Message]]:
    """The messages of one frame and the topics they go to, below the root."""
    header = Header(Time.from_ns(result.frame.timestamp), result.frame.frame_id)
    height, width = result.picture.shape[:2]
    names = [face_id(face) for face in result.faces]
    yield "tracked", IdsList(header, tuple(names))
    found = []
    for name, face in zip(names, result.faces, strict=True):
        # The detectors give no confidence of a box: what they gave is a face.
        yield f"{name}/roi", region(face.box, (width, height), 1.0, header)
        yield f"{name}/expression", expression(face.label, face.confidence, about.reject, header)
        found.append(detection(about.classes, face.smoothed, face.box, name, header))
    yield "detections", Detection2DArray(header, tuple(found))


def diagnostics(health: Health, about: About, now: int) -> DiagnosticArray:
    """How a loop does, as ``/diagnostics`` has it.

    Args:
        health: Of the stream.
        about: See ``sinks.About``.
        now: Nanoseconds since 1970.

    Returns:
        One status: STALE where no frame comes, WARN after bad frames or missed deadlines, else OK.
    """
    level, message = DiagnosticStatus.OK, "running" if health.running else "ended"
    if health.stalled:
        level, message = DiagnosticStatus.STALE, f"no frame for {health.silent_s:.1f} s"
    elif health.bad or health.bad_boxes or health.missed:
        level = DiagnosticStatus.WARN
        message = health.last_error or f"{health.missed} answers after their deadline"
    figures = {
        name: str(getattr(health, name))
        for name in (
            *("frames", "processed", "dropped", "missed", "bad", "bad_boxes", "stalls"),
            "last_error",
        )
    }
    for stage, seconds in health.latency.items():
        figures[f"{stage} p50 ms"] = f"{seconds.p50 * 1e3:.2f}"
        figures[f"{stage} p99 ms"] = f"{seconds.p99 * 1e3:.2f}"
    values = tuple(KeyValue(key, value) for key, value in figures.items())
    status = DiagnosticStatus(level, f"convcut_trt: {about.model}", message, about.model, values)
    return DiagnosticArray(Header(Time.from_ns(now)), (status,))
