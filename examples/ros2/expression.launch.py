"""Starts the expression node, configures it, and activates it once that has worked.

ros2 launch examples/ros2/expression.launch.py
ros2 launch examples/ros2/expression.launch.py params:=mine.yaml python:=$HOME/venv/bin/python
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition


def generate_launch_description():
    """What ``ros2 launch`` asks a launch file for."""
    node = LifecycleNode(
        executable=LaunchConfiguration("python"),
        arguments=["-m", "convcut_trt.robots.rclpy_node"],
        name=LaunchConfiguration("name"),
        namespace="",
        parameters=[LaunchConfiguration("params")],
        output="both",
    )

    def change(transition):
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event)

    # From "configuring" only: who deactivates the node wants it inactive.
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params",
                default_value=str(Path(__file__).with_name("expression.yaml")),
                description="file with the parameters of the node",
            ),
            DeclareLaunchArgument(
                "name",
                default_value="convcut_trt",
                description="hri_emotion_recognizer, where others ask for the node by that name",
            ),
            DeclareLaunchArgument(
                "python",
                default_value="python3",
                description="the Python that has convcut-trt",
            ),
            RegisterEventHandler(configured),
            node,
            change(Transition.TRANSITION_CONFIGURE),
        ]
    )
