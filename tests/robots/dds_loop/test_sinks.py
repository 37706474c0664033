"""DDS: what independent readers get of our messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy

from convcut_trt.robots import messages
from convcut_trt.robots.dds_node import open_sink
from convcut_trt.robots.dds_types import Cdr, carrier
from convcut_trt.robots.dds_wire import DdsWire
from convcut_trt.robots.idl import Message
from convcut_trt.robots.sinks import open_sink as open_any_sink
from tests.results import ABOUT, CLASSES, face, result
from tests.robots.cases import CASES
from tests.robots.dds_loop.others import (
    LOOPBACK,
    Expression,
    Header,
    IdsList,
    LabelInfo,
    Time,
    reader,
    taken,
    until,
    unused_domain,
)


def padded(message: Message) -> bytes:
    cdr = message.encode()
    return cdr + bytes(-len(cdr) % 4)


def test_an_independent_reader_gets_the_expression_of_a_face(domain: int) -> None:
    got = reader(domain, "/robot/people/f00001/expression", Expression)
    names = reader(domain, "/robot/people/tracked", IdsList)
    sink = open_any_sink(f"dds:/robot/people?domain={domain}", ABOUT)
    sink.send(result(face(label="fear")))  # opens the topics of the face
    until(lambda: got.get_matched_publications() and names.get_matched_publications())
    for number in range(1, 4):
        sink.send(result(face(label="fear"), timestamp=1_700_000_000 * 10**9 + number))
    seen: dict[int, Any] = {}
    while 3 not in seen:
        (message, *more) = until(lambda: taken(got, Expression))
        seen.update({one.header.stamp.nanosec: one for one in [message, *more]})
    assert {1, 2, 3} <= set(seen)
    assert seen[3].header == Header(Time(1_700_000_000, 3), "camera_color_optical_frame")
    assert (seen[3].expression, round(seen[3].confidence, 5)) == ("scared", 0.8)
    assert all(one.ids == ["f00001"] for one in until(lambda: taken(names, IdsList)))
    sink.close()
    sink.close()
    until(lambda: not got.get_matched_publications())


def test_who_subscribes_late_gets_the_labels(domain: int) -> None:
    sink = open_sink(f"?domain={domain}", ABOUT)
    late = reader(domain, "/humans/faces/label_info", LabelInfo, Policy.Durability.TransientLocal)
    (info,) = until(lambda: taken(late, LabelInfo))
    names = [one.class_name for one in info.class_map]
    assert names[:2] == ["neutral", "happy"] and len(names) == len(CLASSES)
    assert info.threshold == ABOUT.reject
    sink.close()


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_of_every_message_pass_unchanged_and_fit_the_announced_type(
    name: str, wire: tuple[DdsWire, int]
) -> None:
    """The C library checks them against the type: what does not fit is not sent."""
    message, topic = CASES[name], f"/{name.replace(' ', '_')}"
    got = reader(wire[1], topic, carrier(type(message)))
    publisher = wire[0].advertise(topic, type(message), latched=False)
    until(got.get_matched_publications)
    publisher.publish(message)
    (sample,) = until(lambda: taken(got, Cdr))
    assert sample.cdr == padded(message)
    assert type(message).decode(sample.cdr).encode() == message.encode()
    publisher.close()
    publisher.close()


@pytest.fixture(scope="module")
def wire() -> Iterator[tuple[DdsWire, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYCLONEDDS_URI", LOOPBACK)
        domain = unused_domain()
        opened = DdsWire(domain)
    yield opened, domain
    opened.close()


def test_what_an_independent_encoder_writes_are_our_bytes(domain: int) -> None:
    got = reader(domain, "/x", Expression)
    wire = DdsWire(domain)
    publisher = wire.advertise("/x", messages.Expression, latched=True)
    sent = messages.Expression(
        messages.Header(messages.Time(1, 2), "ü"), "happy", 0.25, -0.5, 0.875
    )
    publisher.publish(sent)
    (message,) = until(lambda: taken(got, Expression))
    assert message.serialize(use_version_2=False) == sent.encode()
    wire.close()


def test_ros_finds_names_types_and_hashes(domain: int) -> None:
    sink = open_sink(f"?domain={domain}", ABOUT)
    sink.send(result(face()))
    other = DomainParticipant(domain)
    there = BuiltinDataReader(other, BuiltinTopicDcpsPublication)
    endpoints: list[Any] = []
    while len(endpoints) < 5:
        endpoints += until(lambda: there.take(50))
    found = {one.topic_name: one for one in endpoints}
    kinds: dict[str, type[Message]] = {
        "tracked": messages.IdsList,
        "f00001/roi": messages.NormalizedRegionOfInterest2D,
        "f00001/expression": messages.Expression,
        "detections": messages.Detection2DArray,
        "label_info": messages.LabelInfo,
    }
    for topic, kind in kinds.items():
        endpoint = found[f"rt/humans/faces/{topic}"]
        package, name = kind.ros_type.split("/msg/")
        assert endpoint.type_name == f"{package}::msg::dds_::{name}_"
        assert endpoint.qos[Policy.Userdata].data == f"typehash={kind.rihs01};".encode()
        latched = endpoint.qos[Policy.Durability] == Policy.Durability.TransientLocal
        assert latched == (topic == "label_info")
        assert endpoint.qos[Policy.Reliability] == Policy.Reliability.Reliable(0)
    sink.close()


def test_two_sinks_of_one_name_are_both_heard(domain: int) -> None:
    got = reader(domain, "/humans/faces/tracked", IdsList)
    sinks = [open_sink(f"?domain={domain}", ABOUT) for _ in range(2)]
    ids: set[str] = set()
    for track, sink in enumerate(sinks):
        sink.send(result(face(track=track)))
    until(lambda: len(got.get_matched_publications()) == 2)
    for track, sink in enumerate(sinks):
        sink.send(result(face(track=track)))
    while len(ids) < 2:
        ids.update(*(one.ids for one in until(lambda: taken(got, IdsList))))
    assert ids == {"f00000", "f00001"}
    for sink in sinks:
        sink.close()


FROZEN = """
import sys
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from convcut_trt.robots.dds_types import carrier
from convcut_trt.robots.messages import CompressedImage
there = DomainParticipant(int(sys.argv[1]))
qos = Qos(Policy.Reliability.Reliable(0), Policy.History.KeepAll, Policy.ResourceLimits(max_samples=5),
          Policy.DataRepresentation(use_cdrv0_representation=True))
