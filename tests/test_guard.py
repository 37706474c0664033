"""Between a verb and the shell: what cannot be printed, and what the system refuses."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from convcut_trt.errors import InputError
from convcut_trt.guard import guarded
from convcut_trt.home import ZOO
from convcut_trt.scratch import scratch_folder

PROGRAM = [sys.executable, "-m", "convcut_trt"]
INSPECT = [*PROGRAM, "inspect", str(ZOO / "conv-cut-mini.spec.json")]
PRINTING = pytest.mark.parametrize("command", [PROGRAM, INSPECT, [*INSPECT, "--json"]])


def into(stdout: IO[bytes], *command: str, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    """The exit code, and what was said on stderr, where that is no part of stdout."""
    done = subprocess.run(command, stdout=stdout, stderr=stderr, text=True)
    return done.returncode, done.stderr or ""


@pytest.fixture
def unread() -> IO[bytes]:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "wb")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@PRINTING
def test_a_full_disk_behind_stdout_is_told(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        code, said = into(full, *command)
    assert (code, said.count("free some space")) == (2, 1)
    assert "Exception ignored" not in said and "Traceback" not in said


@PRINTING
def test_a_reader_that_has_gone_is_no_error(unread: IO[bytes], command: list[str]) -> None:
    with unread:
        assert into(unread, *command) == (0, "")


def test_a_mistake_keeps_its_exit_code_where_nobody_reads(unread: IO[bytes]) -> None:
    command = [*INSPECT[:-1], "nothing.onnx", "--json"]
    with unread:
        assert into(unread, *command, stderr=subprocess.STDOUT)[0] == 2


def test_stdout_may_be_closed() -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *INSPECT]
    done = subprocess.run(closed, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_no_text_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", printed)
    assert guarded(lambda: print("out/\udcff.json") or 0, as_json=False) == 0
    assert printed.buffer.getvalue() == b"out/\\udcff.json\n"


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENAMETOOLONG, "give another path"),
        (errno.ENOENT, "give another path"),
        (errno.ENOTDIR, "give another path"),
        (errno.EISDIR, "give another path"),
        (errno.ELOOP, "give another path"),
        (errno.EACCES, "permission"),
        (errno.ENOSPC, "free some space"),
        (errno.EIO, "whether the disk is sound"),
    ],
)
def test_what_the_system_refuses_has_a_fix_that_fits(
    number: int, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        raise OSError(number, os.strerror(number), "some/file")

    assert guarded(run, as_json=False) == 2
    said = capsys.readouterr().err
    assert "some/file" in said and os.strerror(number) in said and fix in said


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), BrokenPipeError),
        (OSError(errno.ENOSPC, "No space left on device"), InputError),
    ],
)
def test_a_reader_that_has_gone_is_no_full_disk(error: OSError, seen: type[Exception]) -> None:
    def fail() -> None:
        with scratch_folder():
            raise error

    with pytest.raises(seen):
        fail()
