"""ROS 2 without ROS, nodes with the states of a lifecycle; see ``fake_ros_node``."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from tests.robots.fake_ros_graph import RCLError
from tests.robots.fake_ros_node import Node


class TransitionCallbackReturn(Enum):
    SUCCESS = "transition_success"
    FAILURE = "transition_failure"
    ERROR = "transition_error"

    def to_label(self) -> str:
        return self.value


class LifecycleState(NamedTuple):
    label: str
    state_id: int


# By transition: from which states, the callback, and the states after success and failure; rcl_lifecycle's default.
_TRANSITIONS = {
    "configure": (("unconfigured",), "on_configure", "inactive", "unconfigured"),
    "cleanup": (("inactive",), "on_cleanup", "unconfigured", "inactive"),
    "activate": (("inactive",), "on_activate", "active", "inactive"),
    "deactivate": (("active",), "on_deactivate", "inactive", "active"),
    "shutdown": (("unconfigured", "inactive", "active"), "on_shutdown", "finalized", "finalized"),
}


class LifecycleNode(Node):
    def __init__(
        self, node_name: str, *, enable_communication_interface: bool = True, **kwargs: Any
    ) -> None:
        Node.__init__(self, node_name, **kwargs)
        self.label = "unconfigured"
        names = ("configure", "cleanup", "activate", "deactivate", "shutdown", "error")
        self._bound = {f"on_{name}": getattr(self, f"on_{name}") for name in names}

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    on_cleanup = on_activate = on_deactivate = on_shutdown = on_error = on_configure

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._change("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        return self._change("cleanup")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._change("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        return self._change("deactivate")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._change("shutdown")

    def _change(self, transition: str) -> TransitionCallbackReturn:
        sources, callback, success, failure = _TRANSITIONS[transition]
        if self.label not in sources:
            raise RCLError(f"no transition {transition} from {self.label}")
        before = LifecycleState(label=self.label, state_id=0)
        self.label = callback
        result = self._execute(callback, before)
        if result is TransitionCallbackReturn.SUCCESS:
            self.label = success
        elif result is TransitionCallbackReturn.FAILURE:
            self.label = failure
        else:
            self.label = "errorprocessing"
            mended = self._execute("on_error", before) is TransitionCallbackReturn.SUCCESS
            self.label = "unconfigured" if mended else "finalized"
        return result

    def _execute(self, callback: str, before: LifecycleState) -> TransitionCallbackReturn:
        try:
            result = self._bound[callback](before)
        except Exception as error:  # rclpy says nothing of it
            self.graph.violations.append(f"{callback} raised {error!r}")
            return TransitionCallbackReturn.ERROR
        assert isinstance(result, TransitionCallbackReturn)
        return result
