"""Message classes: dataclasses whose annotations are the wire types of ROS 2.

For example::

    @dataclass(frozen=True)
    class VisionClass(Message, ros_type="vision_msgs/msg/VisionClass", rihs01="1e4a..."):
        class_id: uint16 = 0  # a number
        class_name: str = ""  # a string; tuple[M, ...] is a sequence, another Message is nested
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from struct import error as StructError
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from convcut_trt.errors import InputError
from convcut_trt.robots.cdr import Buffer, Codec, Cursor, Number, Numbers, Octets, Sequence, String

byte = Annotated[int, "byte"]
uint8 = Annotated[int, "uint8"]
uint16 = Annotated[int, "uint16"]
int32 = Annotated[int, "int32"]
uint32 = Annotated[int, "uint32"]
float32 = Annotated[float, "float32"]
float64 = Annotated[float, "float64"]
octets = Annotated[Buffer, "uint8[]"]

_RULE = "=" * 80

M = TypeVar("M", bound="Message")


class Message:
    """Base of all messages: subclasses are frozen dataclasses.

    Attributes:
        ros_type: As ROS 2 and MCAP name it: ``hri_msgs/msg/Expression``.
        dds_type: As DDS and the keys of rmw_zenoh name it: ``hri_msgs::msg::dds_::Expression_``.
        rihs01: The type hash of ROS 2 Iron and later (REP 2011), ``RIHS01_`` and 64 hex digits.
    """

    ros_type: ClassVar[str]
    dds_type: ClassVar[str]
    rihs01: ClassVar[str]

    def __init_subclass__(cls, *, ros_type: str, rihs01: str) -> None:
        package, kind, name = ros_type.split("/")
        cls.ros_type = ros_type
        cls.dds_type = f"{package}::{kind}::dds_::{name}_"
        cls.rihs01 = f"RIHS01_{rihs01}"

    @classmethod
    def definition(cls) -> str:
        """The fields as in a .msg file, then those of every message within: an MCAP schema ``ros2msg``."""
        own = _struct(cls)
        inner = {codec.text: codec for codec in own.nested()}
        parts = [own.lines(), *(f"MSG: {name}\n{codec.lines()}" for name, codec in inner.items())]
        return f"{_RULE}\n".join(parts)

    def encode(self) -> bytes:
        """The message as little-endian CDR.

        Raises:
            InputError: A field holds what its wire type cannot.
        """
        out = bytearray(b"\0\1\0\0")
        _struct(type(self)).write(out, self)
        return bytes(out)

    @classmethod
    def decode(cls: type[M], data: Buffer) -> M:
        """A message out of CDR of either byte order.

        ``octets`` (the pixels of an image) are a view of ``data``, not a copy: leave it unchanged. Up to
        three zero bytes after the message are taken as the padding to four bytes that DDS adds.

        Raises:
            InputError: Not a message of this type: cut short, too long, a length beyond the end, a string
                without its NUL or not in UTF-8, or another representation than plain CDR.
        """
        cursor = Cursor(memoryview(data).cast("B"), cls.ros_type)
        message = _struct(cls).read(cursor)
        cursor.end()
        return message  # type: ignore[no-any-return]


class _Struct:
    """A message: its fields one after the other."""

    def __init__(self, cls: type[Message]) -> None:
        hints = get_type_hints(cls, include_extras=True)
        self._cls = cls
        self._fields = [(field.name, _codec(hints[field.name])) for field in fields(cls)]  # type: ignore[arg-type]
        self.text = cls.ros_type.replace("/msg/", "/")
        self.least = sum(codec.least for _, codec in self._fields)

    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, self._cls):
            raise TypeError(f"a {self._cls.__name__} is needed")
        for name, codec in self._fields:
            content = getattr(value, name)
            try:
                codec.write(out, content)
            except (StructError, TypeError, ValueError, OverflowError, AttributeError) as error:
                raise InputError(
                    f"{self._cls.ros_type}: {content!r:.60} does not go into the field {name} ({error}): "
                    f"give what a {codec.text} holds"
                ) from error

    def read(self, cursor: Cursor) -> Any:
        return self._cls(*[codec.read(cursor) for _, codec in self._fields])

    def lines(self) -> str:
        """The fields as the lines of a .msg file."""
        return "".join(f"{codec.text} {name}\n" for name, codec in self._fields)

    def nested(self) -> Iterator[_Struct]:
        """The messages within, each before those within it."""
        for _, codec in self._fields:
            inner = codec.element if isinstance(codec, Sequence) else codec
            if isinstance(inner, _Struct):
                yield inner
                yield from inner.nested()


_structs: dict[type[Message], _Struct] = {}


def _struct(cls: type[Message]) -> _Struct:
    """The codec of a class, made at its first use: its fields are not known before."""
    if cls not in _structs:
        _structs[cls] = _Struct(cls)
    return _structs[cls]


def _codec(annotation: Any) -> Codec:
    """The codec of a field's annotation."""
    if annotation is str:
        return String()
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return _struct(annotation)
    if get_origin(annotation) is tuple:
        return Sequence(_codec(get_args(annotation)[0]))
    name = annotation.__metadata__[0]
    if name == Octets.text:
        return Octets()
    array = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    return Numbers(array[1], int(array[2])) if array else Number(name)
