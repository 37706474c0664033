"""Recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from convcut_trt.robots import mcap_file
from convcut_trt.stream import Result
from tests.robots.recordings.recording import record


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    path = tmp_path_factory.mktemp("mcap") / "run.mcap"
    return path, record(path)


@pytest.fixture
def chunked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording with a chunk a frame."""
    monkeypatch.setattr(mcap_file, "_CHUNK_S", 0)
    record(tmp_path / "chunked.mcap")
    return tmp_path / "chunked.mcap"