reader = DataReader(there, Topic(there, "rt/big", carrier(CompressedImage)), qos=qos)
sys.stdin.read()
"""


@pytest.mark.parametrize("frozen", [False, True])
def test_a_subscriber_that_never_reads_blocks_nothing(domain: int, frozen: bool) -> None:
    """Either alive with its queue full, or a process that stands still and acknowledges nothing."""
    wire = DdsWire(domain)
    publisher = wire.advertise("/big", messages.CompressedImage, latched=False)
    matched = publisher._writer.get_matched_subscriptions
    child = subprocess.Popen([sys.executable, "-c", FROZEN, str(domain)], stdin=subprocess.PIPE)
    try:
        until(matched)
        if frozen:
            child.send_signal(signal.SIGSTOP)
        message = messages.CompressedImage(format="jpeg", data=bytes(100_000))
        for _ in range(30):  # fills every buffer on the way
            publisher.publish(message)
        before, begun = resident(), time.monotonic()
        for _ in range(300):
            publisher.publish(message)
        assert time.monotonic() - begun < 5  # at 100 ms each, ROS's own limit, it would be 30 s
        assert resident() - before < 10e6  # of 30 MB
        assert matched()
    finally:
        child.kill()
        child.wait()
        child.stdin.close()  # type: ignore[union-attr]
    wire.close()


def resident() -> int:
    """Bytes of memory of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
