"""Sources of the robot loop: folders, clips, cameras, and what does not open."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.faces.detect import whole_picture
from convcut_trt.sources import Capture, Pictures, open_source
from convcut_trt.stream import Result, Stream
from tests.stream.loop import FakeEngine, picture

# Longer than the path of a file may be, and than a name in it.
LONG_ADDRESS = f"rtsp://camera/1?token={'a' * 5000}"
LONG_PIPELINE = f"v4l2src {'! videoconvert ' * 20}! appsink"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level, name in ((30, "c.png"), (10, "a.png"), (20, "b.jpg")):
        Image.fromarray(picture(level)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_is_answered_by_name_and_its_broken_picture_skipped(folder: Path) -> None:
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    with Stream(FakeEngine(), folder, detector=whole_picture) as stream:
        results: list[Result] = list(stream)
    assert [result.frame.frame_id for result in results] == ["a.png", "c.png"]
    assert [int(result.picture[0, 0, 0]) for result in results] == [10, 30]
    health = stream.health()
    assert (health.bad, health.dropped) == (1, 0) and "b.jpg" in health.last_error


def test_a_folder_with_a_rate_is_live_and_stamped_by_it(folder: Path) -> None:
    source = Pictures(folder, rate=100)
    begun = time.monotonic()
    stamps = [frame.timestamp for frame in source]
    assert time.monotonic() - begun >= 0.02
    assert source.live and np.diff(stamps).tolist() == [10_000_000, 10_000_000]
    slow = Stream(FakeEngine(), Pictures(folder, rate=0.001), detector=whole_picture)
    begun = time.monotonic()
    for _ in slow:
        break
    assert time.monotonic() - begun < 5


class FakeCapture:
    """What ``cv2.VideoCapture`` does with three frames."""

    def __init__(self, target: Any, api: int = 0) -> None:
        self.target, self.api = target, api
        self.reads, self.released = 0, False

    def isOpened(self) -> bool:  # noqa: N802
        return bool(self.target != "rtsp://nobody")

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        if self.reads > 3:
            return False, None
        return True, picture()[..., 0] if self.reads == 3 else picture() + np.arange(
            3, dtype=np.uint8
        )

    def get(self, what: str) -> float:
        # A container that knows the time of its first two frames only.
        return {"msec": (0.0, 40.0, 0.0)[self.reads - 1], "fps": 25.0}[what]

    def release(self) -> None:
        self.released = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeCapture]:
    made: list[FakeCapture] = []

    def capture(*target: Any) -> FakeCapture:
        made.append(FakeCapture(*target))
        return made[-1]

    fake = SimpleNamespace(
        VideoCapture=capture,
        CAP_GSTREAMER=1800,
        CAP_PROP_POS_MSEC="msec",
        CAP_PROP_FPS="fps",
        COLOR_BGR2RGB="swap",
        cvtColor=lambda pixels, code: np.ascontiguousarray(pixels[..., ::-1]),
    )
    monkeypatch.setitem(sys.modules, "cv2", fake)
    return made


def test_a_video_file_is_answered_whole_with_the_containers_times(
    opened: list[FakeCapture], tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a clip")
    with Stream(FakeEngine(), clip, detector=whole_picture) as stream:
        results = list(stream)
    assert [result.frame.timestamp for result in results] == [0, 40_000_000, 80_000_000]
    assert results[0].picture[0, 0].tolist() == [130, 129, 128]
    assert results[2].picture[0, 0].tolist() == [128, 128, 128]
    assert opened[0].target == str(clip) and opened[0].released


@pytest.mark.parametrize(
    ("name", "target", "api"),
    [
        (0, 0, 0),
        ("2", 2, 0),
        ("rtsp://camera/1", "rtsp://camera/1", 0),
        ("v4l2src ! appsink", "v4l2src ! appsink", 1800),
        (LONG_ADDRESS, LONG_ADDRESS, 0),
        (LONG_PIPELINE, LONG_PIPELINE, 1800),
        ("/dev/null", "/dev/null", 0),
    ],
)
def test_a_camera_is_stamped_with_the_time_and_its_end_is_an_error(
    opened: list[FakeCapture], name: str | int, target: str | int, api: int
) -> None:
    before = time.time_ns()
    stream = Stream(FakeEngine(), name, detector=whole_picture, newest=False)
    results = []
    with pytest.raises(InputError, match="stopped giving frames after 3"):
        for result in stream:
            results.append(result)  # noqa: PERF402
    stamps = [before - 10**6, *(result.frame.timestamp for result in results)]
    assert stamps == sorted(stamps) and stamps[-1] < time.time_ns() + 10**6
    assert (opened[0].target, opened[0].api, opened[0].released) == (target, api, True)
    again = open_source(name)
    assert isinstance(again, Capture) and again.live


@pytest.mark.parametrize("rate", [None, 30.0])
@pytest.mark.parametrize("name", ["rtsp://nobody", "no such clip.mp4", "no folder/"])
def test_what_does_not_open_is_named(
    opened: list[FakeCapture], name: str, rate: float | None
) -> None:
    with pytest.raises(InputError, match=name.rstrip("/")):
        open_source(name, rate)
    assert all(capture.released for capture in opened)


@pytest.mark.parametrize("name", ["9" * 10, "9" * 5000, "a" * 300, "a/" * 3000, "a\0b"])
def test_what_can_be_neither_a_camera_nor_a_file_is_named(
    opened: list[FakeCapture], name: str
) -> None:
    with pytest.raises(InputError, match="is no file, folder or camera"):
        open_source(name)
    assert not opened


def test_a_folder_without_pictures_or_with_a_bad_rate_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="rate"):
        open_source(folder, 0)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_source(folder / "empty")


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[faces\]"):
        Stream(FakeEngine(), 0, detector=whole_picture)
