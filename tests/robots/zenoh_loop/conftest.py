"""The other side of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.robots.zenoh_loop.robot import Robot


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    with closing(robot.session):
        yield robot
