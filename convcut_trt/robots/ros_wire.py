"""ROS 2's own middleware, through the rclpy of the shell's ROS: our messages pass it as the bytes they are.

``Publisher.publish`` of rclpy takes serialized messages as ``bytes``, and a subscription with ``raw=True`` delivers
them, in Humble as in Jazzy. So no field is converted one by one, and pixels are not copied into Python's lists. In
exchange, the definitions must be those that are installed: ``ros_class`` compares them.

rclpy is imported where it is used: everything here loads without ROS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.robots.idl import Message

_KEPT = 10  # messages for a subscriber that is slow
_RULE = "=" * 80 + "\n"
_NAMES = {"float32": "float", "float64": "double", "byte": "octet"}


def ros(module: str) -> Any:
    """A module of rclpy.

    Raises:
        BackendMissing: ROS 2 is not sourced, or its rclpy is of another Python.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise BackendMissing(
            f"rclpy does not load ({error}): source /opt/ros/{_distro()}/setup.bash in this shell, and run the "
            "Python it belongs to; a virtual environment takes --system-site-packages"
        ) from error


def ros_class(kind: type[Message]) -> Any:
    """The class that ROS generated for one of our messages.

    Raises:
        BackendMissing: Its package is not installed; the text has the line that installs it.
        InputError: The installed definition is another one.
    """
    for name, ours in _definitions(kind):
        theirs = _generated(name).get_fields_and_field_types()
        if list(theirs.items()) != list(ours.items()):
            raise InputError(
                f"the installed {name} has the fields {theirs}, ours are {ours}: install the release of "
                f"{name.partition('/')[0]} that belongs to ROS 2 {_distro()}"
            )
    return _generated(kind.ros_type.replace("/msg/", "/"))


def _generated(name: str) -> Any:
    package, _, message = name.partition("/")
    try:
        return getattr(import_module(f"{package}.msg"), message)
    except (ImportError, AttributeError) as error:
        raise BackendMissing(
            f"{name} is not installed ({error}): sudo apt install ros-{_distro()}-{package.replace('_', '-')}, and "
            f"source /opt/ros/{_distro()}/setup.bash"
        ) from error


def _definitions(kind: type[Message]) -> Iterator[tuple[str, dict[str, str]]]:
    """The message and those within it: the name of each, and its fields with their types as rosidl names them."""
    own, *inner = kind.definition().split(_RULE)
    yield kind.ros_type.replace("/msg/", "/"), _fields(own)
    for block in inner:
        head, _, body = block.partition("\n")
        yield head.removeprefix("MSG: "), _fields(body)


def _fields(lines: str) -> dict[str, str]:
    pairs = (line.split(" ") for line in lines.splitlines())
    return {name: _type(text) for text, name in pairs}


def _type(text: str) -> str:
    base, bracket, count = text.partition("[")
    name = _NAMES.get(base, base)
    if not bracket:
        return name
    return f"sequence<{name}>" if count == "]" else f"{name}[{count}"


def _distro() -> str:
    return os.environ.get("ROS_DISTRO", "<distro>")


class RosWire:
    """Publishes through a node; a ``publish.Wire``.

    Used in the thread that spins the node, or with a node that nobody spins: the executor of Humble fails when
    another thread destroys what it waits for.
    """

    def __init__(self, node: Any, end: Callable[[], object] = lambda: None) -> None:
        """Publishes nothing yet.

        Args:
            node: Of rclpy.
            end: Called by ``close``.
        """
        self._node, self._end = node, end

    def advertise(self, topic: str, kind: type[Message], latched: bool) -> RosPublisher:
        """See ``publish.Wire``: reliable, the last 10 messages kept; latched: the last one, transient local.

        Raises:
            InputError: No name of a topic, or ROS refuses it.
            BackendMissing: The message's package is not installed.
        """
        return RosPublisher(self._node, topic, kind, latched)

    def close(self) -> None:
        """Ends what the wire was made with; the node's publishers are closed by whoever made them."""
        self._end()


class RosPublisher:
    """Sends messages of one class on one topic."""

    def __init__(self, node: Any, topic: str, kind: type[Message], latched: bool) -> None:
        """See ``RosWire.advertise``."""
        qos = ros("rclpy.qos")
        profile = qos.QoSProfile(
            depth=1 if latched else _KEPT,
            reliability=qos.ReliabilityPolicy.RELIABLE,
            durability=(
                qos.DurabilityPolicy.TRANSIENT_LOCAL if latched else qos.DurabilityPolicy.VOLATILE
            ),
        )
        self._node, self._topic = node, topic
        self._publisher = _created(node.create_publisher, ros_class(kind), topic, profile)

    def publish(self, message: Message) -> None:
        """Sends one.

        Raises:
            InputError: ROS does not take it.
        """
        try:
            self._publisher.publish(message.encode())
        except RuntimeError as error:  # of all that rclpy raises here
            raise InputError(
                f"ROS does not publish on {self._topic} ({error}): start again"
            ) from error

    @property
    def rivals(self) -> int:
        """How many other publishers the topic has, as far as discovered."""
        return max(0, int(self._node.count_publishers(self._publisher.topic_name)) - 1)

    def close(self) -> None:
        """Withdraws the topic; again does nothing."""
        self._node.destroy_publisher(self._publisher)


def subscribe(
    node: Any, kind: type[Message], topic: str, callback: Callable[[bytes], None], sensor: bool
) -> Any:
    """Subscribes to a topic; the callback gets the bytes of each message.

    Args:
        node: Of rclpy.
        kind: Of the messages.
        topic: Its name; relative ones are resolved and remapped by ROS.
        callback: A function of Python: rclpy looks at its signature.
        sensor: Best effort, the last 5 kept, as cameras send; else reliable.

    Raises:
        InputError: No name of a topic, or ROS refuses it.
        BackendMissing: The message's package is not installed.
    """
    profile = ros("rclpy.qos").qos_profile_sensor_data if sensor else _KEPT
    return _created(node.create_subscription, ros_class(kind), topic, callback, profile, raw=True)


def _created(create: Callable[..., Any], kind: Any, topic: str, *rest: Any, **options: Any) -> Any:
    wrong = ros("rclpy.exceptions").NameValidationException
    try:
        return create(kind, topic, *rest, **options)
    except (RuntimeError, wrong) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"{topic!r} cannot be a topic of ROS ({said}): letters, digits and _, like /camera/image_raw"
        ) from error
