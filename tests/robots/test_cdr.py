"""Bytes that are no message, and values that go into none: one clear error, and no memory beyond the input."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from struct import pack
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convcut_trt.errors import InputError
from convcut_trt.robots import messages as m
from convcut_trt.robots.idl import Message
from tests.robots.cases import CASES, STAMP, classes

LITTLE = b"\0\1\0\0"
HUGE = b"\xff\xff\xff\xff"
TIME = bytes(8)


def text(content: bytes) -> bytes:
    """A string as it lies after an aligned field, with whatever it holds."""
    return pack("<I", len(content)) + content


@pytest.mark.parametrize(
    ("cls", "data", "says"),
    [
        (m.Header, b"", "0 bytes"),
        (m.Header, b"\0\1\0", "3 bytes"),
        (m.Header, b"\0\2\0\0" + bytes(13), "plain CDR"),  # parameter list
        (m.Header, b"\0\7\0\0" + bytes(13), "plain CDR"),  # XCDR2
        (m.Header, b"\1\0\0\0" + bytes(13), "plain CDR"),
        (m.Header, LITTLE, "should follow"),
        (m.Header, LITTLE + TIME, "should follow"),
        (m.Header, LITTLE + TIME + text(b""), "NUL"),
        (m.Header, LITTLE + TIME + text(b"c"), "NUL"),
        (m.Header, LITTLE + TIME + text(b"a\0b\0"), "NUL"),
        (m.Header, LITTLE + TIME + text(b"\xff\xfe\0"), "UTF-8"),
        (m.Header, LITTLE + TIME + text(b"\xed\xa0\x80\0"), "UTF-8"),  # half a surrogate pair
        (m.Header, LITTLE + TIME + HUGE + b"c\0", "length"),
        (m.Header, b"\0\0\0\0" + TIME + pack("<I", 2) + b"c\0", "length"),  # the other byte order
        (m.Header, LITTLE + TIME + text(b"c\0") + b"x", "1 bytes follow"),
        (m.Header, LITTLE + TIME + text(b"c\0") + b"\0", "1 bytes follow"),  # does not end at four
        (m.Header, LITTLE + TIME + text(b"c\0") + b"\0x", "2 bytes follow"),
        (m.Header, LITTLE + TIME + text(b"abc\0") + bytes(4), "4 bytes follow"),
        (m.IdsList, m.IdsList().encode()[:-4] + HUGE, "length"),
        (m.CompressedImage, m.CompressedImage().encode()[:-4] + HUGE, "length"),
        (m.Classification, m.Classification().encode()[:-4] + b"\2\0\0\0" + bytes(20), "length"),
        (m.Detection2DArray, m.Detection2DArray().encode()[:-4] + HUGE, "length"),
    ],
)
def test_not_a_message(cls: type[Message], data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        cls.decode(data)
    assert cls.ros_type in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_cut_anywhere(name: str) -> None:
    data = CASES[name].encode()
    for end in range(len(data)):
        with pytest.raises(InputError):
            type(CASES[name]).decode(data[:end])


@pytest.mark.parametrize("length", range(5))
def test_the_padding_that_dds_adds_is_no_rubbish(length: int) -> None:
    message = m.IdsList(STAMP, ("a" * length,))
    data = message.encode()
    assert m.IdsList.decode(data + bytes(-len(data) % 4)) == message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (m.Time(2**31), "sec"),
        (m.Time(0, -1), "nanosec"),
        (m.Time(0.5), "sec"),  # type: ignore[arg-type]
        (m.VisionClass(65536), "class_id"),
        (m.Header(frame_id="a\0b"), "frame_id"),
        (m.Header(frame_id="\ud800"), "frame_id"),
        (m.Header(frame_id=b"camera"), "frame_id"),  # type: ignore[arg-type]
        (m.Header(frame_id=m.Header()), "frame_id"),  # type: ignore[arg-type]
        (m.Header(1.0), "stamp"),  # type: ignore[arg-type]
        (m.Expression(confidence=1e39), "confidence"),
        (m.Expression(valence=None), "valence"),  # type: ignore[arg-type]
        (m.IdsList(ids="f00000"), "ids"),  # type: ignore[arg-type]
        (m.IdsList(ids=None), "ids"),  # type: ignore[arg-type]
        (m.IdsList(ids=(1,)), "ids"),  # type: ignore[arg-type]
        (m.PoseWithCovariance(covariance=(0.0,) * 35), "covariance"),
        (m.CompressedImage(data="text"), "data"),  # type: ignore[arg-type]
        (m.CompressedImage(data=memoryview(b"abcd")[::2]), "data"),
        (m.Detection2DArray(detections=(m.Detection2D(m.Header(m.Time(nanosec=-1))),)), "nanosec"),
    ],
)
def test_a_value_that_does_not_fit(message: Message, field: str) -> None:
    with pytest.raises(InputError, match=f"the field {field} "):
        message.encode()


def test_numpy_scalars_are_numbers() -> None:
    scores: Any = np.array([0.25, 0.75], np.float32)
    written = m.Expression(STAMP, "sad", confidence=scores[1]).encode()
    assert m.Expression.decode(written).confidence == 0.75
    assert m.VisionClass(np.int64(7)).encode() == m.VisionClass(7).encode()  # type: ignore[arg-type]


def decode_or_refuse(cls: type[Message], data: bytes) -> None:
    """Decodes, or raises an InputError; either way with memory in proportion to the input."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            message = cls.decode(data)
        except InputError as error:
            assert "Traceback" not in str(error)
        else:
            # Padding may hold anything and the byte order may differ: what was read is what is written.
            assert cls.decode(message.encode()).encode() == message.encode()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # The largest in memory for their bytes are key-values: 12 bytes become three objects.
    assert peak < 64 * len(data) + 50_000


@given(
    st.sampled_from(classes()), st.sampled_from([LITTLE, b"\0\0\0\0", b""]), st.binary(max_size=300)
)
def test_random_bytes(cls: type[Message], start: bytes, rest: bytes) -> None:
    decode_or_refuse(cls, start + rest)


@given(
    st.sampled_from(sorted(CASES)),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4),
)
@example("detections", [(48, HUGE)])
@example("image", [(68, HUGE)])
@example("diagnostics", [(44, b"\xff\xff\xff\x7f")])
def test_messages_with_bytes_changed(name: str, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(CASES[name].encode())
    for position, new in changes:
        start = position % len(data)
        data[start : start + len(new)] = new
    decode_or_refuse(type(CASES[name]), bytes(data))


def test_a_long_valid_message_takes_memory_in_proportion() -> None:
    small = tuple(m.KeyValue() for _ in range(1_000))
    status = m.DiagnosticStatus(values=small)
    decode_or_refuse(m.DiagnosticArray, m.DiagnosticArray(STAMP, (status,)).encode())
    many = replace(m.IdsList(STAMP), ids=("",) * 4_000)
    decode_or_refuse(m.IdsList, many.encode())
