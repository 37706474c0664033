"""The diagnostics and the parameters of the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convcut_trt.robots.messages import DiagnosticStatus, Expression
from convcut_trt.robots.rclpy_node import main
from tests.robots.fake_ros_graph import Graph
from tests.robots.node.robot import START, SUCCESS, Others, Robot, follow, image


def test_diagnostics_tell_the_state_and_what_is_missing(robot: Robot, others: Others) -> None:
    assert "unconfigured" in robot.reported().message
    assert robot.node.trigger_configure() is SUCCESS
    status = robot.reported()
    assert status.level == DiagnosticStatus.WARN and "inactive" in status.message
    assert robot.node.trigger_activate() is SUCCESS
    status = robot.reported()
    assert status.level == DiagnosticStatus.WARN and "face detector" in status.message
    follow(robot, others, "a")
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))
    status = robot.reported()
    assert (status.level, status.name) == (DiagnosticStatus.OK, "convcut_trt: conv-cut-mini")
    figures = robot.figures()
    assert figures["state"] == "active" and float(figures["infer p99 ms"]) >= 0
    others.send("/humans/faces/a/expression", Expression())
    assert "hri_emotion_recognizer" in robot.reported().message


def test_faces_without_images_are_stale(
    robot: Robot, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convcut_trt.robots.ros_crops.STALL_S", 0.1)
    robot.start()
    others.faces()
    robot.settle(0.2)
    assert robot.reported().level == DiagnosticStatus.OK
    follow(robot, others, "a")
    robot.settle(0.2)
    assert robot.reported().level == DiagnosticStatus.STALE
    assert robot.figures()["stalls"] == "1"
    others.crop("a", image("neutral"))
    robot.spin(lambda: robot.words("a"))
    assert int(robot.figures()["stalls"]) >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "reject:=2.0"], "reject"),
        (["-p", "reject:=1"], "reject"),
        (["-p", "hysteresis:=.nan"], "hysteresis"),
        (["-p", "dwell:=-1.0"], "dwell"),
        (["-p", "max_rate:=fast"], "max_rate"),
        (["-p", "engine:=7"], "engine"),
        (["-p", "diagnostics_period:=0.0"], "diagnostics_period"),
        (["-p", "engine"], "engine"),
    ],
)
def test_a_bad_parameter_at_the_start_is_a_sentence_and_exit_code_2(
    graph: Graph, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", "--ros-args", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err.splitlines()[0] and "Traceback" not in err


def test_parameters_change_where_that_is_safe(robots: Callable[..., Robot]) -> None:
    robot = robots("image_topic:=/camera", "detector:=whole")
    assert robot.set("precision", "fp16") == ""
    assert robot.node.trigger_configure() is SUCCESS
    assert "clean it up first" in robot.set("engine", "another")
    assert robot.set("dwell", 1.0) == ""
    assert robot.node.trigger_activate() is SUCCESS
    assert "deactivate it first" in robot.set("dwell", 2.0)
    assert "out of range" in robot.set("max_rate", -1.0)
    assert "read-only" in robot.set("diagnostics_period", 2.0)
    assert "Wrong parameter type" in robot.set("max_rate", 5)
    assert robot.set("max_rate", 5.0) == ""
    assert robot.node.trigger_deactivate() is SUCCESS
    assert robot.set("dwell", 2.0) == ""


def test_max_rate_drops_and_counts_what_comes_between(robot: Robot, others: Others) -> None:
    robot.start()
    follow(robot, others, "a")
    assert robot.set("max_rate", 5.0) == ""
    for moment in range(20):
        others.crop("a", image("neutral", moment))
        robot.settle(0.025)
    robot.settle(0.3)
    assert 3 <= len(robot.words("a")) <= 5
    assert robot.words("a")[-1].header.stamp.ns == START + 19
    figures = robot.figures()
    assert int(figures["frames"]) == 20 == int(figures["processed"]) + int(figures["dropped"])


def test_parameters_describe_themselves(robot: Robot) -> None:
    described: Any = robot.node.describe_parameter("hysteresis")
    (limits,) = described.floating_point_range
    assert (limits.from_value, limits.to_value) == (0, 1) and len(described.description) > 20
