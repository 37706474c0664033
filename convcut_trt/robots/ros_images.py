"""Frames from a topic of images, through ROS 2's rclpy."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.robots.images import frame_of
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.robots.ros_wire import ros, subscribe
from convcut_trt.sources import Frame

_POLL_S = 0.1  # how late a stop is noticed while no image comes


class Session:
    """A node in a context of its own: ROS then leaves our command line and our signals alone."""

    def __init__(self, name: str) -> None:
        """Joins the network, as ROS_DOMAIN_ID and RMW_IMPLEMENTATION say.

        Args:
            name: Of the node; the process' number is added, because two nodes of one name confuse ROS' tools.

        Raises:
            BackendMissing: ROS 2 is not sourced.
            InputError: It does not start.
        """
        self._rclpy = ros("rclpy")
        self.context: Any = ros("rclpy.context").Context()
        try:
            self._rclpy.init(args=[], context=self.context)
            self.node = self._rclpy.create_node(f"{name}_{os.getpid()}", context=self.context)
        except RuntimeError as error:
            raise InputError(
                f"ROS 2 does not start ({error}): check ROS_DOMAIN_ID and RMW_IMPLEMENTATION"
            ) from error
        self._open = True

    def close(self) -> None:
        """Leaves the network; again does nothing."""
        if self._open:
            self._open = False
            self.node.destroy_node()
            self._rclpy.shutdown(context=self.context)


class RosImages:
    """The images of a topic; a source that is live. The thread that iterates it is the one that spins its node."""

    live = True

    def __init__(self, topic: str, kind: type[Image | CompressedImage]) -> None:
        """Subscribes, best effort.

        Raises:
            BackendMissing: ROS 2 is not sourced, or sensor_msgs is not installed.
            InputError: No name of a topic, or ROS does not start.
        """
        self._kind = kind
        self._arrived: deque[bytes] = deque()
        self._halt = threading.Event()
        self._session = Session("convcut_trt_images")
        try:
            executors = ros("rclpy.executors")
            self._executor = executors.SingleThreadedExecutor(context=self._session.context)
            self._executor.add_node(self._session.node)
            subscribe(self._session.node, kind, topic, self._keep, sensor=True)
        except BaseException:
            self._session.close()
            raise

    def _keep(self, data: bytes) -> None:
        self._arrived.append(data)

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while not self._halt.is_set():
            self._executor.spin_once(timeout_sec=_POLL_S)
            while self._arrived:
                yield frame_of(self._arrived.popleft(), self._kind.decode, number, time.time_ns())
                number += 1

    def stop(self) -> None:
        """Ends the wait for the next image."""
        self._halt.set()

    def close(self) -> None:
        """Leaves the network."""
        self._executor.shutdown()
        self._session.close()


class Arrivals:
    """A live source of the messages that a node's subscription puts in; the node is spun elsewhere."""

    live = True

    def __init__(self, kind: type[Image | CompressedImage]) -> None:
        """Without a message yet."""
        self._kind = kind
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def put(self, data: bytes) -> None:
        """The subscription's callback: a message of this kind."""
        self._queue.put(data)

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while (data := self._queue.get()) is not None:
            yield frame_of(data, self._kind.decode, number, time.time_ns())
            number += 1

    def stop(self) -> None:
        """Ends the source."""
        self._queue.put(None)
