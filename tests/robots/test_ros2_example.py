"""The launch file and the parameters of examples/ros2, against what launch and launch_ros take."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from convcut_trt.robots.ros_settings import Settings

FOLDER = Path(__file__).parents[2] / "examples" / "ros2"
DOCS = Path(__file__).parents[2] / "docs" / "ros2.md"


class Made:
    """An action, event or substitution, and what it was made with."""

    taken: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    def __init__(self, *parts: Any, **options: Any) -> None:
        assert set(self.needed) <= options.keys() <= {*self.needed, *self.taken}
        assert len(parts) <= (1 if not self.needed else 0)
        self.parts, self.options = parts, options


def kind(name: str, needed: tuple[str, ...] = (), taken: tuple[str, ...] = ()) -> type[Made]:
    return type(name, (Made,), {"needed": needed, "taken": taken})


@pytest.fixture
def description(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """What the launch file describes. Signatures are those of the branches humble and jazzy."""

    def matches_action(target_action: Made) -> object:
        return target_action

    node = (
        *("executable", "package", "exec_name", "parameters", "remappings", "ros_arguments"),
        *("arguments", "output", "emulate_tty", "respawn", "respawn_delay"),
    )
    transition = ("transition", "start_state", "goal_state", "matcher", "target_lifecycle_node")
    numbers = {"TRANSITION_CONFIGURE": 1, "TRANSITION_CLEANUP": 2, "TRANSITION_ACTIVATE": 3}
    contents: dict[str, dict[str, object]] = {
        "launch": {"LaunchDescription": kind("LaunchDescription")},
        "launch.actions": {
            "DeclareLaunchArgument": kind(
                "DeclareLaunchArgument", (), ("default_value", "description", "choices")
            ),
            "EmitEvent": kind("EmitEvent", ("event",)),
            "RegisterEventHandler": kind("RegisterEventHandler"),
        },
        "launch.events": {"matches_action": matches_action},
        "launch.substitutions": {"LaunchConfiguration": kind("LaunchConfiguration")},
        "launch_ros": {},
        "launch_ros.actions": {"LifecycleNode": kind("LifecycleNode", ("name", "namespace"), node)},
        "launch_ros.event_handlers": {
            "OnStateTransition": kind("OnStateTransition", ("entities",), transition)
        },
        "launch_ros.events": {},
        "launch_ros.events.lifecycle": {
            "ChangeState": kind("ChangeState", ("lifecycle_node_matcher", "transition_id"))
        },
        "lifecycle_msgs": {},
        "lifecycle_msgs.msg": {"Transition": type("Transition", (), numbers)},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("launch_file", FOLDER / "expression.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entities: list[Made] = module.generate_launch_description().parts[0]
    return entities


def test_the_launch_file_starts_configures_and_activates_one_node(description: list[Made]) -> None:
    (node,) = (part for part in description if type(part).__name__ == "LifecycleNode")
    assert importlib.util.find_spec(node.options["arguments"][1]) is not None
    arguments = {
        part.parts[0]: part.options["default_value"]
        for part in description
        if type(part).__name__ == "DeclareLaunchArgument"
    }
    used = {node.options[name].parts[0] for name in ("executable", "name")}
    assert used | {node.options["parameters"][0].parts[0]} == arguments.keys()
    assert Path(arguments["params"]).is_file()

    (configure,) = (part for part in description if type(part).__name__ == "EmitEvent")
    event = configure.options["event"].options
    assert event == {"lifecycle_node_matcher": node, "transition_id": 1}
    (handler,) = (part for part in description if type(part).__name__ == "RegisterEventHandler")
    then = handler.parts[0].options
    assert (then["start_state"], then["goal_state"]) == ("configuring", "inactive")
    assert then["entities"][0].options["event"].options["transition_id"] == 3


def test_the_file_of_parameters_has_all_of_them_with_their_defaults() -> None:
    lines = (FOLDER / "expression.yaml").read_text("utf-8").splitlines()
    assert lines[1:3] == ["/**:", "  ros__parameters:"]
    given = dict(line.strip().split(": ") for line in lines[3:])
    values = {name: _value(text) for name, text in given.items()}
    defaults = {entry.name: entry.default for entry in fields(Settings)}
    assert values == defaults
    assert [type(value) for value in values.values()] == [
        type(value) for value in defaults.values()
    ]


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def test_the_page_has_all_parameters_with_their_defaults() -> None:
    page = DOCS.read_text("utf-8")
    for entry in fields(Settings):
        text = (
            entry.default or '""' if isinstance(entry.default, str) else json.dumps(entry.default)
        )
        assert f"| `{entry.name}` | `{text}` |" in page
