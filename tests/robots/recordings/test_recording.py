"""Recordings: written by a stream, read by others, whole or not."""

from __future__ import annotations

import resource
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.robots import mcap_file
from convcut_trt.robots import messages as m
from convcut_trt.robots.mcap_log import ANNOTATIONS, IMAGE, jpeg, open_sink, open_source
from convcut_trt.robots.publish import FACES
from convcut_trt.stream import Result
from tests.results import ABOUT, SECOND, face, result
from tests.robots.recordings.recording import COUNT, START, given_up

ROOT = Path(__file__).parents[3]


def raw(path: Path) -> Iterator[tuple[str, Any]]:
    """Topic and record of each message, in the order of the file."""
    from mcap.reader import NonSeekingReader

    with path.open("rb") as file:
        for _, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
            yield channel.topic, message


def by_ros2_support(path: Path) -> Iterator[tuple[str, Any]]:
    decoder = pytest.importorskip("mcap_ros2.decoder")
    from mcap.reader import make_reader

    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[decoder.DecoderFactory()], validate_crcs=True)
        for _, channel, _, message in reader.iter_decoded_messages():
            yield channel.topic, message


def by_rosbags(path: Path) -> Iterator[tuple[str, Any]]:
    highlevel = pytest.importorskip("rosbags.highlevel")
    with highlevel.AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            yield connection.topic, reader.deserialize(data, connection.msgtype)


@pytest.mark.parametrize("read", [by_ros2_support, by_rosbags])
def test_others_read_what_was_answered(
    recorded: tuple[Path, list[Result]], read: Callable[[Path], Iterator[tuple[str, Any]]]
) -> None:
    path, answers = recorded
    seen: dict[str, list[Any]] = {}
    for topic, message in read(path):
        seen.setdefault(topic, []).append(message)
    assert len(answers) == COUNT
    faces = {f"{FACES}/f{track:05d}/{name}" for track in (1, 2) for name in ("roi", "expression")}
    once = {f"{FACES}/label_info", "/diagnostics"}
    assert set(seen) == {IMAGE, ANNOTATIONS, *faces, *once} | {
        f"{FACES}/{name}" for name in ("tracked", "detections")
    }
    assert {topic: len(messages) for topic, messages in seen.items()} == {
        topic: 1 if topic in once else COUNT for topic in seen
    }
    for number, answer in enumerate(answers):
        image = seen[IMAGE][number]
        stamp = image.header.stamp.sec * SECOND + image.header.stamp.nanosec
        assert (stamp, image.header.frame_id) == (answer.frame.timestamp, "camera")
        assert bytes(image.data) == jpeg(answer.picture)
        detections = seen[f"{FACES}/detections"][number].detections
        for one, found in zip(answer.faces, detections, strict=True):
            assert found.id == f"f{one.track:05d}"
            scores = [entry.hypothesis.score for entry in found.results]
            assert scores == sorted(one.smoothed.tolist(), reverse=True)
            assert found.bbox.center.position.x == one.box[0] + one.box[2] / 2
            words = seen[f"{FACES}/{found.id}/expression"][number]
            claimed = one.confidence >= ABOUT.reject
            assert words.confidence == (np.float32(one.confidence) if claimed else 0)
        drawn = seen[ANNOTATIONS][number]
        assert [loop.points[2].x for loop in drawn.points] == [
            one.box[0] + one.box[2] for one in answer.faces
        ]
        assert len(drawn.texts) == 2


