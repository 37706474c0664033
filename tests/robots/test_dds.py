"""DDS on loopback: what independent readers get of our messages, and our source of independent writers.

Every test has a domain of its own, and this process a tag that keeps all others out.
"""

# cyclonedds reads annotations as they are: no `from __future__ import annotations` here.
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float32, int32, sequence, uint8, uint16, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration
from PIL import Image as Pillow

from convcut_trt import optional
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.faces.detect import whole_picture
from convcut_trt.robots import dds_source, messages
from convcut_trt.robots.dds_node import open_sink, open_source
from convcut_trt.robots.dds_types import Cdr, carrier
from convcut_trt.robots.dds_wire import DdsWire
from convcut_trt.robots.idl import Message
from convcut_trt.robots.sinks import open_sink as open_any_sink
from convcut_trt.stream import Stream
from tests.results import ABOUT, CLASSES, face, result
from tests.robots.cases import CASES
from tests.stream.loop import FakeEngine

PATIENCE_S = 10.0
EXAMPLES = Path(__file__).parents[2] / "examples" / "robots"
TAG = uuid.uuid4()
LOOPBACK = f"""<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface address="127.0.0.1" multicast="false"/></Interfaces>
<AllowMulticast>false</AllowMulticast></General>
<Discovery><Tag>{TAG}</Tag><Peers><Peer Address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""
DOMAINS = itertools.count(os.getpid())


# The messages as another program defines them.
Octets = Annotated[Sequence[uint8], sequence(uint8)]
Strings = Annotated[Sequence[str], sequence(str)]


@dataclass
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
class Expression(IdlStruct, typename="hri_msgs.msg.dds_.Expression_"):
    header: Header
    expression: str
    valence: float32
    arousal: float32
    confidence: float32


@dataclass
class IdsList(IdlStruct, typename="hri_msgs.msg.dds_.IdsList_"):
    header: Header
    ids: Strings


@dataclass
class VisionClass(IdlStruct, typename="vision_msgs.msg.dds_.VisionClass_"):
    class_id: uint16
    class_name: str


@dataclass
class LabelInfo(IdlStruct, typename="vision_msgs.msg.dds_.LabelInfo_"):
    header: Header
    class_map: Annotated[Sequence[VisionClass], sequence(VisionClass)]
    threshold: float32


@dataclass
class Image(IdlStruct, typename="sensor_msgs.msg.dds_.Image_"):
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: Octets


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    header: Header
    format: str
    data: Octets


STAMP = Header(Time(1_700_000_000, 5), "camera")
PLAIN = Policy.DataRepresentation(use_cdrv0_representation=True)
RELIABLE = Policy.Reliability.Reliable(max_blocking_time=duration(seconds=1))


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    return next(DOMAINS) % 230


def until(what: Callable[[], Any]) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def reader(domain: int, topic: str, kind: type[Any], *policies: Any) -> DataReader[Any]:
    """Of another participant: reliable, and keeping everything."""
    there = DomainParticipant(domain)
    qos = Qos(RELIABLE, Policy.History.KeepAll, PLAIN, *policies)
    return DataReader(there, Topic(there, f"rt{topic}", kind), qos=qos)


def writer(domain: int, topic: str, kind: type[Any]) -> DataWriter[Any]:
    """Of another participant, as a camera driver has it."""
    there = DomainParticipant(domain)
    qos = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(5), PLAIN)
    return DataWriter(there, Topic(there, f"rt{topic}", kind), qos=qos)


def taken(source: DataReader[Any], kind: type[Any]) -> list[Any]:
    """Its messages, without the words that somebody went away."""
    return [sample for sample in source.take(100) if isinstance(sample, kind)]


def padded(message: Message) -> bytes:
    cdr = message.encode()
    return cdr + bytes(-len(cdr) % 4)


def jpeg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


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
        domain = next(DOMAINS) % 230
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


@pytest.mark.parametrize("compressed", [False, True])
def test_a_camera_of_another_program_is_a_source(domain: int, compressed: bool) -> None:
    pixels = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    message: Image | CompressedImage
    if compressed:
        topic, message = "/camera/compressed", CompressedImage(STAMP, "jpeg", list(jpeg(pixels)))
    else:
        data = list(pixels.tobytes())
        topic, message = "/camera", Image(STAMP, 48, 64, "rgb8", 0, 192, data)
    camera = writer(domain, topic, type(message))
    source = open_source(f"{topic}?domain={domain}")
    with Stream(FakeEngine(), source, detector=whole_picture) as stream:
        answers = iter(stream)
        until(camera.get_matched_subscriptions)
        for number in range(3):
            message.header = Header(Time(7, number), "optical")
            camera.write(message)
            answer = next(answers)
            assert answer.frame.timestamp == 7 * 10**9 + number
            assert (answer.frame.frame_id, answer.frame.sequence) == ("optical", number)
            assert np.abs(answer.picture.astype(int) - pixels).max() <= 3 * compressed
    source.stop()
    source.close()
    assert not camera.get_matched_subscriptions()


def test_an_unstamped_image_has_the_time_of_its_sending(domain: int) -> None:
    camera = writer(domain, "/camera", Image)
    source = open_source(f"/camera?domain={domain}")
    until(camera.get_matched_subscriptions)
    before = time.time_ns()
    camera.write(Image(Header(Time(0, 0), "c"), 1, 1, "mono8", 0, 1, [7]))
    frame = next(iter(source))
    assert before <= frame.timestamp <= time.time_ns()
    source.close()


def test_images_that_cannot_be_read_are_counted_and_the_stream_goes_on(domain: int) -> None:
    kind = carrier(messages.Image)
    camera = writer(domain, "/camera", kind)
    good = messages.Image(messages.Header(messages.Time(9), "?"), 1, 2, "mono8", 0, 2, b"ab")
    bad = [
        messages.Image(good.header, 100, 100, "rgb8", 0, 300, b"short").encode(),
        messages.Image(good.header, 1, 2, "16UC1", 0, 4, b"abcd").encode(),
        messages.Image().encode(),
        good.encode().replace(b"?\0", b"\xff\0"),  # not UTF-8
    ]
    source = open_source(f"camera?domain={domain}")
    until(camera.get_matched_subscriptions)
    for cdr in [*bad, good.encode()]:
        camera.write(kind(cdr))
    with Stream(FakeEngine(), source, detector=whole_picture, newest=False) as stream:
        answer = next(iter(stream))
        assert (answer.frame.timestamp, answer.frame.sequence) == (9 * 10**9, 4)
        assert (stream.health().processed, stream.health().bad) == (1, 4)


@pytest.mark.parametrize(
    ("address", "topic", "kind", "word"),
    [
        ("/camera", "/camera", CompressedImage, "type=compressed"),
        ("/camera?type=compressed", "/camera", Image, "type=image"),
        ("/humans/faces/x/expression", "/humans/faces/x/expression", Expression, "Expression_"),
    ],
)
def test_a_topic_of_another_type_is_said(
    domain: int,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    topic: str,
    kind: type[IdlStruct],
    word: str,
) -> None:
    monkeypatch.setattr(dds_source, "_SILENCE_S", 0.05)
    _other = writer(domain, topic, kind)
    mark = "&" if "?" in address else "?"
    source = open_source(f"{address}{mark}domain={domain}")
    with (
        Stream(FakeEngine(), source, detector=whole_picture) as stream,
        pytest.raises(InputError, match=word),
    ):
        next(iter(stream))


def test_stop_wakes_the_thread_that_waits(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dds_source, "_SILENCE_S", 600.0)
    source = open_source(f"/camera?domain={domain}")
    ended = threading.Event()

    def read() -> None:
        assert list(source) == []
        source.close()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    time.sleep(0.1)  # it waits by now; if not, the test is weaker
    source.stop()
    assert ended.wait(PATIENCE_S)
    source.stop()
    source.close()


@pytest.mark.parametrize(
    "address",
    [
        "/a b",
        "//faces",
        "/faces/",
        "/1st",
        "/faces?domain=",
        "/faces?domain=233",
        "/faces?domain=-1",
        "/faces?domain=one",
        "/faces?domain=\N{SUPERSCRIPT TWO}",
        "/faces?domain=1&domain=2",
        "/faces?qos=best",
        "/\N{LATIN SMALL LETTER E WITH ACUTE}",
    ],
)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InputError, match="dds:/"):
        open_source(address)
    with pytest.raises(InputError, match="dds:/"):
        open_sink(address, ABOUT)


@pytest.mark.parametrize(
    "address", ["", "?domain=1", "/camera?type=depth", "/camera?type=", "?type=image"]
)
def test_bad_addresses_of_sources(address: str) -> None:
    with pytest.raises(InputError):
        open_source(address)


def test_the_domain_is_that_of_ros(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    sink = open_sink("", ABOUT)
    late = reader(domain, "/humans/faces/label_info", LabelInfo, Policy.Durability.TransientLocal)
    until(late.get_matched_publications)
    sink.close()
    monkeypatch.setenv("ROS_DOMAIN_ID", "robot")
    with pytest.raises(InputError, match="ROS_DOMAIN_ID"):
        open_sink("", ABOUT)


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("<CycloneDDS><Nonsense/></CycloneDDS>", "Nonsense"),
        ("<CycloneDDS", "CYCLONEDDS_URI"),
        ("file:///nowhere/dds.xml", "/nowhere/dds.xml"),
        (LOOPBACK.replace('address="127.0.0.1"', 'name="none0"'), "none0"),
        (LOOPBACK.replace("<AllowMulticast>false", "<AllowMulticast>perhaps"), "perhaps"),
    ],
)
def test_a_configuration_that_does_not_work_is_one_sentence(
    domain: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    uri: str,
    word: str,
) -> None:
    monkeypatch.setenv("CYCLONEDDS_URI", uri)
    for opening in (
        lambda: open_sink(f"?domain={domain}", ABOUT),
        lambda: open_source(f"/camera?domain={domain}"),
    ):
        with pytest.raises(InputError) as caught:
            opening()
        said = str(caught.value)
        assert word in said and "CYCLONEDDS_URI" in said
        reason = said.partition("check CYCLONEDDS_URI")[0]
        assert "\n" not in reason and "python" not in reason
    assert capfd.readouterr().err == ""


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional, "import_module", missing)
    for opening in (lambda: open_sink("", ABOUT), lambda: open_source("/camera")):
        with pytest.raises(BackendMissing, match=r"convcut-trt\[dds\]"):
            opening()


def test_the_examples_over_two_processes(domain: int, tmp_path: Path) -> None:
    """A camera in one, the loop here, and a listener in another."""
    Pillow.fromarray(np.full((64, 64, 3), 250, np.uint8)).save(tmp_path / "face.png")
    topic = "/camera/image_raw/compressed"
    at = ["--domain", str(domain)]
    camera = [sys.executable, str(EXAMPLES / "dds_camera.py"), str(tmp_path), "--rate", "50", *at]
    listen = [sys.executable, str(EXAMPLES / "dds_listen.py"), "--count", "5", *at]
    source = open_source(f"{topic}?domain={domain}")
    sink = open_sink(f"?domain={domain}", ABOUT)
    with (
        subprocess.Popen(camera) as sender,
        subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener,
    ):
        guard = threading.Timer(PATIENCE_S, listener.kill)
        guard.start()
        try:
            with Stream(FakeEngine(), source, detector=whole_picture) as stream:
                for answer in stream:
                    sink.send(answer)
                    assert answer.frame.frame_id == "camera_color_optical_frame"
                    if listener.poll() is not None:
                        break
            assert listener.stdout is not None
            lines = listener.stdout.read().splitlines()
        finally:
            guard.cancel()
            sender.send_signal(signal.SIGINT)
            listener.kill()
            guard = threading.Timer(PATIENCE_S, sender.kill)
            guard.start()
        assert sender.wait() == 0
        guard.cancel()
    sink.close()
    assert len(lines) >= 5 and listener.returncode == 0
    assert all(line.split()[1:] == ["f00001", "neutral", "0.98"] for line in lines), lines
    stamps = [line.split()[0] for line in lines]
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
