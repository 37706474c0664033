"""Zenoh on loopback: pictures in, JSON and ROS 2 topics out, and what happens when somebody is missing."""

from __future__ import annotations

import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import zenoh
import zenoh.ext
from PIL import Image as Pillow

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.home import find_model
from convcut_trt.robots.images import from_frame
from convcut_trt.robots.messages import CompressedImage, Expression, Header, Image, LabelInfo, Time
from convcut_trt.robots.sinks import record
from convcut_trt.robots.zenoh_keys import Graph, attachment, gid, read_stamp, stamp
from convcut_trt.robots.zenoh_node import open_sink, open_source
from convcut_trt.robots.zenoh_session import read_address
from convcut_trt.sources import Frame
from convcut_trt.stream import Stream
from tests.results import ABOUT, SECOND, face, result
from tests.robots.oracles import rosbags_store

PATIENCE_S = 10.0
SPEC = find_model("conv-cut-mini").spec
HEADER = Header(Time(1_700_000_000, 5), "front")
PICTURE = np.repeat(np.repeat(np.array([[[250, 10, 10], [10, 10, 250]]], np.uint8), 24, 1), 32, 0)


def encoded(codec: str = "JPEG", level: int | None = None) -> bytes:
    """The picture, or one of a single grey level, as a file's bytes."""
    out = io.BytesIO()
    pixels = PICTURE if level is None else np.full((32, 48, 3), level, np.uint8)
    Pillow.fromarray(pixels).save(out, codec)
    return out.getvalue()


def wait(until: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.002)


def session(**settings: Any) -> Any:  # Zenoh's stubs leave methods without types
    config = zenoh.Config()
    settings = {"scouting/multicast/enabled": False, "timestamping/enabled": True, **settings}
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return zenoh.open(config)