def test_a_recording_says_what_ros2_bag_play_needs(recorded: tuple[Path, list[Result]]) -> None:
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from mcap.reader import make_reader

    path, _ = recorded
    with path.open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        # Without this record Jazzy takes the numbers of the QoS for names.
        assert [entry.name for entry in reader.iter_metadata()] == ["rosbag2"]
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        channels = {channel.topic: channel for channel in summary.channels.values()}
        times = (summary.statistics.message_start_time, summary.statistics.message_end_time)
        assert times == (START, START + (COUNT - 1) * SECOND // 30)
    assert channels[IMAGE].metadata["topic_type_hash"] == m.CompressedImage.rihs01
    with rosbag2.Reader(path) as bag:
        profiles = {entry.topic: entry.ext.offered_qos_profiles for entry in bag.connections}
    for topic, (profile,) in profiles.items():
        latched = topic.endswith("label_info")
        assert profile.durability.name == ("TRANSIENT_LOCAL" if latched else "VOLATILE")
        assert profile.reliability.name == "RELIABLE" and profile.history.name == "KEEP_LAST"


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ((100, 200, 300), (100, 200, 300)),
        ((300, 200, 250, 400), (300, 300, 350, 400)),
        ((5000, 100, 200, 300), (5000, 5000, 5100, 5200)),
        ((-50, -40, 30), (0, 10, 30)),
        ((0, 0), (0, 0)),
    ],
)
def test_time_never_runs_back_and_never_stands_still(
    tmp_path: Path, stamps: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    sink = open_sink(str(tmp_path / "a.mcap"), ABOUT)
    for number, stamp in enumerate(stamps):
        sink.send(result(face(), sequence=10 + number, timestamp=stamp))
    sink.close()
    messages = list(raw(tmp_path / "a.mcap"))
    logged = [message.log_time for _, message in messages]
    assert logged == sorted(logged) and logged[0] == expected[0] and logged[-1] == expected[-1]
    for topic in (IMAGE, ANNOTATIONS):
        mine = [message for name, message in messages if name == topic]
        assert tuple(message.log_time for message in mine) == expected
        assert [message.publish_time for message in mine] == [max(0, stamp) for stamp in stamps]
        assert [message.sequence for message in mine] == [10 + n for n in range(len(stamps))]


def test_a_recording_without_a_frame_is_a_whole_file(tmp_path: Path) -> None:
    open_sink(str(tmp_path / "a.mcap"), ABOUT).close()
    ((topic, message),) = by_ros2_support(tmp_path / "a.mcap")
    assert topic == f"{FACES}/label_info" and message.class_map[0].class_name
    with pytest.raises(InputError, match="label_info"):
        list(open_source(str(tmp_path / "a.mcap")))


def test_no_recording_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="overwritten"):
        open_sink(str(path), ABOUT)
    assert path.read_bytes() == b"precious"


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: tuple[Path, list[Result]]
) -> None:
    monkeypatch.setitem(sys.modules, "mcap", None)
    for opening in (
        lambda: open_sink(str(tmp_path / "a.mcap"), ABOUT),
        lambda: open_source(str(recorded[0])),
    ):
        with pytest.raises(BackendMissing, match=r"convcut-trt\[mcap\]"):
            opening()
    assert not (tmp_path / "a.mcap").exists()


def test_a_picture_too_large_for_a_jpeg_is_one_sentence() -> None:
    with pytest.raises(InputError, match="65501x1"):
        jpeg(np.zeros((1, 65501, 3), np.uint8))


def test_a_full_disk_is_one_sentence_and_the_rest_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap_file, "_CHUNK_S", 0)
    path = tmp_path / "a.mcap"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = open_sink(str(path), ABOUT)
    sent = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"a\.mcap cannot grow"):
            while sent < 1000:
                sink.send(result(face(), sequence=sent, timestamp=START + sent))
                sent += 1
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 5 < sent < 100
    read = given_up(path)
    assert [frame.timestamp for frame in read] == [START + number for number in range(sent)]


def test_faces_beyond_the_last_channel_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap_file, "_MOST_CHANNELS", 8)
    sink = open_sink(str(tmp_path / "a.mcap"), ABOUT)
    for track in range(1, 9):
        sink.send(result(face(track=track)))
    sink.close()
    topics = [topic for topic, _ in raw(tmp_path / "a.mcap")]
    assert len(set(topics)) == 8
    assert topics.count(f"{FACES}/detections") == topics.count(IMAGE) == 8


def test_a_killed_recorder_loses_a_second(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    command = [sys.executable, "-m", "tests.robots.mcap_killed", str(path)]
    sent: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            sent.append(int(line))
            if sent[-1] - sent[0] > 1.3 * SECOND:
                break
        child.kill()
    stamps = [frame.timestamp for frame in given_up(path)]
    assert len(stamps) > 5 and stamps[: len(sent)] == sent[: len(stamps)]
    assert stamps[-1] > sent[-1] - 1.5 * SECOND


def test_the_example_prints_the_expressions(
    recorded: tuple[Path, list[Result]], capsys: pytest.CaptureFixture[str]
) -> None:
    example = runpy.run_path(str(ROOT / "examples/robots/mcap_read.py"))
    example["main"](SimpleNamespace(recording=recorded[0]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * COUNT
    assert lines[0].startswith("1700000000.000 f00001 ")
