"""ROS 2 without ROS, the network: contexts, topics, and an executor.

Names, arguments, return values and errors are those of rclpy in Humble and Jazzy, read in its sources (branches
``humble`` and ``jazzy`` of ros2/rclpy); where the two differ, only what both take is taken. Messages are bytes.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class RCLError(RuntimeError):
    """What rclpy raises where the C library fails."""


class RCLInvalidROSArgsError(RCLError):
    """Arguments behind --ros-args that cannot be read."""


class InvalidHandle(RuntimeError):
    """Use of what is destroyed."""


class ExternalShutdownException(Exception):
    """The context was shut down while an executor waited."""


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2


class DurabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2


class QoSProfile:
    def __init__(self, **kwargs: Any) -> None:
        known = {"history", "depth", "reliability", "durability", "lifespan", "deadline"}
        known |= {"liveliness", "liveliness_lease_duration", "avoid_ros_namespace_conventions"}
        assert kwargs.keys() <= known, f"Invalid arguments passed to constructor: {kwargs.keys()}"
        assert "depth" in kwargs, "History set to KEEP_LAST without a depth setting."
        assert isinstance(kwargs["depth"], int)
        self.depth: int = kwargs["depth"]
        self.reliability = ReliabilityPolicy(kwargs.get("reliability", ReliabilityPolicy.RELIABLE))
        self.durability = DurabilityPolicy(kwargs.get("durability", DurabilityPolicy.VOLATILE))

    @classmethod
    def of(cls, profile: QoSProfile | int) -> QoSProfile:
        """A profile, or the default one with this depth."""
        if isinstance(profile, cls):
            return profile
        if isinstance(profile, int) and profile >= 0:
            return cls(depth=profile)
        raise TypeError(f"Expected QoSProfile or int, but received {type(profile)!r}")


SENSOR_DATA = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Graph:
    """The network, and one condition for all that happens in it.

    Attributes:
        violations: What a real network might have survived or not.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.nodes: list[Any] = []
        self.publishers: list[Publisher] = []
        self.subscriptions: list[Subscription] = []
        self.sent: list[tuple[str, bytes]] = []
        self.logs: list[tuple[str, str]] = []
        self.violations: list[str] = []

    def on(self, topic: str) -> list[bytes]:
        """Everything that was ever published on a topic."""
        return [data for name, data in self.sent if name == topic]

    def topics(self) -> set[str]:
        """The topics that somebody publishes now."""
        return {publisher.topic_name for publisher in self.publishers}


class Context:
    graph: Graph  # of the test

    def __init__(self) -> None:
        self.arguments: list[str] | None = None
        self.parameters: dict[str, Any] = {}
        self.remaps: dict[str, str] = {}
        self._running = False

    def init(
        self,
        args: list[str] | None = None,
        *,
        initialize_logging: bool = True,
        domain_id: int | None = None,
    ) -> None:
        assert self.arguments is None, "Context.init() must only be called once"
        assert args is not None, "the test's own command line would be read"
        self.arguments = list(args)
        rest = args[args.index("--ros-args") + 1 :] if "--ros-args" in args else []
        while rest:
            flag, value, *rest = [*rest, ""]
            rest = rest[:-1] if rest and rest[-1] == "" else rest
            name, mark, text = value.partition(":=")
            if flag not in ("-p", "-r") or not mark:
                raise RCLInvalidROSArgsError(f"Couldn't parse arguments: {flag} {value}")
            if flag == "-p":
                self.parameters[name] = _value(text)
            else:
                self.remaps[name] = text
        self._running = True

    def ok(self) -> bool:
        return self._running

    def shutdown(self) -> None:
        if not self._running:
            raise RCLError("Context must be initialized before it can be shutdown")
        self.try_shutdown()

    def try_shutdown(self) -> None:
        with self.graph.changed:
            self._running = False
            self.graph.changed.notify_all()


def _value(text: str) -> object:
    """A value of YAML, as far as JSON goes, and its NaN."""
    if text == ".nan":
        return float("nan")
    try:
        return json.loads(text)
    except ValueError:
        return text


