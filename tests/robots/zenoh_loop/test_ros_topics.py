"""ROS 2 topics over Zenoh: those of rmw_zenoh, and those of the bridge."""

from __future__ import annotations

import struct
from contextlib import closing
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zenoh
import zenoh.ext

from convcut_trt.robots.messages import Expression, LabelInfo
from convcut_trt.robots.zenoh_keys import Graph, attachment, gid, read_stamp, stamp
from convcut_trt.robots.zenoh_node import open_sink
from convcut_trt.robots.zenoh_session import read_address
from tests.results import ABOUT, SECOND, face, result
from tests.robots.oracles import rosbags_store
from tests.robots.zenoh_loop.robot import Robot, connect, wait


def test_keys_and_tokens_are_those_of_rmw_zenoh() -> None:
    """The example of rmw_zenoh's docs/design.md, but for what differs by intent: depth and the node's name."""
    digest = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    string: Any = SimpleNamespace(dds_type="std_msgs::msg::dds_::String_", rihs01=digest)
    graph = Graph(0, "8b20917502ee955ac4476e0266340d5c", hashed=True)
    assert graph.key("/chatter", string) == f"0/chatter/std_msgs::msg::dds_::String_/{digest}"
    assert graph.publisher_token(10, "/chatter", string, latched=False) == (
        "@ros2_lv/0/8b20917502ee955ac4476e0266340d5c/0/10/MP/%/%/talker/%chatter/"
        f"std_msgs::msg::dds_::String_/{digest}/::,7:,:,:,,"
    ).replace("talker", "convcut_trt_8b209175").replace(",7", ",10")
    assert graph.publisher_token(1, "/a/b", string, latched=True).endswith(
        f"/{digest}/:1:,1:,:,:,,"
    )
    assert graph.node_token() == (
        "@ros2_lv/0/8b20917502ee955ac4476e0266340d5c/0/0/NN/%/%/convcut_trt_8b209175"
    )
    old = Graph(3, "ab", hashed=False)
    assert old.key("/a/b", string) == "3/a/b/std_msgs::msg::dds_::String_/TypeHashNotSupported"


def test_the_attachment_is_what_zenohs_own_serializer_writes() -> None:
    own = gid("a token")
    parts = (zenoh.ext.Int64(5), zenoh.ext.Int64(1_700_000_000 * SECOND), own)
    written = zenoh.ext.z_serialize(cast(Any, parts)).to_bytes()
    # A tuple's parts lie one after the other, a buffer has its length before it.
    assert attachment(5, 1_700_000_000 * SECOND, own) == written
    assert len(written) == 33 and read_stamp(written) == (5, 1_700_000_000 * SECOND)
    assert read_stamp(stamp(7, 8)) == (7, 8) and read_stamp(b"else") is None
    assert read_stamp(stamp(0, 2**31 * SECOND)) is None and read_stamp(b"a" * 16) is None


def test_ros_topics_of_rmw_zenoh(robot: Robot) -> None:
    samples = robot.listen("5/**")
    options = connect(robot.port, "ros=rmw_zenoh", "domain=5")
    sink = open_sink(f"/robot/faces{options}", ABOUT)
    for _ in range(2):
        sink.send(result(face(track=7)))
    key = f"5/robot/faces/f00007/expression/{Expression.dds_type}/{Expression.rihs01}"

    def ours() -> list[zenoh.Sample]:
        return [sample for sample in list(samples) if str(sample.key_expr) == key]

    wait(lambda: len(ours()) == 2, "both expressions")
    first, second = ours()
    assert str(first.encoding) == "application/cdr"
    decoded = rosbags_store().deserialize_cdr(first.payload.to_bytes(), Expression.ros_type)
    assert (decoded.expression, decoded.header.stamp.sec) == ("scared", 1_700_000_000)
    beside = [sample.attachment.to_bytes() for sample in (first, second) if sample.attachment]
    assert [struct.unpack("<q", raw[:8])[0] for raw in beside] == [1, 2]
    assert beside[0][16:] == beside[1][16:] and beside[0][16] == 16 and len(beside[0]) == 33

    tokens = robot.tokens()
    assert len({token.split("/")[2] for token in tokens}) == 1
    topics = {token.split("/")[9] for token in tokens if "/MP/" in token}
    face_topics = {f"%robot%faces%f00007%{name}" for name in ("roi", "expression")}
    rest = {f"%robot%faces%{name}" for name in ("tracked", "detections", "label_info")}
    assert topics == face_topics | rest
    assert sum("/NN/" in token for token in tokens) == 1
    sink.close()
    sink.close()
    wait(lambda: not robot.tokens(), "the node's end")


@pytest.mark.parametrize("ros", ["rmw_zenoh", "bridge"])
def test_who_comes_later_gets_the_labels(robot: Robot, ros: str) -> None:
    with closing(open_sink(connect(robot.port, f"ros={ros}"), ABOUT)):
        samples: list[zenoh.Sample] = []
        late: Any = zenoh.ext.declare_advanced_subscriber(
            robot.session,
            "**/label_info/**",
            samples.append,
            history=zenoh.ext.HistoryConfig(detect_late_publishers=True),
        )
        wait(lambda: samples, "the labels")
        late.undeclare()
    labels = LabelInfo.decode(samples[0].payload.to_bytes())
    assert len(labels.class_map) == len(ABOUT.classes)


def test_ros_topics_of_the_bridge(robot: Robot) -> None:
    samples = robot.listen("humans/faces/f00001/expression")
    with closing(open_sink(connect(robot.port, "ros=bridge"), ABOUT)) as sink:
        sink.send(result(face(track=1)))
        wait(lambda: samples, "the expression")
        assert not robot.tokens()
    assert Expression.decode(samples[0].payload.to_bytes()).expression == "scared"
    assert samples[0].attachment is None


def test_two_nodes_on_one_topic_do_not_disturb_each_other(robot: Robot) -> None:
    samples = robot.listen("0/humans/faces/tracked/**")
    options = connect(robot.port, "ros=rmw_zenoh", "domain=0")
    with closing(open_sink(options, ABOUT)) as one, closing(open_sink(options, ABOUT)) as other:
        for sink in (one, other):
            sink.send(result())
        wait(lambda: len(samples) == 2, "both")
        names = {token.split("/")[8] for token in robot.tokens() if "/NN/" in token}
        assert len(names) == 2
        assert (
            len({sample.attachment.to_bytes()[16:] for sample in samples if sample.attachment}) == 2
        )
        one.close()
        other.send(result())
        wait(lambda: len(samples) == 3, "the one that is left")


def test_rmw_zenoh_is_looked_for_where_ros_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "9")
    address = read_address("/cam/image?ros=rmw_zenoh")
    assert (address.key, address.domain, address.hashed) == ("cam/image", 9, True)
    assert (address.connect, address.listen) == (("tcp/localhost:7447",), ())
    assert read_address("cam?ros=rmw_zenoh&domain=3&distro=humble").hashed is False
    assert read_address("cam?ros=rmw_zenoh&listen=tcp/[::]:7447").connect == ()
    assert read_address("cam?connect=tcp/a:1,tcp/b:2").connect == ("tcp/a:1", "tcp/b:2")
