"""ROS 2 without ROS, nodes: entities and parameters; see ``fake_ros_graph``."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from tests.robots.fake_ros_graph import (
    Context,
    GuardCondition,
    Publisher,
    QoSProfile,
    Subscription,
    Timer,
)
from tests.robots.fake_ros_messages import Generated, ParameterDescriptor, SetParametersResult

_TOPIC = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


class NameValidationException(Exception):
    """A name that ROS does not take."""


class InvalidTopicNameException(NameValidationException):
    """That of a topic."""


class ParameterException(Exception):
    """Base of all errors of parameters."""


class InvalidParameterTypeException(ParameterException):
    """A parameter is declared with one type and set with another."""


class InvalidParameterValueException(ParameterException):
    """A parameter's value was refused."""


class Kind(Enum):
    NOT_SET = 0
    BOOL = 1
    INTEGER = 2
    DOUBLE = 3
    STRING = 4

    @classmethod
    def of(cls, value: object) -> Kind:
        """That of a value: True is no number."""
        kinds = {bool: cls.BOOL, int: cls.INTEGER, float: cls.DOUBLE, str: cls.STRING}
        return cls.NOT_SET if value is None else kinds[type(value)]


class Parameter:
    Type = Kind

    def __init__(self, name: str, type_: Kind | None = None, value: Any = None) -> None:
        self.name, self.value = name, value
        self.type_ = Kind.of(value) if type_ is None else type_
        if self.type_ != Kind.of(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")


class Logger:
    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def _log(self, severity: str, message: str, **kwargs: Any) -> bool:
        assert isinstance(message, str)
        known = {"throttle_duration_sec", "throttle_time_source_type", "skip_first", "once", "name"}
        assert kwargs.keys() <= known
        self._graph.logs.append((severity, message))
        return True

    def debug(self, message: str, **kwargs: Any) -> bool:
        return self._log("debug", message, **kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        return self._log("info", message, **kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        return self._log("warning", message, **kwargs)

    def error(self, message: str, **kwargs: Any) -> bool:
        return self._log("error", message, **kwargs)


class Moment(NamedTuple):
    nanoseconds: int


class Clock:
    def now(self) -> Moment:
        return Moment(time.time_ns())


class Node:
    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
    ) -> None:
        self.context: Context = context or sys.modules["rclpy"].get_default_context()
        if not self.context.ok():
            raise RuntimeError("rclpy.init() has not been called: cannot create node")
        self._name = self.context.remaps.get("__node", node_name)
        self.graph = self.context.graph
        self.graph.nodes.append(self)
        self.executor: Any = None
        self.publishers: list[Publisher] = []
        self.subscriptions: list[Subscription] = []
        self.guards: list[GuardCondition] = []
        self.timers: list[Timer] = []
        self._parameters: dict[str, Parameter] = {}
        self._descriptors: dict[str, ParameterDescriptor] = {}
        self._callbacks_of_parameters: list[Callable[[list[Parameter]], Any]] = []
        self._logger = Logger(self.graph)
        self.destroyed = False

    def get_name(self) -> str:
        return self._name

    def get_namespace(self) -> str:
        return "/"

    def get_clock(self) -> Clock:
        return Clock()

    def get_logger(self) -> Logger:
        return self._logger

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(node.get_name(), node.get_namespace()) for node in self.graph.nodes]

    def count_publishers(self, topic_name: str) -> int:
        wanted = self._full(topic_name)
        return sum(publisher.topic_name == wanted for publisher in self.graph.publishers)

    def _full(self, topic: str) -> str:
        absolute = topic if topic.startswith("/") else f"/{topic}"
        if not _TOPIC.fullmatch(absolute):
            raise InvalidTopicNameException(f"Invalid topic name: {topic!r}:\n  here")
        return absolute

    def _resolved(self, topic: str) -> str:
        return self.context.remaps.get(topic, self._full(topic))

    def _touched(self, what: str) -> None:
        """The executor of Humble may fail when another thread changes what it waits for."""
        spinning = None if self.executor is None else self.executor.thread
        if spinning not in (None, threading.get_ident()):
            self.graph.violations.append(f"{what} in {threading.current_thread().name}")
        assert not self.destroyed

    # -- entities

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: Any = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        publisher_class: Any = Publisher,
    ) -> Any:
        self._touched(f"create_publisher {topic}")
        assert issubclass(msg_type, Generated)
        made = publisher_class(self, msg_type, self._resolved(topic), QoSProfile.of(qos_profile))
        with self.graph.changed:
            self.publishers.append(made)
            self.graph.publishers.append(made)
        return made

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], object],
        qos_profile: QoSProfile | int,
        *,
        callback_group: Any = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        self._touched(f"create_subscription {topic}")
        assert issubclass(msg_type, Generated)
        qos = QoSProfile.of(qos_profile)
        made = Subscription(self, msg_type, self._resolved(topic), callback, qos, raw)
        with self.graph.changed:
            self.subscriptions.append(made)
            self.graph.subscriptions.append(made)
        return made

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], object],
        callback_group: Any = None,
        clock: Any = None,
    ) -> Timer:
        self._touched("create_timer")
        self.timers.append(Timer(float(timer_period_sec), callback))
        return self.timers[-1]

    def create_guard_condition(
        self, callback: Callable[[], object], callback_group: Any = None
    ) -> GuardCondition:
        self._touched("create_guard_condition")
        made = GuardCondition(callback)
        made.graph = self.graph
        self.guards.append(made)
        return made

    def destroy_publisher(self, publisher: Publisher) -> bool:
        self._touched("destroy_publisher")
        if publisher not in self.publishers:
            return False
        publisher.destroyed = True
        with self.graph.changed:
            self.publishers.remove(publisher)
            self.graph.publishers.remove(publisher)
        return True

    def destroy_subscription(self, subscription: Subscription) -> bool:
        self._touched("destroy_subscription")
        if subscription not in self.subscriptions:
            return False
        with self.graph.changed:
            self.subscriptions.remove(subscription)
            self.graph.subscriptions.remove(subscription)
        return True

    def destroy_node(self) -> None:
        for publisher in list(self.publishers):
            self.destroy_publisher(publisher)
        for subscription in list(self.subscriptions):
            self.destroy_subscription(subscription)
        for guard in self.guards:
            guard.destroyed = True
        self.guards, self.timers, self.destroyed = [], [], True
        self.graph.nodes.remove(self)

    # -- parameters

    def declare_parameters(
        self,
        namespace: str,
        parameters: list[tuple[str, Any, ParameterDescriptor]],
        ignore_override: bool = False,
    ) -> list[Parameter]:
        for name, value, descriptor in parameters:
            assert namespace == "" and isinstance(descriptor, ParameterDescriptor)
            descriptor.type = Kind.of(value).value  # type: ignore[attr-defined]
            given = self.context.parameters.get(name, value)
            parameter = Parameter(name, value=given)
            self._descriptors[name] = descriptor
            result = self._refusal(parameter, False) or self._asked([parameter])
            if not result.successful:
                if result.reason.startswith("Wrong parameter type"):
                    raise InvalidParameterTypeException(f"{name} is {given!r}: {result.reason}")
                raise InvalidParameterValueException(f"{name} is {given!r}: {result.reason}")
            self._parameters[name] = parameter
        return [self._parameters[name] for name, _, _ in parameters]

    def get_parameter(self, name: str) -> Parameter:
        return self._parameters[name]

    def describe_parameter(self, name: str) -> ParameterDescriptor:
        return self._descriptors[name]

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._callbacks_of_parameters.insert(0, callback)

    def set_parameters(self, parameter_list: list[Parameter]) -> list[SetParametersResult]:
        results = []
        for parameter in parameter_list:
            result = self._refusal(parameter, True) or self._asked([parameter])
            if result.successful:
                self._parameters[parameter.name] = parameter
            results.append(result)
        return results

    def _asked(self, parameters: list[Parameter]) -> Any:
        for callback in self._callbacks_of_parameters:
            result = callback(parameters)
            assert isinstance(result, SetParametersResult)
            if not result.successful:  # type: ignore[attr-defined]
                return result
        return SetParametersResult(successful=True)

    def _refusal(self, parameter: Parameter, check_read_only: bool) -> Any:
        descriptor: Any = self._descriptors[parameter.name]
        reason = ""
        if check_read_only and descriptor.read_only:
            reason = f"Trying to set a read-only parameter: {parameter.name}."
        elif parameter.type_.value != descriptor.type:
            reason = f"Wrong parameter type, expected '{Kind(descriptor.type)}'"
        elif descriptor.floating_point_range:
            (limits,) = descriptor.floating_point_range
            ends = (limits.from_value, limits.to_value)
            close = any(math.isclose(parameter.value, end, rel_tol=1e-6) for end in ends)
            if not close and not ends[0] < parameter.value < ends[1]:
                reason = f"Parameter {parameter.name} out of range"
        return SetParametersResult(successful=False, reason=reason) if reason else None