class Publisher:
    def __init__(self, node: Any, msg_type: Any, topic: str, qos_profile: QoSProfile) -> None:
        self._node, self.msg_type, self.topic_name = node, msg_type, topic
        self.qos_profile = qos_profile
        self.last: bytes | None = None
        self.destroyed = False

    def publish(self, msg: Any) -> None:
        if self.destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        if not isinstance(msg, (self.msg_type, bytes)):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        assert isinstance(msg, bytes), "only serialized messages are carried here"
        if not self._node.context.ok():
            raise RCLError("Failed to publish: publisher's context is invalid")
        graph = self._node.context.graph
        with graph.changed:
            graph.sent.append((self.topic_name, msg))
            self.last = msg
            for subscription in graph.subscriptions:
                if matches(self, subscription):
                    subscription.queue.append(msg)
            graph.changed.notify_all()


class Subscription:
    def __init__(
        self, node: Any, msg_type: Any, topic: str, callback: Any, qos: QoSProfile, raw: bool
    ) -> None:
        try:  # as Jazzy does; it fails for functions without a signature, as those of C often are
            inspect.signature(callback).bind(object())
        except (TypeError, ValueError):
            raise RuntimeError("callback should be callable with one argument") from None
        self._node, self.msg_type, self.topic_name = node, msg_type, topic
        self.callback, self.qos_profile, self.raw = callback, qos, raw
        self.queue: deque[bytes] = deque(maxlen=qos.depth)

    def work(self) -> Callable[[], object] | None:
        """The callback of the oldest message, if there is one."""
        if not self.queue:
            return None
        data = self.queue.popleft()
        assert self.raw, "only serialized messages are carried here"
        return lambda: self.callback(data)


def matches(publisher: Publisher, subscription: Subscription) -> bool:
    """Whether what is offered is at least what is asked for."""
    offered, asked = publisher.qos_profile, subscription.qos_profile
    return (
        publisher.topic_name == subscription.topic_name
        and publisher.msg_type is subscription.msg_type
        and offered.reliability <= asked.reliability
        and offered.durability <= asked.durability
    )


class GuardCondition:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self.graph: Graph | None = None
        self._triggered = False
        self.destroyed = False

    def trigger(self) -> None:
        if self.destroyed or self.graph is None:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        with self.graph.changed:
            self._triggered = True
            self.graph.changed.notify_all()

    def work(self) -> Callable[[], object] | None:
        """The callback, if it was triggered."""
        triggered, self._triggered = self._triggered, False
        return self._callback if triggered else None


class Timer:
    def __init__(self, period: float, callback: Callable[[], object]) -> None:
        self._period, self._callback = period, callback
        self.due = time.monotonic() + period

    def work(self) -> Callable[[], object] | None:
        """The callback, if it is due."""
        if time.monotonic() < self.due:
            return None
        self.due += self._period
        return self._callback


class SingleThreadedExecutor:
    def __init__(self, *, context: Context | None = None) -> None:
        self.context: Context = context or sys.modules["rclpy"].get_default_context()
        self._nodes: list[Any] = []
        self._shut = False
        self.thread: int | None = None  # that spins

    def add_node(self, node: Any) -> bool:
        self._nodes.append(node)
        node.executor = self
        return True

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        self._shut, self._nodes = True, []
        return True

    def spin(self) -> None:
        while self.context.ok() and not self._shut:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self.thread = threading.get_ident()
        graph = self.context.graph
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        with graph.changed:
            while True:
                if not self.context.ok():
                    raise ExternalShutdownException
                if work := self._ready():
                    break
                if self._shut or (end is not None and time.monotonic() >= end):
                    return
                dues = [timer.due for node in self._nodes for timer in node.timers]
                wake = min([*dues, *([] if end is None else [end])], default=None)
                graph.changed.wait(None if wake is None else max(0.0, wake - time.monotonic()))
        work()

    def _ready(self) -> Callable[[], object] | None:
        for node in self._nodes:
            for entity in (*node.timers, *node.subscriptions, *node.guards):
                if work := entity.work():
                    return work  # type: ignore[no-any-return]
        return None
