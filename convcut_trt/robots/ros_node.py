"""The lifecycle node: its states, its parameters, its diagnostics.

Unconfigured -> ``configure`` opens the engine -> inactive -> ``activate`` subscribes and answers -> active. What
fails while it is active takes the node through error processing back to unconfigured, where it can be configured
again; the sentence stays in the diagnostics. rclpy swallows exceptions of these callbacks: all are logged here.

All that touches the network runs in the thread that spins the node, see ``ros_wire.RosWire`` and ``ros_worker``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from convcut_trt.engine import Engine, load
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.faces.detect import Detector
from convcut_trt.faces.detect import detector as open_detector
from convcut_trt.robots.messages import (
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    KeyValue,
    Time,
)
from convcut_trt.robots.publish import DIAGNOSTICS, diagnostics
from convcut_trt.robots.ros_modes import FindFaces, FollowFaces, Mode
from convcut_trt.robots.ros_settings import CONFIGURED, changes, declare, read, when
from convcut_trt.robots.ros_wire import RosWire, ros, ros_class
from convcut_trt.robots.ros_worker import Worker
from convcut_trt.robots.sinks import About

NAME = "convcut_trt"


class Life:
    """What the node does in each state; the node itself is rclpy's, see ``make_node``."""

    def __init__(self, node: Any) -> None:
        """Declares the parameters, and reports from now on.

        Raises:
            BackendMissing: diagnostic_msgs is not installed.
            rclpy.exceptions.ParameterException: A parameter is wrong from the start.
        """
        declare(node)
        self._node = node
        self._log = node.get_logger()
        self._settings = read(node)
        self._engine: Engine | None = None
        self._detector: Detector | None = None
        self._mode: Mode | None = None
        self._worker: Worker | None = None
        self._failure = ""
        self._finalized = False
        node.add_on_set_parameters_callback(self._set)
        self._guard = node.create_guard_condition(self._answered)
        self._diagnostics = RosWire(node).advertise(DIAGNOSTICS, DiagnosticArray, False)
        node.create_timer(self._settings.diagnostics_period, self._report)

    @property
    def state(self) -> str:
        """unconfigured, inactive, active or finalized."""
        if self._finalized:
            return "finalized"
        if self._worker is not None:
            return "active"
        return "unconfigured" if self._engine is None else "inactive"

    def configure(self) -> None:
        """Opens the engine and the detector.

        Raises:
            ConvcutError: One does not open, or a package of messages is missing.
        """
        self._failure = ""
        settings = self._settings = read(self._node)
        self._warn_of_twins()
        if settings.compressed and not settings.image_topic:
            raise InputError("compressed goes with an image_topic: set one, or compressed to false")
        mode = FindFaces if settings.image_topic else FollowFaces
        for kind in mode.kinds:
            ros_class(kind)
        if settings.image_topic:
            self._detector = open_detector(settings.detector or None)
        self._engine = load(settings.engine, settings.precision or None, settings.backend)
        self._log.info(f"{self._engine.manifest.path.name} is open")

    def _warn_of_twins(self) -> None:
        own = (self._node.get_name(), self._node.get_namespace())
        if self._node.get_node_names_and_namespaces().count(own) > 1:
            self._log.warning(
                f"another node is called {own[0]}, too: tools will mix them up, start one with "
                "--ros-args -r __node:=ANOTHER"
            )

    def activate(self) -> None:
        """Subscribes, and begins to answer.

        Raises:
            ConvcutError: A topic's name is wrong.
        """
        if self._engine is None:
            raise InputError("there is no engine: configure the node first")
        self._failure = ""
        settings = self._settings
        if self._detector is None:
            self._mode = FollowFaces(self._node, self._engine, settings)
        else:
            self._mode = FindFaces(self._node, self._engine, settings, self._detector)
        self._worker = Worker(self._mode.answers, settings.max_rate, self._wake)
        self._worker.start()

    def deactivate(self) -> None:
        """Ends the answers and withdraws the topics.

        Raises:
            ConvcutError: What ended the answers before, or an inference does not return.
        """
        worker, self._worker = self._worker, None
        mode, self._mode = self._mode, None
        if worker is None or mode is None:
            return
        ended = worker.stop()
        mode.close()
        if not ended:
            # In use: to close it would wait for that inference, or crash.
            self._engine = None
            raise InputError("an inference does not return: its thread and engine are left behind")
        if worker.error is not None:
            raise worker.error

    def cleanup(self) -> None:
        """Closes the engine."""
        engine, self._engine, self._detector = self._engine, None, None
        if engine is not None:
            engine.close()

    def leave(self) -> None:
        """Ends everything, from any state.

        Raises:
            ConvcutError: See ``deactivate``; all is ended nevertheless.
        """
        try:
            self.deactivate()
        finally:
            self.cleanup()

    def shutdown(self) -> None:
        """``leave``, for good."""
        self._finalized = True
        self.leave()

    def recover(self) -> None:
        """Goes back to unconfigured after an error, which stays in the diagnostics."""
        failure = self._failure
        self.leave()
        self._failure = failure

    def _wake(self) -> None:
        """In the worker's thread: has the executor call ``_answered``."""
        try:
            self._guard.trigger()
        except RuntimeError:  # the node is gone: nobody waits for this answer
            return

    def _answered(self) -> None:
        worker, mode = self._worker, self._mode
        if worker is None or mode is None:
            return
        answer = worker.take()
        try:
            if answer is not None:
                mode.publish(answer)
        except ConvcutError as error:
            worker.error = error
        if worker.error is not None:
            self._node.trigger_deactivate()

    def _set(self, parameters: Any) -> Any:
        """Takes over what is being set, or says why not."""
        new = dict(changes(parameters))
        result = ros("rcl_interfaces.msg").SetParametersResult
        for name in new:
            if when(name) == CONFIGURED and self._engine is not None:
                reason = f"{name} is read when the node is configured: clean it up first"
                return result(successful=False, reason=reason)
        settings = replace(self._settings, **new)
        reason = "" if self._mode is None else self._mode.retune(settings)
        if reason:
            return result(successful=False, reason=reason)
        self._settings = settings
        if self._worker is not None:
            self._worker.rate = settings.max_rate
        return result(successful=True, reason="")

    def _report(self) -> None:
        self._diagnostics.publish(self._status(self._node.get_clock().now().nanoseconds))

    def _status(self, now: int) -> DiagnosticArray:
        """The diagnostics of this moment; see ``publish.diagnostics`` for an active node."""
        name = self._settings.engine if self._engine is None else self._engine.spec.name
        if self._mode is None:
            level = DiagnosticStatus.ERROR if self._failure else DiagnosticStatus.WARN
            text = self._failure or f"{self.state}: nothing is answered"
            status = DiagnosticStatus(level, f"{NAME}: {name}", text, name)
        else:
            about = About(name, (), 0.0)
            (status,) = diagnostics(self._mode.health(), about, now).status
            hint = self._mode.hint()
            if hint and status.level in (DiagnosticStatus.OK, DiagnosticStatus.STALE):
                status = replace(status, level=DiagnosticStatus.WARN, message=hint)
        state = KeyValue("state", self.state)
        status = replace(status, values=(*status.values, state))
        return DiagnosticArray(Header(Time.from_ns(now)), (status,))

    def attempt(self, step: Callable[[], None], broken: Any) -> Any:
        """Takes a step between two states.

        Args:
            step: One of the methods above.
            broken: What to return where it fails for a reason of the user's: FAILURE keeps the former state, ERROR
                goes through error processing.

        Returns:
            A ``TransitionCallbackReturn``; ERROR where the step fails in another way.
        """
        returns = ros("rclpy.lifecycle").TransitionCallbackReturn
        try:
            step()
        except ConvcutError as error:
            self._failure = str(error)
            self._log.error(str(error))
            return broken
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            self._log.error(self._failure)
            return returns.ERROR
        self._log.info(f"state: {self.state}")
        return returns.SUCCESS


