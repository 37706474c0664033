"""ROS 2 without ROS, the messages: classes as rosidl generates them from the public definitions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tests.robots.definitions import DEFINITIONS

_NAMES = {"float32": "float", "float64": "double", "byte": "octet"}


class Generated:
    """A generated class: it has its fields, and nothing else is asked of it here."""

    _fields_and_field_types: dict[str, str]

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        return dict(cls._fields_and_field_types)


def packages() -> dict[str, ModuleType]:
    """The modules ``<package>.msg`` of all definitions, by name, and those of ``rcl_interfaces``."""
    modules: dict[str, ModuleType] = {}
    for ros_type, text in DEFINITIONS.items():
        package, _, name = ros_type.split("/")
        pairs = [line.split(" ") for line in text.splitlines()]
        fields = {field: _type(kind, package) for kind, field in pairs}
        made = type(name, (Generated,), {"_fields_and_field_types": fields})
        module = modules.setdefault(f"{package}.msg", ModuleType(f"{package}.msg"))
        setattr(module, name, made)
    modules["rcl_interfaces.msg"] = ModuleType("rcl_interfaces.msg")
    for special in (FloatingPointRange, ParameterDescriptor, SetParametersResult):
        setattr(modules["rcl_interfaces.msg"], special.__name__, special)
    for name in [module.partition(".")[0] for module in modules]:
        modules[name] = ModuleType(name)
    return modules


def _type(text: str, package: str) -> str:
    base, bracket, count = text.partition("[")
    name = _NAMES.get(base, base)
    if name[0].isupper():
        name = f"{package}/{name}"
    if not bracket:
        return name
    return f"sequence<{name}>" if count == "]" else f"{name}[{count}"


class Plain:
    """A message of rcl_interfaces: keyword arguments only, each of its field's type."""

    FIELDS: dict[str, Any] = {}

    def __init__(self, **kwargs: Any) -> None:
        for name, value in {**self.FIELDS, **kwargs}.items():
            assert name in self.FIELDS, f"Invalid arguments passed to constructor: {name}"
            assert type(value) is type(self.FIELDS[name]), f"The {name!r} field is {value!r}"
            setattr(self, name, value)


class FloatingPointRange(Plain):
    FIELDS = {"from_value": 0.0, "to_value": 0.0, "step": 0.0}


class ParameterDescriptor(Plain):
    FIELDS = {
        **{"name": "", "type": 0, "description": "", "additional_constraints": ""},
        **{"read_only": False, "dynamic_typing": False},
        **{"floating_point_range": [], "integer_range": []},
    }


class SetParametersResult(Plain):
    FIELDS = {"successful": False, "reason": ""}
