"""A build that is killed, or whose disk fills: the former engine stays whole, or there is none."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convcut_trt import fields, publish
from convcut_trt.errors import InputError
from convcut_trt.manifest import manifests
from tests.building import check_published, make

ROOT = Path(__file__).parents[1]

# Kills this process at a phase of the build, or when a certain file is about to appear.
KILLED = """
import os, signal, sys
from pathlib import Path
from convcut_trt import build, home, request
from convcut_trt.gates import judged

phase, suffix, folder, flavour, *targets = sys.argv[1:]

def step(name, done, total):
    if name == phase:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    if event == "os.rename" and suffix and str(arguments[1]).endswith(suffix):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
model = home.find_model("conv-cut-mini")
faces = judged.bundled(model.spec.size, 4)
asked = request.Request(
    "fp16", Path(folder), flavour, tuple(targets), (1, 2, 2), judged=faces
)
build.build(model, asked, step)
"""


def build_and_be_killed(folder: Path, scratch: Path, phase: str, suffix: str, *backend: str) -> int:
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, phase, suffix, str(folder), *backend]
    return subprocess.run(command, env=environment, check=False, timeout=120).returncode


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_build_that_is_killed_leaves_the_former_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder, backend = tmp_path / "out", ("tensorrt-rtx", "rtx4060ti")
    former = make(folder, backend="tensorrt-rtx", targets=("rtx4060ti",))
    code = build_and_be_killed(folder, tmp_path / "tmp", "Building engine", "", *backend)
    assert code == -signal.SIGKILL
    check_published(former, folder)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("suffix", [".onnxruntime.onnx", ".onnxruntime.json"])
def test_a_build_that_is_killed_while_staging_leaves_the_former_engine(
    tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "out"
    former = make(folder)
    code = build_and_be_killed(folder, tmp_path / "tmp", "", suffix, "onnxruntime")
    assert code == -signal.SIGKILL
    (left,) = folder.glob(".publishing-*")
    shutil.rmtree(left)
    check_published(former, folder)
    check_published(make(folder), folder)  # the next build is not disturbed


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("file", ["onnx", "json"])
def test_a_build_that_is_killed_while_renaming_leaves_none(tmp_path: Path, file: str) -> None:
    """A former manifest must not live on with the files of another engine."""
    folder = tmp_path / "out"
    make(folder)
    last = f"out/conv-cut-mini.fp16.onnxruntime.{file}"
    code = build_and_be_killed(folder, tmp_path / "tmp", "", last, "onnxruntime")
    assert code == -signal.SIGKILL
    assert not manifests(folder)


@pytest.mark.parametrize("suffix", [".fp16.onnxruntime.onnx", "runtime.json"])
def test_a_full_disk_leaves_the_former_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    former = make(tmp_path)
    write = fields.write_file

    def full(path: Path, content: bytes) -> None:
        if path.name.endswith(suffix):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(fields, "write_file", full)
    monkeypatch.setattr(publish, "write_file", full)
    with pytest.raises(InputError, match=r"could not be written \(No space left .*free some space"):
        make(tmp_path)
    check_published(former, tmp_path)


def test_witnesses_of_another_engine_outlive_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = make(tmp_path, precision="fp32")
    stays = {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="could not be written"):
        make(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()} == stays
    check_published(former, tmp_path)