def make_node() -> Any:
    """The lifecycle node, ``convcut_trt`` unless remapped.

    Raises:
        BackendMissing: ROS 2 is not sourced.
        rclpy.exceptions.ParameterException: A parameter is wrong from the start.
    """
    lifecycle = ros("rclpy.lifecycle")
    returns = lifecycle.TransitionCallbackReturn

    class ExpressionNode(lifecycle.LifecycleNode):  # type: ignore[misc, name-defined]
        """``Life`` in the callbacks of rclpy; its ``state`` arguments name the state before."""

        def __init__(self) -> None:
            super().__init__(NAME)
            self.life = Life(self)

        def on_configure(self, state: Any) -> Any:
            return self.life.attempt(self.life.configure, returns.FAILURE)

        def on_activate(self, state: Any) -> Any:
            return self.life.attempt(self.life.activate, returns.FAILURE)

        def on_deactivate(self, state: Any) -> Any:
            return self.life.attempt(self.life.deactivate, returns.ERROR)

        def on_cleanup(self, state: Any) -> Any:
            return self.life.attempt(self.life.cleanup, returns.ERROR)

        def on_shutdown(self, state: Any) -> Any:
            # Finalized either way; what went wrong is on the log.
            return self.life.attempt(self.life.shutdown, returns.FAILURE)

        def on_error(self, state: Any) -> Any:
            return self.life.attempt(self.life.recover, returns.FAILURE)

    return ExpressionNode()
