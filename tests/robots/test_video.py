"""Annotated video: it plays as fast as things happened, and is whole or not there."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt.cli import main
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.health import Health
from convcut_trt.robots import video
from convcut_trt.robots.sinks import About, open_sink
from convcut_trt.sources import Frame
from convcut_trt.stream import Result

CLIP = Path(__file__).parents[2] / "examples" / "faces.mp4"
CLASSES = ("neutral", "happiness")
SECOND = 10**9
FRAME = SECOND // 30
HEALTH = Health(True, False, 0.0, 0, 0, 0, 0, 0, 0, 0, "", {})
Pixels = NDArray[np.uint8]


def result(timestamp: int, level: int, width: int = 640, height: int = 480) -> Result:
    """An answer without faces to an even picture, which the video shows unchanged."""
    picture = np.full((height, width, 3), level, np.uint8)
    return Result(Frame(picture, timestamp), picture, (), 0.0, False)


def write(path: Path, results: Iterable[Result], rate: float | None = 30.0) -> None:
    sink = open_sink(str(path), About("model", CLASSES, 0.5, rate))
    for one in results:
        sink.send(one)
    sink.report(HEALTH)
    sink.close()
    sink.close()


def read(path: Path) -> list[Pixels]:
    capture, pictures = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        pictures.append(np.asarray(answer[1], np.uint8))
    capture.release()
    return pictures


def levels(path: Path) -> list[int]:
    """The grey level of each frame, to the next ten."""
    return [round(float(picture[200:280, 200:400].mean()) / 10) * 10 for picture in read(path)]


def rate_of(path: Path) -> float:
    capture = cv2.VideoCapture(str(path))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return rate


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".MP4"])
def test_each_frame_of_a_steady_source_is_there_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new folder" / f"out{ending}"
    shades = list(range(20, 220, 20))
    write(path, [result(7 * SECOND + i * FRAME, shade) for i, shade in enumerate(shades)])
    assert levels(path) == shades
    assert rate_of(path) == pytest.approx(30, abs=0.01)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 1, 2, 6, 7], [0, 1, 2, 2, 2, 2, 3, 4]),  # dropped: what was seen stays
        ([0, 1.3, 1.8, 3.2, 3.9], [0, 1, 2, 3, 4]),  # jitter
        ([i / 3 for i in range(9)], [0, 2, 5, 8]),  # three times as fast as the video
        ([10, 11, 2, 3], [0, 1, 2, 3]),  # the clock jumps back
        ([0, 1, 30 * 3600, 30 * 3600 + 1], [0, 1, 2, 3]),  # an hour of silence
        ([5, 5, 5], [0]),  # the clock stands still
        ([0], [0]),
    ],
)
def test_frames_are_shown_at_their_own_times(
    tmp_path: Path, times: list[float], shown: list[int]
) -> None:
    path = tmp_path / "out.avi"
    moments = [SECOND + round(moment * SECOND / 30) for moment in times]
    write(path, [result(moment, 20 + 20 * place) for place, moment in enumerate(moments)])
    assert levels(path) == [20 + 20 * place for place in shown]


@pytest.mark.parametrize(
    ("rate", "written"),
    [(15.0, 15.0), (29.97002997, 29.97), (None, 30.0), (1000.0, 30.0), (0.2, 30.0)],
)
def test_the_rate_is_the_sources_where_a_player_takes_it(
    tmp_path: Path, rate: float | None, written: float
) -> None:
    path = tmp_path / "out.mp4"
    write(path, [result(0, 50), result(SECOND, 100)], rate)
    assert rate_of(path) == pytest.approx(written, abs=0.01)
    assert len(read(path)) == round(written) + 1


def test_frames_that_change_size_are_fitted_into_the_first_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sizes = [(641, 481), (320, 240), (240, 320), (1920, 1080), (1, 1)]
    write(path, [result(i * FRAME, 120, *size) for i, size in enumerate(sizes)])
    pictures = read(path)
    assert {picture.shape for picture in pictures} == {(482, 932, 3)}
    assert len(pictures) == 5
    assert all(abs(float(picture[240, 320].mean()) - 120) < 5 for picture in pictures)


def test_a_former_video_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"former")
    write(path, [])
    assert path.read_bytes() == b"former"
    sink = open_sink(str(path), About("model", CLASSES, 0.5))
    sink.send(result(0, 100))
    assert path.read_bytes() == b"former"
    sink.close()
    assert levels(path) == [100]
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["folder.mp4", "file/out.mp4", f"{'long' * 100}.mp4"])
def test_a_place_that_takes_no_video_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="another place"):
        open_sink(str(tmp_path / place), About("model", CLASSES, 0.5))


def test_a_codec_that_opencv_lacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(video._CODECS, ".mp4", "????")
    with pytest.raises(InputError, match=r"does not encode.*\.avi"):
        write(tmp_path / "out.mp4", [result(0, 100)])
    assert not list(tmp_path.iterdir())


def test_without_opencv_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[faces\]"):
        open_sink(str(tmp_path / "out.mp4"), About("model", CLASSES, 0.5))


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
def test_a_video_that_could_not_be_written_whole_is_an_error(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    path = tmp_path / f"out{ending}"
    writer = video.Writer(path, 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for _ in range(20):
            writer.write(noise)
        with pytest.raises(InputError, match="not whole"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not path.exists()


def test_a_full_disk_ends_the_loop_within_a_second_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.mp4"
    sink = open_sink(str(path), About("model", CLASSES, 0.5))
    sink.send(result(0, 100))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="full"):
        sink.report(HEALTH)
    sink.close()
    assert levels(path) == [100]


@pytest.mark.parametrize(("ending", "least"), [(".avi", 60), (".mkv", 30)])
def test_after_a_kill_what_was_written_plays(tmp_path: Path, ending: str, least: int) -> None:
    path = tmp_path / f"out{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    child = os.fork()
    if not child:
        writer = video.Writer(path, 30)
        for _ in range(60):
            writer.write(noise)
        os._exit(0)
    os.waitpid(child, 0)
    assert len(read(tmp_path / f"out.part{ending}")) >= least


@pytest.mark.slow
def test_a_clip_comes_out_with_boxes_labels_and_bars(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    arguments = ["--engine", str(engines), "--detector", "haar", "--frames", "165"]
    assert main(["run", str(CLIP), *arguments, "--to", str(out), "--to", "stdout"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["sequence"] for answer in answers] == list(range(165))
    pictures, original = read(out), read(CLIP)[:165]
    assert len(pictures) == 165
    assert rate_of(out) == rate_of(CLIP)

    seen = {face["label"] for answer in answers for face in answer["faces"]}
    assert {"neutral", "happiness", "surprise", "sadness", "anger"} <= seen
    assert {face["track"] for answer in answers for face in answer["faces"]} >= {1, 2}
    for answer, picture, before in list(zip(answers, pictures, original, strict=True))[::10]:
        bgr = picture.astype(int)
        blue = (abs(bgr - (233, 180, 86)).max(axis=2) < 40).sum()
        assert (blue > 1000) == any(
            face["track"] == 1 and face["label"] != "unknown" for face in answer["faces"]
        )
        assert abs(bgr[:60, :640] - before[:60].astype(int)).mean() < 10  # the picture itself


def test_the_command_refuses_a_bad_place_before_it_reads(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "out.mp4"
    arguments = ["--engine", str(engines), "--detector", "whole", "--to", str(place)]
    assert main(["run", str(CLIP), *arguments]) == 2
    said = capsys.readouterr().err
    assert str(place) in said and "Traceback" not in said
