"""Recordings as a source: our own, cut short or damaged, and bags of others."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Chunk

from convcut_trt.errors import InputError
from convcut_trt.robots import messages as m
from convcut_trt.robots.idl import Message
from convcut_trt.robots.mcap_log import jpeg, open_source
from convcut_trt.sources import Frame
from convcut_trt.stream import Result, Stream
from tests.results import SECOND
from tests.robots.oracles import rosbags_store
from tests.robots.recordings.recording import COUNT, START, frames, given_up, picture, two_faces
from tests.stream.loop import FakeEngine

MAGIC = b"\x89MCAP0\r\n"


def test_a_replay_gives_the_frames_again(recorded: tuple[Path, list[Result]]) -> None:
    path, answers = recorded
    again = list(open_source(str(path)))
    assert [frame.sequence for frame in again] == list(range(COUNT))
    for frame, answer in zip(again, answers, strict=True):
        assert (frame.timestamp, frame.frame_id) == (answer.frame.timestamp, "camera")
        assert callable(frame.pixels), "decoded before its turn"
        assert np.abs(frame.picture().astype(int) - answer.picture).mean() < 2


def test_a_replay_waits_for_the_stream(recorded: tuple[Path, list[Result]]) -> None:
    with Stream(FakeEngine(), open_source(str(recorded[0])), detector=two_faces) as stream:
        assert len(list(stream)) == COUNT
    health = stream.health()
    assert (health.processed, health.dropped, health.bad, health.last_error) == (COUNT, 0, 0, "")


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.77, 0.9])
def test_a_recording_cut_short_gives_what_is_there(chunked: Path, share: float) -> None:
    data = chunked.read_bytes()
    chunked.write_bytes(data[: int(len(data) * share)])
    given = given_up(chunked)
    assert [frame.timestamp for frame in given] == [frame.timestamp for frame in frames(len(given))]
    assert len(given) >= int(share * COUNT) - 2


def test_a_damaged_recording_is_one_sentence(chunked: Path) -> None:
    data = chunked.read_bytes()
    rng = np.random.default_rng(0)
    index = int.from_bytes(data[-28:-20], "little")  # where it begins, as the footer says
    places = [*range(8, 100), *rng.integers(100, len(data) - 8, 40).tolist()]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        chunked.write_bytes(flipped)
        given: list[Frame] = []
        try:
            given.extend(open_source(str(chunked)))
        except InputError as error:
            assert "mcap recover" in str(error)
        else:  # in what follows the messages, which a replay does not need
            assert place >= index - 13, "damage not noticed"
            assert [frame.timestamp for frame in given] == [one.timestamp for one in frames()]


def rosbag2_bag(folder: Path) -> Path:
    """The file of a bag with two cameras, a raw one first, as rosbag2 lays it out."""
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    store = rosbags_store()
    bag = folder / "bag"
    with rosbag2.Writer(bag, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        kinds: dict[str, type[Message]] = {
            "/imu": m.Time,
            "/left/image_raw": m.Image,
            "/right/image_raw/compressed": m.CompressedImage,
        }
        topics = {
            topic: writer.add_connection(topic, kind.ros_type, typestore=store)
            for topic, kind in kinds.items()
        }
        for number in range(3):
            stamp = START + number * SECOND
            header = m.Header(m.Time.from_ns(stamp - 7), "left" if number else "")
            pixels = np.ascontiguousarray(picture(number)[..., ::-1])
            image = m.Image(header, 96, 128, "bgr8", 0, 384, pixels.tobytes())
            small = m.CompressedImage(m.Header(), "jpeg", jpeg(picture(number)))
            for topic, message in zip(topics, (m.Time(), image, small), strict=True):
                writer.write(topics[topic], stamp, message.encode())
    return bag / "bag.mcap"


def test_a_bag_of_rosbag2_replays(tmp_path: Path) -> None:
    path = rosbag2_bag(tmp_path)
    first = list(open_source(str(path)))
    assert [frame.timestamp for frame in first] == [START - 7 + n * SECOND for n in range(3)]
    assert [frame.frame_id for frame in first] == ["", "left", "left"]
    for number, frame in enumerate(first):
        assert np.array_equal(frame.picture(), picture(number))


def test_a_topic_is_chosen_in_the_address(tmp_path: Path) -> None:
    path = rosbag2_bag(tmp_path)
    chosen = list(open_source(f"{path}?topic=/right/image_raw/compressed"))
    # Its headers have no time: that of the recording stands in.
    assert [frame.timestamp for frame in chosen] == [START + n * SECOND for n in range(3)]
    assert all(frame.picture().shape == (96, 128, 3) for frame in chosen)
    with pytest.raises(InputError, match=r"/left/image_raw \(sensor_msgs/msg/Image"):
        list(open_source(f"{path}?topic=/nobody"))


def test_a_message_that_is_none_of_its_type_is_one_bad_frame(tmp_path: Path) -> None:
    def cut(message: m.CompressedImage, number: int) -> bytes:
        return message.encode()[: 20 if number == 1 else None]

    path = written(tmp_path, m.CompressedImage.ros_type, "cdr", cut)
    with Stream(FakeEngine(), open_source(str(path)), detector=two_faces) as stream:
        assert [answer.frame.sequence for answer in stream] == [0, 2]
    assert stream.health().bad == 1


def written(
    folder: Path,
    kind: str,
    encoding: str,
    encode: Callable[[m.CompressedImage, int], bytes] = lambda message, _: message.encode(),
) -> Path:
    """A file with three pictures in messages called ``kind``."""
    from mcap.writer import Writer

    path = folder / "a.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("", "")
        schema = writer.register_schema(kind, "", b"")
        channel = writer.register_channel("/camera", encoding, schema)
        for number in range(3):
            message = m.CompressedImage(m.Header(), "jpeg", jpeg(picture(number)))
            writer.add_message(channel, 1 + number, encode(message, number), 0)
        writer.finish()  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("foxglove.CompressedImage", "protobuf"),
        ("foxglove.CompressedImage", "json"),
        ("sensor_msgs/CompressedImage", "ros1"),
        ("sensor_msgs/msg/CompressedImage", "ros1"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, kind: str, encoding: str) -> None:
    with pytest.raises(InputError) as caught:
        list(open_source(str(written(tmp_path, kind, encoding))))
    assert f"/camera ({kind} in {encoding})" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (MAGIC[:5], "no MCAP"),
        (b"#ROSBAG V2.0\n" + bytes(100), "ros2 bag convert"),
        (b"SQLite format 3\0" + bytes(100), "ros2 bag convert"),
    ],
)
def test_what_is_no_recording_is_refused_at_the_opening(
    tmp_path: Path, content: bytes | None, match: str
) -> None:
    path = tmp_path / "a.mcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=match):
        open_source(str(path))


def test_an_unknown_option_is_refused(recorded: tuple[Path, list[Result]]) -> None:
    with pytest.raises(InputError, match="topics"):
        open_source(f"{recorded[0]}?topics=/a")


@pytest.mark.parametrize("compression", ["lz4", "zstd", ""])
@pytest.mark.parametrize("claimed", [1 << 40, 100])
def test_a_chunk_is_not_unpacked_beyond_what_it_may(
    tmp_path: Path, compression: str, claimed: int
) -> None:
    """A few bytes that unpack to much more than they say, or say more than any memory holds."""
    content = bytes(50 << 20)
    packed = {"lz4": lz4.frame.compress, "zstd": zstandard.compress}.get(compression, bytes)(
        content
    )
    record = RecordBuilder()
    Chunk(compression, packed, 0, 0, 0, claimed).write(record)
    path = tmp_path / "bomb.mcap"
    path.write_bytes(MAGIC + record.end())  # type: ignore[no-untyped-call]
    del content
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged after 0 pictures .*chunk"):
            list(open_source(str(path)))
        assert tracemalloc.get_traced_memory()[1] < 2 * len(packed) + (1 << 20)
    finally:
        tracemalloc.stop()


def test_a_negative_length_reads_nothing(chunked: Path) -> None:
    """A message shorter than its own head: what is left to read of it is less than nothing."""
    message = b"\x05" + (5).to_bytes(8, "little") + bytes(5)
    chunked.write_bytes(MAGIC + message + bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="after 0 pictures"):
            list(open_source(str(chunked)))
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_source("a" * 300 + ".mcap")
