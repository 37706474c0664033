"""What comes over a wire or out of a recording: CDR, ROS images, Zenoh samples and keys, MCAP, addresses."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from PIL import Image as Pillow

from convcut_trt.errors import ConvcutError
from convcut_trt.robots import messages as m
from convcut_trt.robots import zenoh_keys
from convcut_trt.robots.address import parse
from convcut_trt.robots.images import frame_of, parse_format
from convcut_trt.robots.mcap_replay import open_source
from convcut_trt.robots.zenoh_source import read_image, sample_frame
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutations import spoiled
from tests.robots.cases import CASES, STAMP, classes

_KINDS = {kind.ros_type: kind for kind in classes()}


def _picture(format: str) -> bytes:
    file = io.BytesIO()
    Pillow.radial_gradient("L").resize((12, 8)).convert("RGB").save(file, format)
    return file.getvalue()


_PIXELS = bytes(range(18))
_IMAGES = [
    *(m.Image(STAMP, 2, 3, name, 0, 0, _PIXELS).encode() for name in ("rgb8", "bgr8")),
    m.Image(STAMP, 2, 6, "mono8", 0, 9, _PIXELS).encode(),
    m.Image(STAMP, 2, 2, "nv12", 0, 6, _PIXELS).encode(),
    *(
        m.CompressedImage(STAMP, f"bgr8; {name} compressed bgr8", _picture(name)).encode()
        for name in ("jpeg", "png", "tiff", "webp")
    ),
]


def read_message(content: bytes, folder: Path) -> None:
    """The bytes after the type's name and a NUL; what was read is what is written."""
    name, _, data = content.partition(b"\0")
    kind = _KINDS[name.decode()]
    message = kind.decode(data)
    if kind.decode(message.encode()).encode() != message.encode():
        raise RuntimeError(f"{message} is read as something else")


def read_ros_image(content: bytes, folder: Path) -> None:
    """As the sources of ROS images do, down to RGB."""
    frame_of(content, read_image, 0, 1).picture()


def read_format(content: bytes, folder: Path) -> None:
    """``CompressedImage.format``."""
    parse_format(content.decode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class _Bytes:
    """As ``zenoh.ZBytes``."""

    content: bytes

    def to_bytes(self) -> bytes:
        return self.content


def read_sample(content: bytes, folder: Path) -> None:
    """Encoding, attachment and payload of a Zenoh sample, each with its length before it."""
    encoding, attachment, payload = _parts(content, 3)

    @dataclass(frozen=True)
    class Sample:
        attachment: Any
        payload: Any
        encoding: str
        key_expr: str = "camera"
        timestamp: Any = None

    text = encoding.decode("utf-8", "replace")
    sample: Any = Sample(_Bytes(attachment) if attachment else None, _Bytes(payload), text)
    for ros in (False, True):
        with suppress(ConvcutError):
            sample_frame(sample, 0, ros).picture()


def read_key(content: bytes, folder: Path) -> None:
    """Names of topics and keys; the latter go to Zenoh itself."""
    from convcut_trt.robots.zenoh_session import check_key

    text = content.decode("utf-8", "replace")  # addresses that are not UTF-8 are refused before
    with suppress(ConvcutError):
        zenoh_keys.check_topic(text)
    check_key(text)


def read_address(content: bytes, folder: Path) -> None:
    """The addresses of every transport, without connecting to anything."""
    from convcut_trt.robots import dds_node, zenoh_session

    text = content.decode("utf-8", "surrogateescape")
    with suppress(ConvcutError):
        parse(text, {"topic": "", "domain": "0"}, "a?topic=b")
    with suppress(ConvcutError):
        open_source(text)
    with suppress(ConvcutError):
        dds_node._address(text, {"type": ""}, "dds:a")
    zenoh_session.read_address(text)


def read_recording(content: bytes, folder: Path) -> None:
    """As ``run`` does, every picture decoded."""
    path = folder / "a.mcap"
    path.write_bytes(content)
    for frame in open_source(str(path)):
        with suppress(ConvcutError):
            frame.picture()


def _parts(content: bytes, count: int) -> list[bytes]:
    parts = []
    for _ in range(count - 1):
        size = int.from_bytes(content[:2], "little")
        parts.append(content[2 : 2 + size])
        content = content[2 + size :]
    return [*parts, content]


def _joined(*parts: bytes) -> bytes:
    return b"".join(struct.pack("<H", len(part)) + part for part in parts[:-1]) + parts[-1]


def _recording(compression: CompressionType, *, chunked: bool = True) -> bytes:
    """Two pictures and something else; without checksums, so that damage is read and not only found."""
    file = io.BytesIO()
    writer = Writer(file, compression=compression, use_chunking=chunked, enable_crcs=False)
    writer.start("ros2")
    writer.add_metadata("rosbag2", {"a": "b"})
    for number, message in enumerate((m.Image(), m.CompressedImage(), m.IdsList())):
        schema = writer.register_schema(message.ros_type, "ros2msg", b"definition")
        channel = writer.register_channel(f"/topic{number}", "cdr", schema)
        for time in (1, 2):
            content = _IMAGES[0 if number == 0 else 4] if number < 2 else message.encode()
            writer.add_message(channel, time, content, time)
    writer.add_attachment(1, 1, "calibration", "text/plain", b"12")
    writer.finish()  # type: ignore[no-untyped-call]
    return file.getvalue()


_RECORDINGS = [
    _recording(CompressionType.NONE),
    _recording(CompressionType.NONE, chunked=False),
    _recording(CompressionType.LZ4),
    _recording(CompressionType.ZSTD),
]


@st.composite
def _recordings(draw: st.DrawFn) -> bytes:
    """A recording whose records are spoiled one by one, gone, twice, or of another length than they say."""
    content = draw(st.sampled_from(_RECORDINGS))
    start = len(b"\x89MCAP0\r\n")
    records, at = [], start
    while at + 9 <= len(content) - start:
        size = int.from_bytes(content[at + 1 : at + 9], "little")
        records.append((content[at], content[at + 9 : at + 9 + size]))
        at += 9 + size
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(records) - 1))
        kind, body = records[index]
        edit = draw(st.sampled_from(["spoil", "spoil", "drop", "double", "kind"]))
        if edit == "drop" and len(records) > 1:
            del records[index]
        elif edit == "double":
            records.insert(draw(st.integers(0, len(records))), (kind, body))
        elif edit == "kind":
            records[index] = draw(st.integers(0, 255)), body
        else:
            records[index] = kind, draw(spoiled([body]))
    written = b"".join(
        bytes([kind]) + struct.pack("<Q", len(body)) + body for kind, body in records
    )
    return content[:start] + written + content[:start]


