"""Two independent encoders, each given the public definitions and the values of our messages."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from convcut_trt.robots.idl import Message
from tests.robots.cases import parts
from tests.robots.definitions import DEFINITIONS


@cache
def rosbags_store() -> Any:
    """ROS 2 Jazzy's types as rosbags has them, and those of hri_msgs and vision_msgs."""
    typesys = import_module("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    for name, text in DEFINITIONS.items():
        if name not in store.types:
            store.register(typesys.get_types_from_msg(text, name))
    return store


def by_rosbags(message: Message, *, little_endian: bool = True) -> bytes:
    """The CDR that rosbags writes."""
    store = rosbags_store()
    return bytes(
        store.serialize_cdr(_for_rosbags(message), message.ros_type, little_endian=little_endian)
    )


def _for_rosbags(value: Any) -> Any:
    if isinstance(value, Message):
        values = {name: _for_rosbags(part) for name, part in parts(value)}
        return rosbags_store().types[value.ros_type](**values)
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    if isinstance(value, tuple):
        numbers = bool(value) and isinstance(value[0], float)
        return np.array(value) if numbers else [_for_rosbags(entry) for entry in value]
    return value


def by_pycdr2(message: Message, *, little_endian: bool = True) -> bytes:
    """The CDR that pycdr2 writes."""
    order = import_module("pycdr2").Endianness
    struct = _for_pycdr2(message)
    return bytes(struct.serialize(endianness=order.Little if little_endian else order.Big))


def _for_pycdr2(value: Any) -> Any:
    if isinstance(value, Message):
        values = {name: _for_pycdr2(part) for name, part in parts(value)}
        return _pycdr2_class(value.ros_type)(**values)
    if isinstance(value, tuple):
        return [_for_pycdr2(entry) for entry in value]
    return value


@cache
def _pycdr2_class(ros_type: str) -> Any:
    annotations = {}
    for line in DEFINITIONS[ros_type].splitlines():
        kind, name = line.split()
        annotations[name] = _pycdr2_type(kind, ros_type.split("/")[0])
    cls = types.new_class(
        ros_type.split("/")[-1],
        (import_module("pycdr2").IdlStruct,),
        {"typename": ros_type.replace("/", "::")},
        lambda namespace: namespace.update(__annotations__=annotations),
    )
    return dataclass(cls)


def _pycdr2_type(kind: str, package: str) -> Any:
    known = import_module("pycdr2.types")
    element, _, count = kind.rstrip("]").partition("[")
    if element == "string":
        inner = str
    elif element in ("byte", "uint8"):
        inner = known.uint8
    elif hasattr(known, element):
        inner = getattr(known, element)
    else:
        own = element.split("/") if "/" in element else [package, element]
        inner = _pycdr2_class(f"{own[0]}/msg/{own[1]}")
    if "[" not in kind:
        return inner
    return known.array[inner, int(count)] if count else known.sequence[inner]
