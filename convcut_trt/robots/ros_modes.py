"""The two modes of the ROS 2 node: follow the faces of a ROS4HRI detector, or find them in a topic of images.

Everything here runs in the thread that spins the node, but for what the worker iterates (``answers``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Protocol

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.faces.detect import Detector
from convcut_trt.health import Health
from convcut_trt.robots.expressions import expression
from convcut_trt.robots.idl import Message
from convcut_trt.robots.messages import (
    CompressedImage,
    Detection2DArray,
    Expression,
    IdsList,
    Image,
    LabelInfo,
    NormalizedRegionOfInterest2D,
)
from convcut_trt.robots.publish import RosSink
from convcut_trt.robots.ros_crops import Answer, Crops
from convcut_trt.robots.ros_images import Arrivals
from convcut_trt.robots.ros_settings import Settings
from convcut_trt.robots.ros_wire import RosPublisher, RosWire, subscribe
from convcut_trt.robots.ros_worker import Answers
from convcut_trt.robots.sinks import About
from convcut_trt.stream import Answering, Result, Stream

Kinds = tuple[type[Message], ...]  # of messages that a mode takes
_OFTEN_S = 10.0  # between two warnings of one kind


class Mode(Protocol):
    """What the node does while it is active."""

    @property
    def answers(self) -> Answers:
        """What the worker iterates."""

    def publish(self, answer: Any) -> None:
        """Publishes an answer."""

    def health(self) -> Health:
        """How it does."""

    def hint(self) -> str:
        """What the user should know of the network, or ""."""

    def retune(self, settings: Settings) -> str:
        """Takes over what changed, or says why it cannot."""

    def close(self) -> None:
        """Withdraws all topics; called once, also after a half-made start."""


class _Face:
    """The topics of one face."""

    def __init__(self, publisher: RosPublisher, subscription: Any) -> None:
        self.publisher, self.subscription = publisher, subscription


class FollowFaces:
    """Answers the crops of the faces that ``<root>/tracked`` names; the drop-in for hri_emotion_recognizer."""

    kinds: ClassVar[Kinds] = (IdsList, Image, Expression)

    def __init__(self, node: Any, engine: Answering, settings: Settings) -> None:
        """Subscribes to the list of faces."""
        self._node, self._wire = node, RosWire(node)
        self._root = "/" + settings.faces_topic.strip("/")
        self._faces: dict[str, _Face] = {}
        tracking = settings.tracking()
        self._reject = engine.spec.reject
        self._threshold = self._reject if tracking.reject is None else tracking.reject
        self.answers = Crops(engine, tracking)
        # Reliable: a list that is lost may be the only one until faces change.
        self._list = subscribe(node, IdsList, f"{self._root}/tracked", self._tracked, sensor=False)

    def _tracked(self, data: bytes) -> None:
        try:
            ids = IdsList.decode(data).ids
        except InputError as error:
            self._node.get_logger().warning(
                f"a list of faces is left out: {error}", throttle_duration_sec=_OFTEN_S
            )
            return
        for gone in self._faces.keys() - set(ids):
            self._drop(gone)
        for new in ids:
            if new not in self._faces:
                self._follow(new)

    def _follow(self, name: str) -> None:
        topic = f"{self._root}/{name}"
        try:
            publisher = self._wire.advertise(f"{topic}/expression", Expression, False)
            put = partial(self.answers.put, name)
            subscription = subscribe(self._node, Image, f"{topic}/aligned", put, sensor=True)
        except ConvcutError as error:
            self._node.get_logger().warning(
                f"face {name!r} is left out: {error}", throttle_duration_sec=_OFTEN_S
            )
            return
        self.answers.follow(name)
        self._faces[name] = _Face(publisher, subscription)

    def _drop(self, name: str) -> None:
        face = self._faces.pop(name)
        self.answers.forget(name)
        self._node.destroy_subscription(face.subscription)
        face.publisher.close()

    def publish(self, answer: Iterable[Answer]) -> None:
        """Says of each face what it shows; nothing of one that has left in the meantime."""
        for one in answer:
            if one.face in self._faces:
                words = expression(one.label, one.confidence, self._threshold, one.header)
                self._faces[one.face].publisher.publish(words)

    def health(self) -> Health:
        """See ``Mode``."""
        return self.answers.health()

    def hint(self) -> str:
        """See ``Mode``."""
        for face in self._faces.values():
            if face.publisher.rivals:
                return "another node publishes expressions as well: stop hri_emotion_recognizer"
        if not self._node.count_publishers(self._list.topic_name):
            return f"nothing publishes {self._list.topic_name}: start a face detector, like hri_face_detect"
        return ""

    def retune(self, settings: Settings) -> str:
        """See ``Mode``: smoothing starts anew."""
        tracking = settings.tracking()
        self._threshold = self._reject if tracking.reject is None else tracking.reject
        self.answers.retune(tracking)
        return ""

    def close(self) -> None:
        """See ``Mode``."""
        for name in list(self._faces):
            self._drop(name)
        self._node.destroy_subscription(self._list)


class FindFaces:
    """Finds and follows the faces in a topic of images, and publishes what ``publish`` lists but diagnostics."""

    kinds: ClassVar[Kinds] = (
        *(Image, CompressedImage, IdsList, Expression),
        *(NormalizedRegionOfInterest2D, Detection2DArray, LabelInfo),
    )

    def __init__(
        self, node: Any, engine: Answering, settings: Settings, detector: Detector
    ) -> None:
        """Subscribes to the images."""
        self._node, self._settings = node, settings
        kind = CompressedImage if settings.compressed else Image
        images = Arrivals(kind)
        tracking = settings.tracking()
        self.answers = Stream(engine, images, detector=detector, tracking=tracking)
        spec = engine.spec
        threshold = spec.reject if tracking.reject is None else tracking.reject
        about = About(spec.name, spec.classes, threshold)
        self._subscription = subscribe(node, kind, settings.image_topic, images.put, sensor=True)
        try:
            self._sink = RosSink(RosWire(node), about, settings.faces_topic)
        except ConvcutError:
            node.destroy_subscription(self._subscription)
            raise

    def publish(self, answer: Result) -> None:
        """See ``RosSink.send``."""
        self._sink.send(answer)

    def health(self) -> Health:
        """See ``Mode``."""
        return self.answers.health()

    def hint(self) -> str:
        """See ``Mode``."""
        topic = self._subscription.topic_name
        return "" if self._node.count_publishers(topic) else f"nothing publishes {topic}"

    def retune(self, settings: Settings) -> str:
        """See ``Mode``: only the rate, else the numbers of all faces would begin anew."""
        if replace(settings, max_rate=self._settings.max_rate) != self._settings:
            return "smoothing is set when the node is activated, with an image_topic: deactivate it first"
        self._settings = settings
        return ""

    def close(self) -> None:
        """See ``Mode``."""
        self._node.destroy_subscription(self._subscription)
        self._sink.close()
