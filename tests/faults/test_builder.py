"""A builder whose process dies or finds no memory, and a build that dies with its builder at work."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convcut_trt.backends import worker
from convcut_trt.backends.base import no_progress
from convcut_trt.errors import BuildError
from convcut_trt.guard import guarded
from tests.building import check_published, make

ROOT = Path(__file__).parents[2]
MEMORY = "memory .*: close other programs, build with a smaller --batch, or add swap"

# Kills this process at a phase of the build.
KILLED = """
import os, signal, sys
from pathlib import Path
from convcut_trt import build, home, request
from convcut_trt.gates import judged

def step(name, done, total):
    if name == "Building engine":
        os.kill(os.getpid(), signal.SIGKILL)

model = home.find_model("conv-cut-mini")
faces = judged.bundled(model.spec.size, 4)
asked = request.Request(
    "fp16", Path(sys.argv[1]), "tensorrt-rtx", ("rtx4060ti",), (1, 2, 2), judged=faces
)
build.build(model, asked, step)
"""

# The builder's process with less memory than its libraries take.
LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_AS, (420 << 20, 420 << 20))
runpy.run_module("convcut_trt.backends.child", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_build_that_is_killed_leaves_the_former_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    folder, scratch = tmp_path / "out", tmp_path / "tmp"
    former = make(folder, backend="tensorrt-rtx", targets=("rtx4060ti",))
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(folder)]
    code = subprocess.run(command, env=environment, check=False, timeout=120).returncode
    assert code == -signal.SIGKILL
    check_published(former, folder)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_a_builder_that_finds_no_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(worker, "_command", lambda: [sys.executable, "-c", LIMITED])
    with pytest.raises(BuildError, match=f"TensorRT-RTX ran out of {MEMORY}"):
        make(tmp_path, backend="tensorrt-rtx", targets=("rtx4060ti",))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".json", ".engine")]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", f"was killed while .*{MEMORY}"),
        (
            "import os; os.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\"); "
            "os.abort()",
            f"ran out of {MEMORY}",
        ),
        ("raise MemoryError", f"ran out of {MEMORY}"),
        (
            "from convcut_trt.backends import child\n"
            "def build(*_): raise MemoryError\n"
            "child.build = build; child.main()",
            f"ran out of {MEMORY}",
        ),
        ("import os; os.abort()", "crashed"),
    ],
)
def test_how_a_death_for_lack_of_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    from convcut_trt.backends.trt_build import Request

    monkeypatch.setattr(worker, "_command", lambda: [sys.executable, "-c", script])
    request = Request("tensorrt-rtx", "/none.onnx", (1, 1, 1), ((8, 9),), None, None).to_json()
    with pytest.raises(BuildError, match=said):
        worker.build_apart("TensorRT-RTX", request, no_progress, 60)


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", fork)
    with pytest.raises(BuildError, match=r"could not be started \(Cannot allocate .*: close other"):
        worker.build_apart("TensorRT-RTX", "{}", no_progress, 60)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out: close other programs"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "a file could .*: free some space"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x/y"), "x/y could .*permission"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "x"), "x could .*: choose another folder"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "x"), "ulimit -n"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "x"), "x could .*: see whether the disk"),
        (OSError("odd"), "a file could not be read or written .odd.: "),
    ],
)
def test_what_nobody_expected_of_the_system_is_one_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, said: str
) -> None:
    import re

    def run() -> int:
        raise error

    assert guarded(run, as_json=False) == 2
    err = capsys.readouterr().err
    assert re.search(f"^convcut-trt: .*{said}", err) and "Traceback" not in err
