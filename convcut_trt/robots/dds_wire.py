"""ROS 2 messages over DDS: joining a domain, and publishers.

Names and types are those of ROS 2 (topic ``/a/b`` is ``rt/a/b``), the bytes plain CDR, which every ROS 2 speaks.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from cyclonedds.core import DDSException, Entity
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

from convcut_trt.errors import InputError
from convcut_trt.robots.dds_types import carrier
from convcut_trt.robots.idl import Message

_KEPT = 10  # messages for a subscriber that is a little behind, as in ROS
_PREFIX = re.compile(r"[\d.]+ \[\w*\] +[^:]*: ")  # of a line that the C library logs


class DdsWire:
    """Publishes messages in one domain; a ``publish.Wire``. DDS has no node names: nothing clashes."""

    def __init__(self, domain: int) -> None:
        """Joins the domain.

        Raises:
            InputError: See ``join``.
        """
        self._participant = join(domain)

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> DdsPublisher:
        """See ``publish.Wire``."""
        return DdsPublisher(self._participant, topic, kind, latched)

    def close(self) -> None:
        """Leaves the domain, which withdraws all topics; again does nothing."""
        delete(self._participant)


class DdsPublisher:
    """Sends messages of one class on one topic, reliably, as ROS does it with results."""

    def __init__(
        self, participant: DomainParticipant, topic: str, kind: type[Message], latched: bool
    ) -> None:
        """See ``publish.Wire.advertise``."""
        self._carrier = carrier(kind)
        self._topic: Topic[Any] = Topic(participant, dds_name(topic), self._carrier)
        policies = qos(
            kind,
            # No waiting: cyclonedds holds Python's lock while it writes.
            Policy.Reliability.Reliable(max_blocking_time=0),
            Policy.History.KeepLast(1 if latched else _KEPT),
            Policy.Durability.TransientLocal if latched else Policy.Durability.Volatile,
            Policy.WriterDataLifecycle(autodispose=False),
        )
        self._writer: DataWriter[Any] = DataWriter(participant, self._topic, qos=policies)

    def publish(self, message: Message) -> None:
        """Sends one. It is dropped where subscribers do not keep up and much is on its way to them.

        Raises:
            InputError: A field holds what its wire type cannot; or DDS refuses it.
        """
        try:
            self._writer.write(self._carrier(message.encode()))
        except DDSException as error:
            if error.code != DDSException.DDS_RETCODE_TIMEOUT:
                raise InputError(f"DDS does not send a {message.ros_type}: {error}") from error

    def close(self) -> None:
        """Withdraws the topic; again does nothing."""
        delete(self._writer)
        delete(self._topic)


def dds_name(topic: str) -> str:
    """The name in DDS of a ROS topic, which starts with a slash."""
    return f"rt{topic}"


def qos(kind: type[Message], *policies: Any) -> Qos:
    """Policies, and what all endpoints have: ROS 2's representation, and the type's hash as it announces it."""
    return Qos(
        *policies,
        Policy.DataRepresentation(use_cdrv0_representation=True),
        # The form is rmw_dds_common's, from ROS 2 Iron on.
        Policy.Userdata(data=f"typehash={kind.rihs01};".encode()),
    )


def join(domain: int) -> DomainParticipant:
    """Joins a domain as CYCLONEDDS_URI configures it.

    Raises:
        InputError: The configuration is wrong, or there is no network interface.
    """
    with _caught_stderr() as said:
        try:
            return DomainParticipant(domain)
        except DDSException as error:
            said.seek(0)
            log = said.read().decode(errors="replace").strip()
            said.truncate(0)
            reason = _PREFIX.sub("", log.partition("\n")[0]) or str(error)
            raise InputError(
                f"DDS does not start in domain {domain} ({reason}): check CYCLONEDDS_URI "
                f"({os.environ.get('CYCLONEDDS_URI', 'not set')}) and that a network interface is up",
                log=log,
            ) from error


@contextmanager
def _caught_stderr() -> Iterator[IO[bytes]]:
    """What is written to stderr meanwhile goes to a file, and what is left in it to stderr afterwards.

    The C library prints why it does not start, and tells its caller a number only.
    """
    with tempfile.TemporaryFile() as said:
        try:
            stderr = os.dup(2)
        except OSError:  # a service without stderr
            yield said
            return
        try:
            os.dup2(said.fileno(), 2)
            yield said
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            os.write(2, said.read())


def delete(entity: Entity) -> None:
    """Deletes an entity and all in it now; again does nothing.

    cyclonedds itself waits until nothing refers to it any more.
    """
    entity.__del__()