_SAMPLES = [
    _joined(encoding, attachment, payload)
    for encoding, payload in (
        (b"zenoh/bytes;rgb8;3x2", _PIXELS),
        (b"zenoh/bytes;nv12;4x2", _PIXELS[:12]),
        (b"image/jpeg", _picture("jpeg")),
        (b"zenoh/bytes", _IMAGES[0]),
        (b"zenoh/bytes", _IMAGES[4]),
    )
    for attachment in (
        b"",
        zenoh_keys.stamp(7, 10**18),
        zenoh_keys.attachment(7, 10**18, b"g" * 16),
    )
]
_ADDRESSES = [
    b"camera/front?connect=tcp/192.168.1.5:7447&wait=0",
    b"/camera/image?ros=rmw_zenoh&domain=3&distro=humble",
    b"/camera/image_raw/compressed?domain=0&type=image",
    b"run.mcap?topic=/camera/image",
    b"a?domain=" + b"9" * 5000,
    b"a" * 5000 + b".mcap",
    b"a?" + b"connect=a&" * 5000,
]

TARGETS = {
    "cdr": Target(
        st.sampled_from(sorted(CASES)).flatmap(
            lambda name: spoiled([CASES[name].encode()]).map(
                lambda data: type(CASES[name]).ros_type.encode() + b"\0" + data
            )
        ),
        read_message,
    ),
    "ros image": Target(spoiled(_IMAGES), read_ros_image),
    "image format": Target(
        spoiled([b"rgb8; jpeg compressed bgr8", b"png", b"a" * 20_000, b" " * 20_000]), read_format
    ),
    "zenoh sample": Target(spoiled(_SAMPLES), read_sample),
    "zenoh key": Target(
        st.one_of(spoiled([b"camera/*/front/**", b"/camera/image", b"a/$*"]), st.binary()), read_key
    ),
    "address": Target(spoiled(_ADDRESSES, least=0), read_address),
    "recording": Target(st.one_of(spoiled(_RECORDINGS), _recordings()), read_recording),
}
