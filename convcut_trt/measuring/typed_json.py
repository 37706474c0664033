"""Dataclasses as JSON: read with every field checked against its type, written so that people can read it too."""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from convcut_trt.fields import Fields


def read(kind: Any, values: Fields) -> Any:
    """An object of the dataclass ``kind`` from the fields of the same names; one with a default may be missing.

    Raises:
        ConvcutError: The class of ``values``: a field is missing or of another type.
    """
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _value(hints[field.name], field.name, values)
            for field in fields(kind)
            if field.name in values.values
            or (field.default is MISSING and field.default_factory is MISSING)
        }
    )


def _value(kind: Any, name: str, values: Fields) -> Any:
    options = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        if values.values.get(name) is None:
            return None
        (kind,) = (option for option in options if option is not type(None))
        return _value(kind, name, values)
    if get_origin(kind) is tuple:
        if is_dataclass(options[0]):
            return tuple(read(options[0], entry) for entry in values.objects(name))
        return values.list_of(name, dict if get_origin(options[0]) else options[0])
    if is_dataclass(kind):
        return read(kind, values.inside(name))
    return values.get(name, dict if get_origin(kind) else kind)


def text(value: Any, indent: str = "") -> str:
    """JSON with a line for each field and each object, and one for a whole list of numbers."""
    inside = indent + "  "
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(name)}: {text(entry, inside)}" for name, entry in value.items()]
        return "{\n" + ",\n".join(inside + entry for entry in entries) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(inside + text(v, inside) for v in value) + f"\n{indent}]"
    return json.dumps(value)
