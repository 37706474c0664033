"""A clock that is set while engines are built: back by a day, as where a robot's battery is empty."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from convcut_trt import build, engine, fields
from convcut_trt.manifest import EngineManifest
from convcut_trt.progress import Progress
from tests.building import make

DAY_S = 86_400


def test_an_engine_replaces_the_one_of_its_name_though_that_is_dated_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, "now", lambda: "2099-01-01T00:00:00+00:00")
        make(tmp_path)
    latter = make(tmp_path)
    with engine.load(tmp_path) as opened:
        assert opened.manifest == latter
    assert latter.date < "2099"


def test_of_engines_of_two_names_the_later_date_is_taken_and_any_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(build, "now", lambda: "1970-01-01T00:00:09+00:00")
        second = make(tmp_path, precision="fp32")
    for given, meant in ((tmp_path, first), (second.path, second)):
        with engine.load(given) as opened:
            assert opened.manifest == meant


def test_a_date_from_the_future_is_no_fault_of_an_engine(tmp_path: Path) -> None:
    built = replace(make(tmp_path), date="2999-12-31T23:59:59+00:00")
    built.write(built.path)
    with engine.load(tmp_path) as opened:
        assert opened.manifest == EngineManifest.read(built.path)


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S])
def test_progress_outlives_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jump_s: int
) -> None:
    tqdm = pytest.importorskip("tqdm.std")
    now, jumped = time.time, [0]
    monkeypatch.setattr(tqdm, "time", lambda: now() + jumped[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress() as progress:
        for done in range(5):
            jumped[0] = jump_s if done > 1 else 0
            progress("building", done, 4)
    said = capsys.readouterr().err
    assert "building" in said and "100 %" in said


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S])
def test_what_another_process_is_writing_is_not_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    """Ages are told from the files themselves, whatever this machine takes the time for."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump_s)
    path = tmp_path / "a.json"
    with fields.replacing(path) as other:
        other.write_bytes(b"theirs")
        fields.write_file(path, b"mine")
        assert path.read_bytes() == b"mine"
    assert path.read_bytes() == b"theirs"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
