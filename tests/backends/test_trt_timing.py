"""The timing cache: what one build learns the next one knows, if it is the same builder and GPU."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from convcut_trt.backends import trt_timing
from convcut_trt.backends.probe import Gpu
from convcut_trt.backends.trt_flavours import RTX, TENSORRT
from convcut_trt.backends.trt_timing import TimingCache
from convcut_trt.errors import InputError

ORIN = Gpu("Orin", (8, 7), "12.6")
HEADER = b"timings of "


class Timings:
    """An ``ITimingCache``."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class Config:
    """The timing part of an ``IBuilderConfig``, on a machine called ``machine``."""

    def __init__(self, machine: bytes = b"A") -> None:
        self.machine = machine
        self.given: list[bytes] = []
        self.cache: Timings | None = None

    def create_timing_cache(self, content: bytes) -> Timings | None:
        self.given.append(content)
        return Timings(content) if not content or content.startswith(HEADER) else None

    def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content and not cache.content.startswith(HEADER + self.machine):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Timings | None:
        return self.cache


def module(version: str = "10.3.0") -> ModuleType:
    trt = ModuleType("tensorrt")
    trt.__version__ = version  # type: ignore[attr-defined]
    return trt


@pytest.fixture(autouse=True)
def orin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_timing, "gpu", lambda: ORIN)


def build(timings: TimingCache, config: Config) -> list[bytes]:
    """A build that learns something; what it was given."""
    timings.attach(config)
    assert config.cache is not None
    config.cache.content = HEADER + config.machine
    timings.keep(config)
    return config.given


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_second_build_knows_what_the_first_learnt(tmp_path: Path) -> None:
    folder = tmp_path / "timings"
    assert build(TimingCache(TENSORRT, module(), folder), Config()) == [b""]
    assert build(TimingCache(TENSORRT, module(), folder), Config()) == [HEADER + b"A"]
    assert len(files(folder)) == 1
    assert folder.stat().st_mode & 0o777 == 0o700


def test_another_version_or_gpu_begins_anew_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(TimingCache(TENSORRT, module(), tmp_path), Config())
    assert build(TimingCache(TENSORRT, module("10.3.1"), tmp_path), Config()) == [b""]
    monkeypatch.setattr(trt_timing, "gpu", lambda: Gpu("Orin NX", (8, 7), "12.6"))
    assert build(TimingCache(TENSORRT, module(), tmp_path), Config()) == [b""]
    monkeypatch.setattr(trt_timing, "gpu", lambda: ORIN)
    assert build(TimingCache(TENSORRT, module(), tmp_path), Config()) == [HEADER + b"A"]
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("learnt", [b"gibberish", HEADER + b"B"])
def test_what_the_builder_does_not_take_is_made_anew(
    tmp_path: Path, learnt: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    first = Config()
    timings = TimingCache(TENSORRT, module(), tmp_path)
    timings.attach(first)
    assert first.cache is not None
    first.cache.content = learnt
    timings.keep(first)
    assert build(TimingCache(TENSORRT, module(), tmp_path), Config()) == [learnt, b""]
    assert "made anew" in capfd.readouterr().err
    assert build(TimingCache(TENSORRT, module(), tmp_path), Config()) == [HEADER + b"A"]


def test_a_damaged_file_never_reaches_the_builder(tmp_path: Path) -> None:
    build(TimingCache(TENSORRT, module(), tmp_path), Config())
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert build(TimingCache(TENSORRT, module(), tmp_path), Config()) == [b""]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no POSIX permissions")
def test_a_folder_that_others_may_write_to_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "timings"
    build(TimingCache(TENSORRT, module(), folder), Config())
    folder.chmod(0o777)
    assert build(TimingCache(TENSORRT, module(), folder), Config()) == [b""]


def test_without_a_gpu_or_with_rtx_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="leave --timing-cache out"):
        TimingCache(RTX, module("1.7.1"), tmp_path)
    monkeypatch.setattr(trt_timing, "gpu", lambda: "no NVIDIA driver here")
    with pytest.raises(InputError, match="there is no NVIDIA driver here"):
        TimingCache(TENSORRT, module(), tmp_path)
    assert not files(tmp_path)
