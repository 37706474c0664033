"""OpenVINO in processes of its own: what importing and using it does to them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
if importlib.util.find_spec("openvino") is None:  # importing it here would tell its maker
    pytest.skip("openvino is not installed", allow_module_level=True)

from tests.backends import models

_APART = """
import os, sys
watched = []
def watch(event, args):
    # A socket, a process that is to open one, a file opened for writing.
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork"):
        watched.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        watched.append(str(args[0]))
sys.addaudithook(watch)
from pathlib import Path
from convcut_trt import backends, doctor
import numpy as np
doctor._version("openvino")
threads = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
with backends.get("openvino").open(Path(sys.argv[1])) as session:
    session.run(np.zeros((1, 16, 16, 3), np.uint8))
    session.run(np.zeros((2, 16, 16, 3), np.uint8))
    if threads is not None:
        for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ():
            assert os.sched_getaffinity(int(thread)) == threads, "a thread was pinned"
assert "openvino" in sys.modules and "openvino_telemetry" not in sys.modules
print(watched)
"""


def test_nothing_is_reported_written_or_pinned(tmp_path: Path) -> None:
    """``import openvino`` by itself tells its maker, and keeps an identity and a count in the user's home."""
    path = models.write(tmp_path / "small.onnx")
    user = tmp_path / "home"
    user.mkdir()
    environment = {"HOME": str(user), "LOCALAPPDATA": str(user), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _APART, path],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
    assert not list(user.iterdir())


_INTERRUPTED = """
import signal, sys
from pathlib import Path
from convcut_trt import backends
backend = backends.get("openvino")
sessions = [backend.open(Path(sys.argv[1])) for _ in range(2)]
for _ in range(2):
    sessions.pop(0).close()
backend.refuses("bf16")
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(1))
signal.raise_signal(signal.SIGINT)
print(came)
"""


def test_ctrl_c_after_engines_came_and_went_is_python_s(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    command = [sys.executable, "-c", _INTERRUPTED, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[1]"), done.stderr
