"""Progress goes to stderr: a bar with an ETA on a terminal, one line a phase elsewhere."""

import contextlib
import os
import pty
import re
import subprocess
import sys

import pytest

SCRIPT = """
from convcut_trt.progress import Progress
with Progress(quiet={quiet}) as step:
    for done in range(4):
        step("first", done, 3)
    step("second", 0, 7)
    step("second", 7, 7)
"""


def run(quiet: bool) -> str:
    command = [sys.executable, "-c", SCRIPT.format(quiet=quiet)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stdout
    return done.stderr


def test_without_a_terminal_each_phase_is_one_line() -> None:
    assert run(quiet=False) == "... first\n... second\n"
    assert run(quiet=True) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_on_a_terminal_there_is_a_bar_with_an_eta() -> None:
    pytest.importorskip("tqdm")
    reader, terminal = pty.openpty()
    command = [sys.executable, "-c", SCRIPT.format(quiet=False)]
    process = subprocess.Popen(command, stderr=terminal)
    os.close(terminal)
    content = b""
    with contextlib.suppress(OSError):  # Linux: EIO once the other end is closed
        while piece := os.read(reader, 1 << 12):
            content += piece
    os.close(reader)
    assert process.wait() == 0
    shown = content.decode()
    assert re.search(r"█ +100 %  \d\d:\d\d < \d\d:\d\d", shown)
    assert "first" in shown
    assert "second" in shown
