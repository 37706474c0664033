"""How ROS 2 topics are named over Zenoh, and what travels beside a message.

``rmw_zenoh``, ROS 2's own Zenoh middleware (its ``docs/design.md``), puts domain, type and type hash into the key,
announces every node and publisher by a liveliness token (what ``ros2 topic list`` shows), and attaches sequence
number, time and the publisher's gid to each message. ``bridge``, zenoh-bridge-ros2dds, has the bare topic as the
key and nothing beside it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass

from convcut_trt.errors import InputError
from convcut_trt.robots.idl import Message

RMW = "rmw_zenoh"
BRIDGE = "bridge"
NO_HASH = "TypeHashNotSupported"  # what ROS 2 Humble has in place of the type hash

_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
_GID_SIZE = 16
# Sequence number and nanoseconds since 1970, then the gid with its length before it.
_STAMP = struct.Struct("<qq")
_ATTACHMENT = struct.Struct(f"<qqB{_GID_SIZE}s")
# Reliability:durability:history,depth:deadline:lifespan:liveliness, as rmw_zenoh writes them; what is empty is the
# default of ROS: reliable, volatile, keep last. Durability 1 is transient local.
_QOS = "::,10:,:,:,,"
_LATCHED_QOS = ":1:,1:,:,:,,"


def check_topic(topic: str) -> None:
    """Makes sure that ROS has such names.

    Raises:
        InputError: It has not.
    """
    if not _TOPIC.fullmatch(topic):
        raise InputError(
            f"{topic!r} is no name of a ROS topic: give letters, digits and underscores between slashes, "
            "like /camera/image/compressed"
        )


@dataclass(frozen=True)
class Graph:
    """Our node as rmw_zenoh names it.

    Attributes:
        domain: ``ROS_DOMAIN_ID``.
        session: Zenoh's id of the session, in hex; unique.
        hashed: Whether type hashes are in use; not with Humble.
    """

    domain: int
    session: str
    hashed: bool

    @property
    def node(self) -> str:
        """The node's name, another one each time: ROS wants them unique."""
        return f"convcut_trt_{self.session[:8]}"

    def _hash(self, kind: type[Message]) -> str:
        return kind.rihs01 if self.hashed else NO_HASH

    def _token(self, entity: int, kind: str) -> str:
        # The one node of a session is entity 0; enclave and namespace are empty.
        return f"@ros2_lv/{self.domain}/{self.session}/0/{entity}/{kind}/%/%/{self.node}"

    def key(self, topic: str, kind: type[Message]) -> str:
        """Where a topic's messages are published."""
        return f"{self.domain}/{topic.strip('/')}/{kind.dds_type}/{self._hash(kind)}"

    def node_token(self) -> str:
        """Announces the node."""
        return self._token(0, "NN")

    def publisher_token(self, entity: int, topic: str, kind: type[Message], latched: bool) -> str:
        """Announces a publisher.

        Args:
            entity: Its number within the session, from 1.
            topic: With the leading slash.
            kind: Of its messages.
            latched: Whether the last one is kept for later subscribers.
        """
        name = topic.replace("/", "%")
        qos = _LATCHED_QOS if latched else _QOS
        return f"{self._token(entity, 'MP')}/{name}/{kind.dds_type}/{self._hash(kind)}/{qos}"


def gid(token: str) -> bytes:
    """16 bytes that tell a publisher from all others."""
    return hashlib.blake2b(token.encode(), digest_size=_GID_SIZE).digest()


def attachment(sequence: int, timestamp: int, gid: bytes) -> bytes:
    """The 33 bytes that rmw_zenoh wants beside each message.

    Args:
        sequence: Of the publisher, from 1.
        timestamp: Nanoseconds since 1970.
        gid: See ``gid``.
    """
    return _ATTACHMENT.pack(sequence, timestamp, _GID_SIZE, gid)


def stamp(sequence: int, timestamp: int) -> bytes:
    """The 16 bytes that a camera without ROS may attach: the first two fields of ``attachment``."""
    return _STAMP.pack(sequence, timestamp)


def read_stamp(data: bytes) -> tuple[int, int] | None:
    """Sequence number and time out of an attachment of either form; None if it is neither.

    Others attach 16 bytes too, a UUID for example: numbers that no camera reaches, and times that ROS cannot hold,
    are not taken.
    """
    if len(data) not in (_STAMP.size, _ATTACHMENT.size):
        return None
    sequence, timestamp = _STAMP.unpack_from(data)
    plausible = 0 <= sequence < 2**48 and 0 <= timestamp < 2**31 * 10**9
    return (sequence, timestamp) if plausible else None
