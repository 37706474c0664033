"""CDR, the bytes of ROS 2 messages: how each kind of field is written and read.

Plain CDR of OMG's DDS-XTypes 1.3 (7.6.2): four bytes that name the byte order, then the fields, each number
aligned to its own size counted from byte 4, strings with their length and a NUL, sequences with their count.
Little-endian is written, both are read. ``idl.Message`` puts the fields of a message together.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Protocol

from convcut_trt.errors import InputError

Buffer = bytes | bytearray | memoryview

_CODES = {
    "byte": "B",
    "uint8": "B",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "float32": "f",
    "float64": "d",
}
_ORDERS = {b"\0\0": ">", b"\0\1": "<"}
_START = 4


class Cursor:
    """Where reading is in a message; every step is checked against its end."""

    def __init__(self, data: memoryview, name: str) -> None:
        self.data, self.name, self.at = data, name, _START
        order = _ORDERS.get(bytes(data[:2]))
        if len(data) < _START or order is None:
            raise InputError(
                f"{name}: {len(data)} bytes that start with '{data[:_START].hex(' ')}' are not plain CDR: it "
                "starts with '00 01 00 00' or '00 00 00 00', send it so (XCDR2 and parameter lists are not read)"
            )
        self.order = order

    def take(self, size: int, align: int = 1) -> int:
        """Moves past the next ``size`` bytes, after any padding, and returns where they start."""
        start = self.at + -(self.at - _START) % align
        if start + size > len(self.data):
            raise self.damaged(f"{size} bytes should follow, the message has {len(self.data)}")
        self.at = start + size
        return start

    def count(self, least: int) -> int:
        """A length; what it counts takes at least ``least`` bytes each, and must fit into the rest."""
        count: int = _COUNT.read(self)
        left = len(self.data) - self.at
        if count * least > left:
            raise self.damaged(f"a length of {count} does not fit into the {left} bytes left")
        return count

    def end(self) -> None:
        """Makes sure that the message is over."""
        rest = self.data[self.at :]
        padding = len(rest) <= 3 and len(self.data) % 4 == 0 and not any(rest)
        if rest and not padding:
            raise self.damaged(f"the message ends here and {len(rest)} bytes follow")

    def damaged(self, what: str) -> InputError:
        return InputError(
            f"{self.name}: byte {self.at}: {what}: it is damaged or of another type, "
            "check that both ends use the same message definition"
        )


class Codec(Protocol):
    """How one type is written and read.

    Attributes:
        text: Its name in a .msg file.
        least: The fewest bytes that it can take.
    """

    text: str
    least: int

    def write(self, out: bytearray, value: Any) -> None: ...

    def read(self, cursor: Cursor) -> Any: ...


class Numbers:
    """A fixed number of numbers, as a tuple."""

    def __init__(self, name: str, count: int) -> None:
        code = _CODES[name]
        self.text = f"{name}[{count}]"
        self._align = Struct(f"<{code}").size
        self._structs = {order: Struct(f"{order}{count}{code}") for order in _ORDERS.values()}
        self.least = self._structs["<"].size

    def write(self, out: bytearray, value: Any) -> None:
        out += bytes(-(len(out) - _START) % self._align)
        out += self._structs["<"].pack(*value)

    def read(self, cursor: Cursor) -> Any:
        start = cursor.take(self.least, self._align)
        return self._structs[cursor.order].unpack_from(cursor.data, start)


class Number:
    """One number, as an int or a float."""

    def __init__(self, name: str) -> None:
        self.text = name
        little, big = (Struct(f"{order}{_CODES[name]}") for order in "<>")
        self.least = little.size
        self._pack = little.pack
        self._unpack = {"<": little.unpack_from, ">": big.unpack_from}

    def write(self, out: bytearray, value: Any) -> None:
        gap = -(len(out) - _START) % self.least
        out += bytes(gap) + self._pack(value) if gap else self._pack(value)

    def read(self, cursor: Cursor) -> Any:
        start = cursor.take(self.least, self.least)
        return self._unpack[cursor.order](cursor.data, start)[0]


_COUNT = Number("uint32")


class String:
    """UTF-8 with its length before and a NUL behind; the length counts the NUL."""

    text = "string"
    least = 5

    def write(self, out: bytearray, value: Any) -> None:
        encoded = str.encode(value)  # of a string only: messages have an encode, too
        if b"\0" in encoded:
            raise ValueError("a string cannot hold a NUL")
        _COUNT.write(out, len(encoded) + 1)
        out += encoded + b"\0"

    def read(self, cursor: Cursor) -> Any:
        start = cursor.take(cursor.count(1))
        encoded = bytes(cursor.data[start : cursor.at])
        if encoded.find(b"\0") != len(encoded) - 1 or not encoded:
            raise cursor.damaged("a string does not end in its only NUL")
        try:
            return encoded[:-1].decode()
        except UnicodeDecodeError as error:
            raise cursor.damaged("a string is not UTF-8") from error


class Octets:
    """A sequence of bytes, as one buffer."""

    text = "uint8[]"
    least = 4

    def write(self, out: bytearray, value: Any) -> None:
        view = memoryview(value).cast("B")
        _COUNT.write(out, len(view))
        out += view

    def read(self, cursor: Cursor) -> Any:
        start = cursor.take(cursor.count(1))
        return cursor.data[start : cursor.at]


class Sequence:
    """Any number of strings or messages, as a tuple."""

    least = 4

    def __init__(self, element: Codec) -> None:
        self.element = element
        self.text = f"{element.text}[]"

    def write(self, out: bytearray, value: Any) -> None:
        if isinstance(value, str):
            raise TypeError("a string is not a sequence of strings")
        _COUNT.write(out, len(value))
        for entry in value:
            self.element.write(out, entry)

    def read(self, cursor: Cursor) -> Any:
        return tuple(self.element.read(cursor) for _ in range(cursor.count(self.element.least)))
