"""A robot without a network, and a node on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from convcut_trt.errors import EngineMismatch
from convcut_trt.robots import ros_node
from tests.robots.fake_rclpy import install
from tests.robots.fake_ros_graph import Graph
from tests.robots.node.robot import FakeEngine, Others, Robot


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    network = install(monkeypatch)
    yield network
    assert network.violations == []
    names = ("convcut-answers", "convcut-source")
    assert not [thread for thread in threading.enumerate() if thread.name in names]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()

    def load(name: str, precision: str | None, backend: str) -> FakeEngine:
        if name != "conv-cut-mini":
            raise EngineMismatch(f"no engine of {name} fits: run convcut-trt build")
        made.closed = 0
        return made

    monkeypatch.setattr(ros_node, "load", load)
    return made


@pytest.fixture
def robots(graph: Graph, engine: FakeEngine) -> Iterator[Callable[..., Robot]]:
    made: list[Robot] = []

    def make(*arguments: str) -> Robot:
        made.append(Robot(graph, *arguments))
        return made[-1]

    yield make
    for robot in made:
        robot.node.life.leave()
        robot.node.destroy_node()


@pytest.fixture
def robot(robots: Callable[..., Robot]) -> Robot:
    return robots("time_constant:=0.0", "dwell:=0.0", "hysteresis:=0.0")


@pytest.fixture
def others(graph: Graph) -> Others:
    return Others()
