"""Zenoh: frames in, and results out as JSON or as ROS 2 topics; see docs/zenoh.md.

Zenoh mends lost connections itself, and a publisher never waits: what a subscriber does not take is dropped.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.robots.idl import Message
from convcut_trt.robots.publish import FACES, RosSink
from convcut_trt.robots.sinks import About, Sink, record
from convcut_trt.robots.zenoh_keys import RMW, Graph, attachment, gid
from convcut_trt.robots.zenoh_session import EXAMPLE, Address, check_key, open_session, read_address
from convcut_trt.robots.zenoh_source import ZenohSource

if TYPE_CHECKING:
    from convcut_trt.health import Health
    from convcut_trt.stream import Result


def open_sink(rest: str, about: About) -> Sink:
    """Opens ``--to zenoh:...``.

    Args:
        rest: ``KEY?option=value&...``: JSON on KEY and KEY/health, or with ``ros=`` the topics of ``publish`` below
            KEY, by default ``/humans/faces``.
        about: What goes along with the results.

    Raises:
        InputError: A bad address, or nobody answers.
        BackendMissing: Zenoh is not installed.
    """
    address = read_address(rest)
    if address.ros:
        return RosSink(ZenohWire(address), about, address.key or FACES)
    if not address.key or "*" in address.key:
        raise InputError(f"{address.key!r} is no key to publish on: give one like {EXAMPLE}")
    return JsonSink(address, about)


def open_source(rest: str) -> ZenohSource:
    """Opens ``run zenoh:...``.

    Args:
        rest: ``KEY?option=value&...``: a key of pictures, or with ``ros=`` a topic of images.

    Raises:
        InputError: A bad address, or nobody answers.
        BackendMissing: Zenoh is not installed.
    """
    address = read_address(rest)
    if not address.key:
        raise InputError(f"an address needs a key to read from, like {EXAMPLE}")
    return ZenohSource(address)


class JsonSink:
    """One JSON object a frame, see ``sinks.record``; on ``KEY/health``, about once a second, how the loop does."""

    def __init__(self, address: Address, about: About) -> None:
        """Announces both keys."""
        check_key(address.key)
        self._about = about
        self._session = open_session(address)
        self._results = self._publisher(address.key)
        self._health = self._publisher(f"{address.key}/health")

    def _publisher(self, key: str) -> Any:
        drop = load("zenoh", "zenoh").CongestionControl.DROP
        return self._session.declare_publisher(
            key, encoding="application/json", congestion_control=drop
        )

    def send(self, result: Result) -> None:
        """Publishes one frame's answer."""
        self._results.put(json.dumps(record(result, self._about)))

    def report(self, health: Health) -> None:
        """Publishes the fields of ``Health``."""
        self._health.put(json.dumps(asdict(health)))

    def close(self) -> None:
        """Leaves the network."""
        self._session.close()


class ZenohWire:
    """ROS messages over Zenoh, as rmw_zenoh or zenoh-bridge-ros2dds has them."""

    def __init__(self, address: Address) -> None:
        """Joins the network, and with rmw_zenoh the ROS graph."""
        self._session = open_session(address)
        self._graph: Graph | None = None
        self._entities = 0
        if address.ros == RMW:
            self._graph = Graph(address.domain, str(self._session.info.zid()), address.hashed)
            self._node = self._session.liveliness().declare_token(self._graph.node_token())

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> ZenohPublisher:
        """See ``publish.Wire``."""
        self._entities += 1
        key, token = topic.strip("/"), ""
        if self._graph is not None:
            key = self._graph.key(topic, kind)
            token = self._graph.publisher_token(self._entities, topic, kind, latched)
        return ZenohPublisher(self._session, key, token, latched)

    def close(self) -> None:
        """Leaves the network."""
        self._session.close()


class ZenohPublisher:
    """One topic."""

    def __init__(self, session: Any, key: str, token: str, latched: bool) -> None:
        """Announces it.

        Args:
            session: The ``zenoh.Session`` whose it is.
            key: Where to publish.
            token: Of rmw_zenoh's graph; "" for none, and no attachments then.
            latched: Keeps the last message for later subscribers, as transient local does in both ROS forms.
        """
        library = load("zenoh", "zenoh")
        drop = library.CongestionControl.DROP
        self._publisher: Any
        if latched:
            ext = load("zenoh.ext", "zenoh")
            self._publisher = ext.declare_advanced_publisher(
                session,
                key,
                encoding="application/cdr",
                congestion_control=drop,
                cache=ext.CacheConfig(1),
                publisher_detection=True,
            )
        else:
            self._publisher = session.declare_publisher(
                key, encoding="application/cdr", congestion_control=drop
            )
        self._token = session.liveliness().declare_token(token) if token else None
        self._gid = gid(token)
        self._sequence = 0

    def publish(self, message: Message) -> None:
        """Sends one."""
        self._sequence += 1
        beside = None
        if self._token is not None:
            beside = attachment(self._sequence, time.time_ns(), self._gid)
        self._publisher.put(message.encode(), attachment=beside)

    def close(self) -> None:
        """Withdraws it."""
        if self._token is not None:
            self._token.undeclare()
        self._publisher.undeclare()
