"""ROS 2 without ROS, the modules: what ``import rclpy`` finds while a test runs; see ``fake_ros_graph``."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tests.robots import fake_ros_graph as graphs
from tests.robots import fake_ros_lifecycle as lifecycle
from tests.robots import fake_ros_node as nodes
from tests.robots.fake_ros_messages import packages


def install(monkeypatch: pytest.MonkeyPatch) -> graphs.Graph:
    """Puts rclpy and the packages of messages into ``sys.modules``, with a network of their own."""
    graph = graphs.Graph()
    monkeypatch.setattr(graphs.Context, "graph", graph, raising=False)
    monkeypatch.setenv("ROS_DISTRO", "humble")
    contents: dict[str, dict[str, Any]] = {
        "rclpy": _functions(),
        "rclpy.context": {"Context": graphs.Context},
        "rclpy.exceptions": {
            "InvalidHandle": graphs.InvalidHandle,
            "InvalidParameterTypeException": nodes.InvalidParameterTypeException,
            "InvalidTopicNameException": nodes.InvalidTopicNameException,
            "NameValidationException": nodes.NameValidationException,
            "ParameterException": nodes.ParameterException,
        },
        "rclpy.executors": {
            "ExternalShutdownException": graphs.ExternalShutdownException,
            "SingleThreadedExecutor": graphs.SingleThreadedExecutor,
        },
        "rclpy.lifecycle": {
            "LifecycleNode": lifecycle.LifecycleNode,
            "LifecycleState": lifecycle.LifecycleState,
            "Node": lifecycle.LifecycleNode,
            "TransitionCallbackReturn": lifecycle.TransitionCallbackReturn,
        },
        "rclpy.node": {"Node": nodes.Node},
        "rclpy.parameter": {"Parameter": nodes.Parameter},
        "rclpy.qos": {
            "DurabilityPolicy": graphs.DurabilityPolicy,
            "HistoryPolicy": graphs.HistoryPolicy,
            "QoSProfile": graphs.QoSProfile,
            "ReliabilityPolicy": graphs.ReliabilityPolicy,
            "qos_profile_sensor_data": graphs.SENSOR_DATA,
        },
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name, module in packages().items():
        monkeypatch.setitem(sys.modules, name, module)
    return graph


def _functions() -> dict[str, Any]:
    default: list[graphs.Context] = [graphs.Context()]

    def get_default_context(*, shutting_down: bool = False) -> graphs.Context:
        return default[0]

    def init(
        *,
        args: list[str] | None = None,
        context: graphs.Context | None = None,
        domain_id: int | None = None,
        signal_handler_options: Any = None,
    ) -> None:
        (context or default[0]).init(args, domain_id=domain_id)

    def shutdown(
        *, context: graphs.Context | None = None, uninstall_handlers: bool | None = None
    ) -> None:
        (context or default[0]).shutdown()

    def try_shutdown(*, context: graphs.Context | None = None) -> None:
        (context or default[0]).try_shutdown()
        if context is None:
            default[0] = graphs.Context()

    def ok(*, context: graphs.Context | None = None) -> bool:
        return (context or default[0]).ok()

    def create_node(
        node_name: str, *, context: graphs.Context | None = None, **kwargs: Any
    ) -> nodes.Node:
        return nodes.Node(node_name, context=context, **kwargs)

    made = (get_default_context, init, shutdown, try_shutdown, ok, create_node)
    return {function.__name__: function for function in made}
