"""The node where an engine, a package or another node fails it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.robots import ros_worker
from convcut_trt.robots.messages import Detection2DArray, DiagnosticStatus, Image
from convcut_trt.robots.ros_wire import ros_class
from tests.robots.fake_ros_graph import Graph
from tests.robots.node.robot import FAILURE, SUCCESS, FakeEngine, Others, Robot, follow, image


def test_an_engine_that_fails_takes_the_node_through_error_processing(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    def fail() -> None:
        raise RuntimeError("the GPU fell off the bus")

    robot.start()
    follow(robot, others, "a")
    engine.work = fail
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.node.label == "unconfigured")
    assert "fell off" in robot.logged("error") and engine.closed == 1
    status = robot.reported()
    assert status.level == DiagnosticStatus.ERROR and "fell off" in status.message
    assert "/humans/faces/a/expression" not in robot.graph.topics()
    engine.work = lambda: None
    robot.start()
    assert robot.reported().level != DiagnosticStatus.ERROR
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))


def test_nan_of_the_engine_is_never_published(
    robot: Robot, others: Others, engine: FakeEngine
) -> None:
    engine.surely = float("nan")
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.node.label == "unconfigured")
    assert robot.words("a") == [] and "NaN" in robot.reported().message


@pytest.mark.parametrize("transition", ["deactivate", "shutdown"])
def test_an_inference_that_does_not_return_holds_nothing_up(
    robot: Robot,
    others: Others,
    engine: FakeEngine,
    transition: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ros_worker, "PATIENCE_S", 0.1)
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        go_on.wait(10)

    engine.work = hang
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
    begun = time.monotonic()
    getattr(robot.node, f"trigger_{transition}")()
    assert time.monotonic() - begun < 1
    assert robot.node.label == {"deactivate": "unconfigured", "shutdown": "finalized"}[transition]
    assert "does not return" in robot.logged("error") and not engine.closed
    go_on.set()
    robot.spin(lambda: not [t for t in threading.enumerate() if t.name == "convcut-answers"])
    assert robot.words("a") == []


def test_a_short_inference_is_waited_for(robot: Robot, others: Others, engine: FakeEngine) -> None:
    entered = threading.Event()

    def work() -> None:
        entered.set()
        time.sleep(0.1)

    engine.work = work
    robot.start()
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
    assert robot.node.trigger_shutdown() is SUCCESS
    robot.settle()
    assert robot.words("a") == [] and engine.closed == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("engine:=conv-cut-huge",), "convcut-trt build"),
        (("compressed:=true",), "image_topic"),
        (("image_topic:=/camera", "detector:=nose"), "'nose'"),
        (("image_topic:=/camera", "detector:=missing.onnx"), "missing.onnx"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence_and_can_be_mended(
    robots: Callable[..., Robot], arguments: tuple[str, ...], said: str
) -> None:
    robot = robots(*arguments)
    assert robot.node.trigger_configure() is FAILURE
    assert robot.node.label == "unconfigured"
    assert said in robot.logged("error") and "Traceback" not in robot.logged("error")
    status = robot.reported()
    assert status.level == DiagnosticStatus.ERROR and said in status.message
    fine = {"engine": "conv-cut-mini", "compressed": False, "detector": "whole"}
    assert [robot.set(name, value) for name, value in fine.items()] == [""] * 3
    assert robot.node.trigger_configure() is SUCCESS
    assert robot.reported().level == DiagnosticStatus.WARN


def test_a_bad_topic_leaves_the_node_inactive(robots: Callable[..., Robot]) -> None:
    robot = robots("image_topic:=1/bad topic", "detector:=whole")
    assert robot.node.trigger_configure() is SUCCESS
    assert robot.node.trigger_activate() is FAILURE
    assert robot.node.label == "inactive" and "1/bad topic" in robot.logged("error")
    assert "1/bad topic" in robot.reported().message
    assert robot.node.trigger_cleanup() is SUCCESS
    assert robot.set("image_topic", "camera") == ""
    robot.start()
    assert robot.node.trigger_deactivate() is SUCCESS
    assert robot.reported().level == DiagnosticStatus.WARN


def test_a_missing_package_is_named_when_the_node_is_configured(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hri_msgs.msg", None)
    assert robot.node.trigger_configure() is FAILURE
    assert "apt install ros-humble-hri-msgs" in robot.logged("error")


def test_definitions_that_differ_are_refused(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ros_class(Detection2DArray).__name__ == "Detection2DArray"
    inner = sys.modules["vision_msgs.msg"].BoundingBox2D
    older = {"center": "geometry_msgs/Pose2D", "size_x": "double", "size_y": "double"}
    monkeypatch.setattr(inner, "_fields_and_field_types", older)
    with pytest.raises(InputError, match="geometry_msgs/Pose2D"):
        ros_class(Detection2DArray)
    monkeypatch.setitem(sys.modules, "sensor_msgs.msg", ModuleType("sensor_msgs.msg"))
    with pytest.raises(BackendMissing, match="ros-humble-sensor-msgs"):
        ros_class(Image)


def test_two_nodes_of_one_name_warn_and_go_on(robot: Robot, others: Others) -> None:
    Others("convcut_trt")
    robot.start()
    assert "another node is called convcut_trt" in robot.logged("warning")
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))
