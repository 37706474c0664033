"""A DDS topic of ROS 2 images as a source."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import (
    DDSException,
    GuardCondition,
    InstanceState,
    ReadCondition,
    SampleState,
    ViewState,
    WaitSet,
)
from cyclonedds.qos import Policy
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from convcut_trt.errors import InputError
from convcut_trt.robots.dds_types import Cdr, carrier
from convcut_trt.robots.dds_wire import dds_name, delete, join, qos
from convcut_trt.robots.images import frame_of
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.sources import Frame

_KEPT = 5  # messages between DDS and the thread that takes them, which is never busy
_SILENCE_S = 1.0  # after which a source without a publisher looks for one of another type
_ENDPOINTS = 10_000  # looked through then


class DdsImages:
    """The images of a topic as frames, every one; each is decoded when its turn comes.

    The timestamp is that of the header, or where that is 0 the time of sending; the frame id is the header's; the
    sequence number is counted from 0. An image that cannot be read is a frame that cannot be decoded: the stream
    counts it and goes on. Bytes that do not fit the type at all are dropped by the DDS library.

    Attributes:
        live: True.
    """

    live = True

    def __init__(self, domain: int, topic: str, kind: type[Image] | type[CompressedImage]) -> None:
        """Subscribes, best effort: to reliable publishers as well as to those of sensor data.

        Args:
            domain: See ``dds_wire.join``.
            topic: Its full name, with the leading slash.
            kind: Of its messages.

        Raises:
            InputError: See ``dds_wire.join``.
        """
        self._name, self._kind = topic, kind
        self._stopped = threading.Event()
        self._participant = join(domain)
        policies = qos(kind, Policy.Reliability.BestEffort, Policy.History.KeepLast(_KEPT))
        dds_topic: Topic[Any] = Topic(self._participant, dds_name(topic), carrier(kind))
        self._reader: DataReader[Any] = DataReader(self._participant, dds_topic, qos=policies)
        waiting = SampleState.Any | ViewState.Any | InstanceState.Any
        self._wake = GuardCondition(self._participant)
        self._wait = WaitSet(self._participant)
        self._wait.attach(self._wake)
        self._wait.attach(ReadCondition(self._reader, waiting))

    def __iter__(self) -> Iterator[Frame]:
        """Frames until ``stop``.

        Raises:
            InputError: The topic carries only messages of another type.
        """
        sequence = 0
        while not self._stopped.is_set():
            if not self._wait.wait(duration(seconds=_SILENCE_S)):
                self._look_for_another_type()
            for sample in self._reader.take(_KEPT):
                if isinstance(sample, Cdr):  # or a word that a publisher went away
                    sent: int = sample.sample_info.source_timestamp
                    yield frame_of(sample.cdr, self._kind.decode, sequence, sent)
                    sequence += 1

    def _look_for_another_type(self) -> None:
        """DDS does not connect a subscriber with a publisher of another type, and says nothing either."""
        if self._reader.get_matched_publications():
            return
        reader = BuiltinDataReader(self._participant, BuiltinTopicDcpsPublication)
        found = {
            there.type_name
            for there in reader.take(_ENDPOINTS)
            if there.topic_name == dds_name(self._name)
        }
        if found and self._kind.dds_type not in found:
            raise InputError(
                f"{self._name} carries {found.pop()}, not {self._kind.dds_type}: name a topic of images, and "
                "with ?type=image or ?type=compressed which of the two types it has"
            )

    def stop(self) -> None:
        """Ends the wait for the next message."""
        self._stopped.set()
        with suppress(DDSException):  # closed before
            self._wake.set(True)

    def close(self) -> None:
        """Leaves the domain; again does nothing."""
        delete(self._participant)
