"""Our messages as topic types of cyclonedds, whose samples stay CDR bytes.

cyclonedds has to know the fields of a type: they are announced to other participants, and its C library checks
incoming bytes against them. Its own Python code would put messages together field by field; that is left to
``idl.Message``, which does not touch the pixels of an image.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from cyclonedds.idl import IdlStruct, make_idl_struct, types

from convcut_trt.robots.idl import Message


class Cdr:
    """A sample: the CDR of one message, which DDS pads with zeros to a multiple of four bytes.

    ``carrier`` makes the classes that cyclonedds takes as topic types. To it, this is what it does with any type:
    ``serialize`` what is written, ``deserialize`` what is read.
    """

    __idl__: Any

    def __init__(self, cdr: bytes) -> None:
        """Takes the bytes as they are."""
        self.cdr = cdr
        self.sample_info: Any = None  # set by cyclonedds on what came in

    def serialize(self, use_version_2: bool | None) -> bytes:
        """What goes out."""
        return self.cdr

    @classmethod
    def deserialize(cls, data: bytes) -> Cdr:
        """What came in."""
        return cls(data)

    # A topic without keys has no key samples: they only say that a publisher went away.
    deserialize_key = deserialize


_carriers: dict[type[Message], type[Cdr]] = {}


def carrier(kind: type[Message]) -> type[Cdr]:
    """The topic type of a message class: its fields, under the name that ROS 2 gives it in DDS."""
    if kind not in _carriers:
        # Not a subclass of the described type: it would be announced as one, and fit no reader.
        described = _described(kind).__idl__
        _carriers[kind] = type(kind.__name__, (Cdr,), {"__idl__": described})
    return _carriers[kind]


_descriptions: dict[type[Message], type[IdlStruct]] = {}


def _described(kind: type[Message]) -> type[IdlStruct]:
    """A message class as cyclonedds describes types."""
    if kind not in _descriptions:
        hints = get_type_hints(kind, include_extras=True)
        annotations = {field.name: _dds_type(hints[field.name]) for field in fields(kind)}  # type: ignore[arg-type]
        name = kind.dds_type.replace("::", ".")
        _descriptions[kind] = make_idl_struct(kind.__name__, name, annotations, dataclassify=False)
    return _descriptions[kind]


def _dds_type(annotation: Any) -> Any:
    """A field's annotation, see ``idl``, as cyclonedds writes it."""
    of: Any = types
    if annotation is str:
        return str
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return _described(annotation)
    if get_origin(annotation) is tuple:
        return of.sequence[_dds_type(get_args(annotation)[0])]
    name, _, length = annotation.__metadata__[0].rstrip("]").partition("[")
    number = getattr(of, name)
    if length:
        return of.array[number, int(length)]
    return of.sequence[number] if annotation.__metadata__[0].endswith("[]") else number
