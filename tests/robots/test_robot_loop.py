"""The verb ``run``, from the command line: a source in, results out, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcut_trt.cli import main
from convcut_trt.errors import InputError
from convcut_trt.health import Health
from convcut_trt.robots import robot_loop, sinks
from convcut_trt.robots.sinks import About
from convcut_trt.stream import Result

PORTRAIT = Path(__file__).parents[2] / "examples" / "astronaut.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six portraits, of which the fourth is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    face = Image.open(PORTRAIT).convert("RGB").crop((110, 70, 210, 190))
    for number in range(6):
        face.save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no picture")
    return folder


def run(*arguments: object) -> int:
    return main(["run", *map(str, arguments)])


class Remembering:
    """A sink that may fail."""

    def __init__(self, about: About, failing: str = "") -> None:
        self.about, self._failing = about, failing
        self.results: list[Result] = []
        self.reports: list[Health] = []
        self.closed = 0

    def send(self, result: Result) -> None:
        if self._failing == "send":
            raise InputError("the disk is full: free some of it")
        self.results.append(result)

    def report(self, health: Health) -> None:
        self.reports.append(health)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Remembering]:
    """Sinks ``memory:NAME`` by name, and ``memory:send`` that fails."""
    found: dict[str, Remembering] = {}

    def open_sink(address: str, about: About) -> Any:
        if not address.startswith("memory:"):
            return sinks.open_sink(address, about)
        name = address.removeprefix("memory:")
        found[name] = Remembering(about, failing=name)
        return found[name]

    monkeypatch.setattr(robot_loop, "open_sink", open_sink)
    return found


def test_each_frame_is_a_line_and_a_broken_one_is_counted(
    engines: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--engine", engines, "--detector", "whole") == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["frame_id"] for line in lines] == [f"{n}.png" for n in (0, 1, 2, 4, 5)]
    assert all(len(line["faces"]) == 1 and line["faces"][0]["track"] == 1 for line in lines)
    assert "5 frames answered" in said.err and "1 unreadable" in said.err


def test_the_summary_as_json(
    engines: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(folder, "--engine", engines, "--detector", "whole", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["processed"], found["bad"], found["dropped"]) == (5, 1, 0)
    assert found["latency"]["total"]["p50"] > 0


def test_several_places_get_the_same(
    engines: Path, folder: Path, opened: dict[str, Remembering]
) -> None:
    places = ("--to", "memory:one", "--to", "memory:two")
    assert run(folder, "--engine", engines, "--detector", "whole", *places) == 0
    one, two = opened["one"], opened["two"]
    assert one.results == two.results and len(one.results) == 5
    assert one.closed == two.closed == 1
    assert one.reports[-1].processed == 5 and not one.reports[-1].running
    assert one.about.model == "conv-cut-mini" and one.about.reject == 0.59


def test_a_place_that_fails_ends_the_loop_and_closes_the_others(
    engines: Path,
    folder: Path,
    opened: dict[str, Remembering],
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ("--to", "memory:one", "--to", "memory:send")
    assert run(folder, "--engine", engines, "--detector", "whole", *places) == 2
    assert opened["one"].closed == opened["send"].closed == 1
    assert capsys.readouterr().err.count("free some of it") == 1


def test_it_ends_after_as_many_frames(
    engines: Path, folder: Path, opened: dict[str, Remembering]
) -> None:
    options = ("--to", "memory:one", "--frames", 2, "--detector", "whole")
    assert run(folder, "--engine", engines, *options) == 0
    assert [result.frame.sequence for result in opened["one"].results] == [0, 1]


@pytest.mark.parametrize(("reject", "labels"), [("0", False), ("1", True)])
def test_the_threshold_of_the_call_counts(
    engines: Path, tmp_path: Path, opened: dict[str, Remembering], reject: str, labels: bool
) -> None:
    Image.new("RGB", (96, 96), (90, 80, 70)).save(tmp_path / "nobody.png")
    options = ("--to", "memory:one", "--reject", reject, "--detector", "whole")
    assert run(tmp_path, "--engine", engines, *options) == 0
    faces = [face for result in opened["one"].results for face in result.faces]
    assert {face.label == "unknown" for face in faces} == {labels}
    assert opened["one"].about.reject == float(reject)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("nothing.mp4",), "no file, folder or camera"),
        (("FOLDER", "--to", "nowhere"), "zenoh:TOPIC"),
        (("FOLDER", "--to", "stdout", "--json"), "--json"),
        (("FOLDER", "--to", "stdout", "--to", "stdout"), "twice"),
        (("FOLDER", "--reject", "2"), "from 0 to 1"),
        (("FOLDER", "--smooth", "-1"), "time_constant"),
        (("FOLDER", "--deadline", "0"), "deadline"),
        (("FOLDER", "--stall", "nan"), "stall"),
        (("FOLDER", "--rate", "0"), "rate"),
        (("FOLDER", "--detector", "nobody"), "nobody"),
        (("zenoh:",), "zenoh:"),
        (("dds:",), "dds:"),
        (("EMPTY",), "no pictures"),
    ],
)
def test_a_mistake_is_one_sentence(
    engines: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    words: str,
) -> None:
    names = {"FOLDER": str(folder), "EMPTY": str(tmp_path)}
    detector = () if "--detector" in given else ("--detector", "whole")
    arguments = [names.get(word, word) for word in given]
    assert run(*arguments, "--engine", engines, *detector) == 2
    said = capsys.readouterr()
    assert words in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("source", "to"),
    [
        ("clip.avi", "clip.avi"),
        ("clip.avi", "./clip.avi"),
        ("clip.avi", "link.mp4"),
        ("link.mp4", "clip.avi"),
        (
            "clip.part.avi",
            "clip.avi",
        ),  # what a killed loop has left, and the next one would write over
        ("clip.mcap", "clip.mcap"),
    ],
)
def test_what_is_read_is_not_written_over(
    engines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    to: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("clip.avi", "clip.part.avi", "clip.mcap"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link.mp4").symlink_to("clip.avi")
    assert run(source, "--to", to, "--engine", engines, "--detector", "whole") == 2
    assert f"--to {to} would replace what is read" in capsys.readouterr().err
    for name in ("clip.avi", "clip.part.avi", "clip.mcap"):
        assert (tmp_path / name).read_bytes() == name.encode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(engines: Path, folder: Path, number: int) -> None:
    command = [sys.executable, "-m", "convcut_trt", "run", str(folder), "--rate", "1"]
    command += ["--engine", str(engines), "--detector", "whole"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(number)
        start = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - start < 10
        rest = process.stderr.read()
    assert first["sequence"] == 0
    assert "answered" in rest and "Traceback" not in rest


def test_a_reader_that_has_seen_enough(engines: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "convcut_trt", "run", str(folder), "--rate", "20"]
    command += ["--engine", str(engines), "--detector", "whole"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["sequence"] == 0
        process.stdout.close()
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_the_status_line_is_for_terminals(
    engines: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--engine", engines, "--detector", "whole", "--rate", "3") == 0
    assert "\r" not in capsys.readouterr().err


def test_a_face_the_whole_way(
    engines: Path, tmp_path: Path, opened: dict[str, Remembering]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        Image.fromarray(np.asarray(Image.open(PORTRAIT).convert("RGB"))).save(
            pictures / f"{number}.png"
        )
    options = ("--to", "memory:one", "--detector", "haar")
    assert run(pictures, "--engine", engines, *options) == 0
    found = [result.faces for result in opened["one"].results]
    assert [len(faces) for faces in found] == [1, 1]
    x, y, width, height = found[0][0].box
    assert 80 < x < 150 and 40 < y < 110 and 60 < width < 160 and 60 < height < 160