def listening(port: int) -> Any:
    return session(**{"listen/endpoints": [f"tcp/127.0.0.1:{port}"]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(port: int, *options: str) -> str:
    """The options of an address."""
    ends = (f"connect=tcp/127.0.0.1:{port}", "listen=tcp/127.0.0.1:0")
    return "?" + "&".join((*ends, *options))


class Robot:
    """The other side: a session that cameras and listeners of the tests share."""

    def __init__(self) -> None:
        self.port = free_port()
        self.session = listening(self.port)
        self._subscribers: list[object] = []

    def camera(self, key: str) -> Any:
        """A publisher that loses nothing, once somebody listens."""
        block = zenoh.CongestionControl.BLOCK
        publisher = self.session.declare_publisher(key, congestion_control=block)
        wait(lambda: publisher.matching_status.matching, f"a subscriber of {key}")
        return publisher

    def listen(self, key: str) -> list[zenoh.Sample]:
        samples: list[zenoh.Sample] = []
        self._subscribers.append(self.session.declare_subscriber(key, samples.append))
        return samples

    def tokens(self) -> set[str]:
        replies = self.session.liveliness().get("@ros2_lv/**", timeout=5.0)
        return {str(reply.ok.key_expr) for reply in replies}


@pytest.fixture
def robot() -> Iterator[Robot]:
    robot = Robot()
    with closing(robot.session):
        yield robot


class FakeEngine:
    """Answers the first class the surer, the brighter the face."""

    spec = SPEC

    def __init__(self, work_s: float = 0.0) -> None:
        self._work_s = work_s

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self._work_s)
        first = batch.mean(axis=(1, 2, 3)) / 255
        rest = np.repeat((1 - first)[:, None] / 7, 7, axis=1)
        return {"probabilities": np.concatenate([first[:, None], rest], axis=1).astype(np.float32)}


def one_face(picture: np.ndarray) -> Any:
    return np.array([[4.0, 4.0, 24.0, 24.0]])


def pump(stream: Stream, sink: Any) -> threading.Thread:
    """The robot's loop, in a thread."""

    def run() -> None:
        for answer in stream:
            sink.send(answer)
        sink.report(stream.health())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def bodies(samples: list[zenoh.Sample]) -> list[dict[str, Any]]:
    return [json.loads(sample.payload.to_bytes()) for sample in samples]


def test_jpeg_in_json_out(robot: Robot) -> None:
    answers, health = robot.listen("faces/front"), robot.listen("faces/front/health")
    with ExitStack() as opened:
        sink = opened.enter_context(closing(open_sink(f"faces/front{connect(robot.port)}", ABOUT)))
        source = open_source(f"camera/front{connect(robot.port)}")
        stream = opened.enter_context(Stream(FakeEngine(), source, detector=one_face))
        thread = pump(stream, sink)
        camera = robot.camera("camera/front")
        for number in range(100, 110):
            picture = encoded(level=100 + number)
            camera.put(picture, attachment=stamp(number, number * SECOND), encoding="image/jpeg")
            wait(lambda seen=number: len(answers) > seen - 100, "an answer")  # type: ignore[misc]
        stream.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        wait(lambda: health, "the health")
    found = bodies(answers)
    assert [entry["sequence"] for entry in found] == list(range(100, 110))
    assert [entry["timestamp"] for entry in found] == [n * SECOND for n in range(100, 110)]
    for entry in found:
        assert (entry["width"], entry["height"], entry["frame_id"]) == (48, 32, "camera/front")
        (seen,) = entry["faces"]
        assert seen["box"] == [4, 4, 24, 24] and set(seen["probabilities"]) == set(ABOUT.classes)
    assert str(answers[0].encoding) == "application/json"
    (figures,) = bodies(health)
    assert (figures["processed"], figures["dropped"], figures["bad"]) == (10, 0, 0)


def test_what_is_not_answered_is_counted(robot: Robot) -> None:
    answers = robot.listen("faces")
    count = 150
    with closing(open_sink(f"faces{connect(robot.port)}", ABOUT)) as sink:
        source = open_source(f"camera{connect(robot.port)}")
        with Stream(FakeEngine(0.01), source, detector=one_face) as stream:
            thread = pump(stream, sink)
            camera = robot.camera("camera")
            picture = encoded()
            for number in range(count):
                camera.put(picture, attachment=stamp(number, number))
            wait(lambda: stream.health().frames == count, "the last frame")
            wait(lambda: any(a["sequence"] == count - 1 for a in bodies(answers)), "its answer")
            stream.stop()
            thread.join(PATIENCE_S)
            health = stream.health()
    numbers = [entry["sequence"] for entry in bodies(answers)]
    assert numbers == sorted(set(numbers))
    assert health.dropped == count - len(numbers) > 0


def test_a_damaged_picture_is_counted_and_the_loop_goes_on(robot: Robot) -> None:
    answers = robot.listen("faces")
    good = encoded()
    with closing(open_sink(f"faces{connect(robot.port)}", ABOUT)) as sink:
        source = open_source(f"camera{connect(robot.port)}")
        with Stream(FakeEngine(), source, detector=one_face) as stream:
            thread = pump(stream, sink)
            camera = robot.camera("camera")
            for bad, payload in enumerate((good[:-200], b"", b"no picture"), 1):
                camera.put(payload)
                wait(lambda seen=bad: stream.health().bad == seen, "the count")  # type: ignore[misc]
            camera.put(good)
            wait(lambda: answers, "an answer")
            stream.stop()
            thread.join(PATIENCE_S)
    assert [entry["sequence"] for entry in bodies(answers)] == [3]  # counted: none came along


def received(robot: Robot, key: str, *options: str, **sample: Any) -> Frame:
    """What a source makes of one sample."""
    source = open_source(f"{key}{connect(robot.port, *options)}")
    frames: list[Frame] = []
    thread = threading.Thread(target=lambda: frames.extend(source), daemon=True)
    thread.start()
    try:
        robot.camera(sample.pop("at", key)).put(sample.pop("payload"), **sample)
        wait(lambda: frames, "the frame")
    finally:
        source.stop()
        thread.join(PATIENCE_S)
        source.close()
    assert not thread.is_alive() and len(frames) == 1
    return frames[0]


RMW_IMAGE = f"7/cam/raw/{Image.dds_type}/{Image.rihs01}"
RMW_JPEG = f"7/cam/raw/{CompressedImage.dds_type}/TypeHashNotSupported"


@pytest.mark.parametrize(
    ("options", "sample", "tolerance"),
    [
        ((), {"payload": encoded("JPEG"), "encoding": "image/jpeg"}, 9),
        ((), {"payload": encoded("PNG")}, 0),
        ((), {"payload": encoded("WEBP")}, 9),
        ((), {"payload": PICTURE.tobytes(), "encoding": "zenoh/bytes;rgb8;48x32"}, 0),
        ((), {"payload": PICTURE[..., ::-1].tobytes(), "encoding": "image/raw;bgr8;48x32"}, 0),
        (
            ("ros=rmw_zenoh", "domain=7"),
            {"at": RMW_IMAGE, "payload": from_frame(PICTURE, "rgb8", HEADER).encode()},
            0,
        ),
        (
            ("ros=rmw_zenoh", "domain=7"),
            {"at": RMW_JPEG, "payload": CompressedImage(HEADER, "jpeg", encoded()).encode()},
            9,
        ),
        (("ros=bridge",), {"payload": CompressedImage(HEADER, "png", encoded("PNG")).encode()}, 0),
        (("ros=bridge",), {"payload": from_frame(PICTURE, "rgb8", HEADER).encode()}, 0),
    ],
)
def test_pictures_in_every_form(
    robot: Robot, options: tuple[str, ...], sample: dict[str, Any], tolerance: int
) -> None:
    beside = attachment(41, 17 * SECOND, bytes(16))
    frame = received(robot, "cam/raw", *options, **sample, attachment=beside)
    assert np.abs(frame.picture().astype(int) - PICTURE).mean() <= tolerance
    assert frame.sequence == 41
    if options:
        assert (frame.timestamp, frame.frame_id) == (HEADER.stamp.ns, "front")
    else:
        assert (frame.timestamp, frame.frame_id) == (17 * SECOND, "cam/raw")


@pytest.mark.parametrize(
    "beside", [None, b"somebody's own", uuid.UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479").bytes]
)
def test_the_time_is_zenohs_where_nobody_else_gives_one(robot: Robot, beside: bytes | None) -> None:
    before = time.time_ns()
    frame = received(robot, "cam", payload=encoded(), attachment=beside)
    assert before - 10**6 <= frame.timestamp <= time.time_ns() + 10**6 and frame.sequence == 0


def test_an_image_without_a_stamp_has_that_of_its_message(robot: Robot) -> None:
    image = from_frame(PICTURE, "rgb8", Header(frame_id="front")).encode()
    beside = attachment(1, 17 * SECOND, bytes(16))
    frame = received(robot, "cam", "ros=bridge", payload=image, attachment=beside)
    assert frame.timestamp == 17 * SECOND


@pytest.mark.parametrize(
    ("options", "sample"),
    [
        ((), {"payload": encoded()[:300]}),
        ((), {"payload": b"\xff\xd8\xff\xe0 and no more"}),
        ((), {"payload": PICTURE.tobytes()[:-1], "encoding": "zenoh/bytes;rgb8;48x32"}),
        ((), {"payload": PICTURE.tobytes(), "encoding": "zenoh/bytes;yuyv;48x32"}),
        ((), {"payload": b"", "encoding": "zenoh/bytes;rgb8;0x0"}),
        (("ros=bridge",), {"payload": encoded()}),
        (("ros=bridge",), {"payload": Expression(HEADER, "happy").encode()}),
        (("ros=bridge",), {"payload": Image(HEADER, 2, 2, "16UC1", 0, 4, bytes(8)).encode()}),
        (("ros=bridge",), {"payload": CompressedImage(HEADER, "jpeg", b"no").encode()}),
    ],
)
def test_a_payload_that_is_no_picture_is_said_when_its_turn_comes(
    robot: Robot, options: tuple[str, ...], sample: dict[str, Any]
) -> None:
    frame = received(robot, "cam", *options, **sample)
    with pytest.raises(InputError):
        frame.picture()


def test_a_source_that_waits_can_be_stopped(robot: Robot) -> None:
    source = open_source(f"cam{connect(robot.port)}")
    thread = threading.Thread(target=lambda: list(source), daemon=True)
    thread.start()
    source.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    source.close()
    source.close()


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


ASLEEP = """
import json, sys, time, zenoh
config = zenoh.Config()
config.insert_json5("scouting/multicast/enabled", "false")
config.insert_json5("listen/endpoints", json.dumps([sys.argv[1]]))
session = zenoh.open(config)
held = session.declare_subscriber("faces", zenoh.handlers.FifoChannel(1))
print("asleep", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_subscriber_that_never_reads_costs_neither_time_nor_memory() -> None:
    port = free_port()
    command = [sys.executable, "-c", ASLEEP, f"tcp/127.0.0.1:{port}"]
    crowd = result(*(face(track=number) for number in range(1, 41)))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asleep:
        try:
            assert asleep.stdout is not None and asleep.stdout.readline() == b"asleep\n"
            with closing(open_sink(f"faces{connect(port)}", ABOUT)) as sink:
                for _ in range(50):
                    sink.send(crowd)
                before, start = memory(), time.monotonic()
                for _ in range(800):
                    sink.send(crowd)
                grown, took = memory() - before, time.monotonic() - start
        finally:
            asleep.kill()
    assert took < 30  # a millisecond each, which Zenoh waits for room: 1 s where nothing else runs
    assert grown < 800 * len(json.dumps(record(crowd, ABOUT))) / 2


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_router_that_is_not_there() -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match="zenohd"):
        open_source(f"cam{connect(free_port(), 'wait=0.2')}")
    with pytest.raises(InputError, match="rmw_zenohd"):
        open_sink(f"a{connect(free_port(), 'wait=0.2', 'ros=rmw_zenoh')}", ABOUT)
    assert time.monotonic() - start < PATIENCE_S


def test_a_router_that_comes_later() -> None:
    port = free_port()
    with closing(open_sink(f"faces{connect(port, 'wait=0')}", ABOUT)) as sink:
        sink.send(result())  # lost, and no error
        late: list[zenoh.Sample] = []
        with closing(listening(port)) as router:
            held = router.declare_subscriber("faces", late.append)
            wait(lambda: sink.send(result()) or late, "an answer")  # type: ignore[func-returns-value]
            held.undeclare()


def test_a_router_that_goes_and_comes_back() -> None:
    port = free_port()
    router = listening(port)
    with closing(open_sink(f"faces{connect(port)}", ABOUT)) as sink:
        router.close()
        sink.send(result())
        again: list[zenoh.Sample] = []
        with closing(listening(port)) as router:
            held = router.declare_subscriber("faces", again.append)
            wait(lambda: sink.send(result()) or again, "an answer")  # type: ignore[func-returns-value]
            held.undeclare()


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "?connect=tcp/127.0.0.1:1",
        "a//b",
        "a#b",
        "cam?connect",
        "cam?unknown=1",
        "cam?wait=soon",
        "cam?wait=-1",
        "cam?wait=inf",
        "cam?wait=nan",
        "cam?ros=ros1",
        "cam?ros=rmw_zenoh&domain=-1",
        "cam?ros=rmw_zenoh&domain=one",
        "cam?ros=rmw_zenoh&distro=indigo",
        "cam?ros=bridge&domain=1",
        "cam?domain=1",
        "cam?distro=humble",
        "no-topic?ros=bridge",
        "2nd?ros=rmw_zenoh",
        "cam?listen=somewhere",
        "cam?listen=tcp/127.0.0.1:99999",
        "cam?connect=rubbish",
    ],
)
def test_bad_addresses(rest: str) -> None:
    with pytest.raises(InputError) as said:
        open_source(rest)
    assert "\n" not in str(said.value) and " at /" not in str(said.value)
    if rest:
        with pytest.raises(InputError):
            open_sink(rest, ABOUT)


def test_rmw_zenoh_is_looked_for_where_ros_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "9")
    address = read_address("/cam/image?ros=rmw_zenoh")
    assert (address.key, address.domain, address.hashed) == ("cam/image", 9, True)
    assert (address.connect, address.listen) == (("tcp/localhost:7447",), ())
    assert read_address("cam?ros=rmw_zenoh&domain=3&distro=humble").hashed is False
    assert read_address("cam?ros=rmw_zenoh&listen=tcp/[::]:7447").connect == ()
    assert read_address("cam?connect=tcp/a:1,tcp/b:2").connect == ("tcp/a:1", "tcp/b:2")


def test_zenohs_own_configuration_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, file = free_port(), tmp_path / "zenoh.json5"
    ends = {"listen": {"endpoints": [f"tcp/127.0.0.1:{port}"]}}
    file.write_text(json.dumps({**ends, "scouting": {"multicast": {"enabled": False}}}))
    monkeypatch.setenv("ZENOH_CONFIG", str(file))
    with closing(open_source("cam")):
        open_source(f"cam{connect(port)}").close()
    file.unlink()
    with pytest.raises(InputError):
        open_source("cam")


def test_a_sink_has_one_key() -> None:
    for key in ("", "faces/*", "**"):
        with pytest.raises(InputError):
            open_sink(key, ABOUT)


def test_an_endpoint_that_is_taken(robot: Robot) -> None:
    with pytest.raises(InputError):
        open_source(f"cam?listen=tcp/127.0.0.1:{robot.port}")


def test_zenoh_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[zenoh\]"):
        open_source("cam?listen=tcp/127.0.0.1:0")
