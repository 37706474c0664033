"""ROS 2 through its own rclpy: ``ros2:TOPIC`` on the command line, and the lifecycle node.

    python -m convcut_trt.robots.rclpy_node --ros-args -p engine:=conv-cut-mini

The node takes the place of ``hri_emotion_recognizer``; see docs/ros2.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.guard import guarded
from convcut_trt.robots.address import parse
from convcut_trt.robots.messages import CompressedImage, Image
from convcut_trt.robots.publish import FACES, RosSink
from convcut_trt.robots.ros_images import RosImages, Session
from convcut_trt.robots.ros_node import make_node
from convcut_trt.robots.ros_wire import RosWire, ros

if TYPE_CHECKING:
    from convcut_trt.robots.sinks import About

_KINDS: dict[str, type[Image | CompressedImage]] = {"image": Image, "compressed": CompressedImage}


def open_sink(rest: str, about: About) -> RosSink:
    """Publishes results below a topic, see ``publish``.

    Args:
        rest: ``TOPIC``, by default ``publish.FACES``.
        about: See ``sinks.About``.

    Raises:
        InputError: A bad address, or ROS does not start.
        BackendMissing: ROS 2 is not sourced, or a package of messages is missing.
    """
    if "?" in rest:
        raise InputError(
            f"'ros2:{rest}': there are no options to publish with, write it as ros2:{FACES}"
        )
    session = Session("convcut_trt")
    try:
        return RosSink(RosWire(session.node, session.close), about, rest or FACES)
    except BaseException:
        session.close()
        raise


def open_source(rest: str) -> RosImages:
    """Subscribes to a topic of images, best effort.

    Args:
        rest: ``TOPIC?type=image``; the type is ``image`` or ``compressed``, by default the latter where the topic
            ends in ``/compressed``, as ROS names them.

    Raises:
        InputError: A bad address, or ROS does not start.
        BackendMissing: ROS 2 is not sourced, or sensor_msgs is missing.
    """
    example = "ros2:/camera/image_raw/compressed?type=compressed"
    topic, options = parse(rest, {"type": ""}, example)
    if not topic:
        raise InputError(f"'ros2:{rest}' names no topic to read images from: write it as {example}")
    name = options["type"] or ("compressed" if topic.endswith("/compressed") else "image")
    if name not in _KINDS:
        raise InputError(f"'ros2:{rest}': type={name} is none of {', '.join(_KINDS)}")
    return RosImages(topic, _KINDS[name])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the lifecycle node until Ctrl-C, SIGTERM or the end of ROS.

    Args:
        arguments: As ROS takes them, the program's name first; None is the command line.

    Returns:
        0, or 2 after one sentence: ROS 2 is not sourced, or a parameter is wrong.
    """
    return guarded(lambda: _spin(list(sys.argv if arguments is None else arguments)), as_json=False)


def _spin(arguments: list[str]) -> int:
    rclpy, executors = ros("rclpy"), ros("rclpy.executors")
    try:
        rclpy.init(args=arguments)
    except RuntimeError as error:
        raise InputError(f"ROS 2 does not start: {' '.join(str(error).split())}") from error
    try:
        node = _node()
        # One thread: callbacks take microseconds, see ros_worker.
        executor = executors.SingleThreadedExecutor()
        executor.add_node(node)
        try:
            executor.spin()
        finally:
            node.life.leave()
            executor.shutdown()
            node.destroy_node()
    except (KeyboardInterrupt, executors.ExternalShutdownException):
        return 0
    except (RuntimeError, ConvcutError):
        # Where a signal ends ROS within a callback, its next call fails.
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
    return 0


def _node() -> Any:
    wrong = ros("rclpy.exceptions").ParameterException
    try:
        return make_node()
    except wrong as error:
        raise InputError(f"{error}: docs/ros2.md lists the parameters") from error


if __name__ == "__main__":
    sys.exit(main())
