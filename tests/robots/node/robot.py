"""Our node and the rest of a robot, on a stub of rclpy that takes only what the real one takes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from convcut_trt.home import find_model
from convcut_trt.robots import ros_node
from convcut_trt.robots.messages import (
    DiagnosticArray,
    DiagnosticStatus,
    Expression,
    Header,
    IdsList,
    Image,
    Time,
)
from convcut_trt.robots.ros_wire import ros_class
from tests.robots.cases import raw_image
from tests.robots.fake_ros_graph import Graph
from tests.robots.fake_ros_lifecycle import TransitionCallbackReturn
from tests.robots.fake_ros_node import Parameter

SPEC = find_model("conv-cut-mini").spec
SECOND = 10**9
START = 1_700_000_000 * SECOND
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR


def level(label: str) -> int:
    """The grey of a picture that ``FakeEngine`` takes for this expression."""
    return SPEC.classes.index(label) * 32 + 8


class FakeEngine:
    """Says what is painted: the class by the brightness, surely; notes its batches."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.manifest = SimpleNamespace(path=SimpleNamespace(name="fake.json"))
        self.batches: list[int] = []
        self.work: Callable[[], object] = lambda: None
        self.surely = 0.93
        self.closed = 0

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        assert batch.shape[1:] == (SPEC.size, SPEC.size, 3) and batch.dtype == np.uint8
        assert not self.closed
        self.batches.append(len(batch))
        self.work()
        shares = np.full((len(batch), 8), (1 - self.surely) / 7, np.float32)
        shares[np.arange(len(batch)), (batch.mean(axis=(1, 2, 3)) // 32).astype(int)] = self.surely
        return {"probabilities": shares}

    def close(self) -> None:
        self.closed += 1


def header(moment: int = 0, frame_id: str = "camera_color_optical_frame") -> Header:
    return Header(Time.from_ns(START + moment), frame_id)


def image(label: str, moment: int = 0, height: int = 128, width: int = 128) -> Image:
    return raw_image(np.full((height, width, 3), level(label), np.uint8), "bgr8", header(moment))


class Others:
    """The rest of the robot: a node that publishes."""

    def __init__(self, name: str = "hri_face_detect") -> None:
        rclpy = sys.modules["rclpy"]
        context: Any = sys.modules["rclpy.context"].Context()
        rclpy.init(args=[], context=context)
        self.node: Any = rclpy.create_node(name, context=context)
        self._publishers: dict[str, Any] = {}

    def send(self, topic: str, message: Any, data: bytes | None = None) -> None:
        if topic not in self._publishers:
            made = self.node.create_publisher(ros_class(type(message)), topic, 1)
            self._publishers[topic] = made
        self._publishers[topic].publish(message.encode() if data is None else data)

    def faces(self, *ids: str) -> None:
        self.send("/humans/faces/tracked", IdsList(header(), ids))

    def crop(self, face: str, message: Image, data: bytes | None = None) -> None:
        self.send(f"/humans/faces/{face}/aligned", message, data)


class Robot:
    """Our node, spun by the test when it waits for something."""

    def __init__(self, graph: Graph, *arguments: str) -> None:
        rclpy = sys.modules["rclpy"]
        self.graph = graph
        given = [word for argument in arguments for word in ("-p", argument)]
        rclpy.init(args=["node", "--ros-args", "-p", "diagnostics_period:=0.05", *given])
        self.node: Any = ros_node.make_node()
        self._executor: Any = sys.modules["rclpy.executors"].SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def spin(self, until: Callable[[], object], seconds: float = 3.0) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"nothing came; {self.graph.logs} {self.status()}"
            self._executor.spin_once(timeout_sec=0.01)

    def settle(self, seconds: float = 0.15) -> None:
        end = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() > end)

    def start(self) -> None:
        assert self.node.trigger_configure() is SUCCESS, self.graph.logs
        assert self.node.trigger_activate() is SUCCESS, self.graph.logs

    def set(self, name: str, value: object) -> str:
        """Why the parameter cannot have this value; "" where it can."""
        (result,) = self.node.set_parameters([Parameter(name, value=value)])
        return "" if result.successful else str(result.reason)

    def words(self, face: str) -> list[Expression]:
        sent = self.graph.on(f"/humans/faces/{face}/expression")
        return [Expression.decode(data) for data in sent]

    def status(self) -> DiagnosticStatus | None:
        sent = self.graph.on("/diagnostics")
        return DiagnosticArray.decode(sent[-1]).status[0] if sent else None

    def reported(self) -> DiagnosticStatus:
        """The next diagnostics."""
        before = len(self.graph.on("/diagnostics"))
        self.spin(lambda: len(self.graph.on("/diagnostics")) > before)
        status = self.status()
        assert status is not None
        return status

    def figures(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in self.reported().values}

    def logged(self, severity: str) -> str:
        return "\n".join(text for kind, text in self.graph.logs if kind == severity)


def follow(robot: Robot, others: Others, *ids: str) -> None:
    """Has the node follow these faces, and no other."""
    others.faces(*ids)
    wanted = {f"/humans/faces/{face}/expression" for face in ids}
    robot.spin(
        lambda: wanted == {topic for topic in robot.graph.topics() if topic.endswith("expression")}
    )


def held(robot: Robot, others: Others, engine: FakeEngine) -> threading.Event:
    """Has the engine work on a crop of face a until the event that it returns is set."""
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        assert go_on.wait(5)

    engine.work = work
    others.crop("a", image("neutral"))
    robot.spin(entered.is_set)
    return go_on
