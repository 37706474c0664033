"""Every message: its bytes, names, definition and hash, against the public definitions and other encoders."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convcut_trt.robots import messages as m
from convcut_trt.robots.idl import Message
from tests.robots.cases import CASES, classes, random
from tests.robots.definitions import DEFINITIONS
from tests.robots.golden import GOLDEN
from tests.robots.oracles import by_pycdr2, by_rosbags, rosbags_store

TOPICS = [
    *(m.Image, m.CompressedImage, m.Expression, m.IdsList, m.NormalizedRegionOfInterest2D),
    *(m.Classification, m.Detection2DArray, m.LabelInfo, m.DiagnosticArray),
]
ANY = st.one_of(*(random(cls) for cls in TOPICS))


def full(kind: str, package: str) -> str:
    """The type of a field with its package, where the definition leaves it out."""
    return f"{package}/{kind}" if kind[0].isupper() else kind


@pytest.mark.parametrize("name", CASES)
def test_bytes_of_two_other_encoders(name: str) -> None:
    message, golden = CASES[name], bytes.fromhex(GOLDEN[name])
    assert message.encode() == golden
    assert type(message).decode(golden).encode() == golden


def test_every_topic_has_known_bytes() -> None:
    assert {type(message) for message in CASES.values()} == set(TOPICS)


@given(ANY)
def test_round_trip(message: Message) -> None:
    assert type(message).decode(message.encode()) == message


def test_views_and_bytearrays_are_read_too() -> None:
    data = CASES["image"].encode()
    wide = memoryview(bytearray(data + b"\0\0")).cast("H")
    assert m.Image.decode(bytearray(data)) == m.Image.decode(wide) == CASES["image"]


def test_pixels_are_not_copied() -> None:
    data = bytearray(CASES["image"].encode())
    image = m.Image.decode(data)
    assert image.data[-1] == 17
    data[-1] = 99
    assert image.data[-1] == 99


@pytest.mark.parametrize("cls", classes())
def test_the_definition_is_the_public_one(cls: type[Message]) -> None:
    own, *nested = cls.definition().split("=" * 80 + "\n")
    found = {cls.ros_type: own}
    for part in nested:
        first, _, lines = part.partition("\n")
        assert first.startswith("MSG: ")
        found[first.removeprefix("MSG: ").replace("/", "/msg/")] = lines
    needed = [cls.ros_type]
    for name in needed:
        package = name.split("/")[0]
        pairs = [line.split() for line in DEFINITIONS[name].splitlines()]
        expected = [f"{full(kind, package)} {field}\n" for kind, field in pairs]
        assert found[name] == "".join(expected)
        inner = [full(kind, package).split("[")[0].replace("/", "/msg/") for kind, _ in pairs]
        needed += dict.fromkeys(kind for kind in inner if "/" in kind and kind not in needed)
    assert set(found) == set(needed)
    assert len(nested) == len(needed) - 1


def test_names() -> None:
    assert m.Expression.ros_type == "hri_msgs/msg/Expression"
    assert m.Expression.dds_type == "hri_msgs::msg::dds_::Expression_"
    assert {cls.ros_type for cls in classes()} == set(DEFINITIONS)
    assert all(len(cls.rihs01) == 71 and cls.rihs01[:7] == "RIHS01_" for cls in classes())
    assert len({cls.rihs01 for cls in classes()}) == len(classes())


@pytest.mark.parametrize("ns", [0, 1, 10**9, 1_700_000_000_123_456_789, -1])
def test_time_in_nanoseconds(ns: int) -> None:
    time = m.Time.from_ns(ns)
    assert time.ns == ns
    assert 0 <= time.nanosec < 10**9


def test_rosbags_gives_the_same_hashes_and_bytes() -> None:
    pytest.importorskip("rosbags")
    for cls in classes():
        assert rosbags_store().hash_rihs01(cls.ros_type) == cls.rihs01
    for name, message in CASES.items():
        assert by_rosbags(message).hex() == GOLDEN[name]

    @given(ANY)
    def check(message: Message) -> None:
        assert by_rosbags(message) == message.encode()
        assert type(message).decode(by_rosbags(message, little_endian=False)) == message

    check()


def test_pycdr2_gives_the_same_bytes() -> None:
    pytest.importorskip("pycdr2")
    for name, message in CASES.items():
        assert by_pycdr2(message).hex() == GOLDEN[name]

    @given(ANY)
    def check(message: Message) -> None:
        assert by_pycdr2(message) == message.encode()
        assert type(message).decode(by_pycdr2(message, little_endian=False)) == message

    check()


def test_mcap_readers_understand_the_definitions() -> None:
    decoder = pytest.importorskip("mcap_ros2.decoder")
    records = pytest.importorskip("mcap.records")
    seen: dict[str, Any] = {}
    for name, message in CASES.items():
        text = message.definition().encode()
        schema = records.Schema(id=1, name=message.ros_type, encoding="ros2msg", data=text)
        seen[name] = decoder.DecoderFactory().decoder_for("cdr", schema)(message.encode())
        assert seen[name].header.frame_id == message.header.frame_id  # type: ignore[attr-defined]
    (face,) = seen["detections"].detections
    assert list(face.results[1].pose.covariance) == [value / 8 for value in range(36)]
    assert face.id == "f00007"
    assert seen["diagnostics"].status[0].values[0].value == "2"
    assert seen["labels"].class_map[1].class_name == "UNLABELED"
    assert bytes(seen["image"].data) == bytes(range(18))
