"""Two processes in one folder: the lock, trainings, sweeps, builds, and a check beside a build."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt import engine, publish, verify
from convcut_trt.alone import alone
from convcut_trt.errors import GateFailed, InputError
from convcut_trt.gates import judge
from convcut_trt.manifest import EngineManifest
from tests import models
from tests.building import FACES, ZOO, check_published, make
from tests.faults import material

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows locks no folders")


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that imports what this one can."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


HOLD = """
    import sys
    from pathlib import Path
    from convcut_trt.alone import alone
    with alone(Path(sys.argv[1]), "busy"):
        print("held", flush=True)
        sys.stdin.readline()
"""


def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path: Path) -> None:
    other = start(HOLD, tmp_path)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="^busy$"), alone(tmp_path, "busy"):
        pass
    other.kill()
    other.communicate()
    with alone(tmp_path, "busy") as held, pytest.raises(InputError), alone(tmp_path, "busy"):
        pass
    assert held
    assert not list(tmp_path.iterdir())


def test_who_waits_comes_in(tmp_path: Path) -> None:
    other = start(HOLD, tmp_path)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="^busy$"), alone(tmp_path, "busy", 0.1):
        pass
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    with alone(tmp_path, "busy", 30):
        pass
    other.communicate()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks, once the test asks for it."""
    import fcntl

    def none(descriptor: int, operation: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", none)


def test_a_disk_without_locks_is_worked_on_all_the_same(tmp_path: Path, no_locks: None) -> None:
    check_published(make(tmp_path), tmp_path)
    with alone(tmp_path, "busy") as held:
        assert not held


@pytest.mark.parametrize("locks", [True, False])
def test_what_killed_builds_left_is_removed_and_no_live_one(
    tmp_path: Path, request: pytest.FixtureRequest, locks: bool
) -> None:
    """Without locks anybody may be at work; for hours nobody is."""
    young, old = (tmp_path / f".publishing-{name}" for name in ("young", "old"))
    for left in (young, old):
        left.mkdir()
        (left / "a.engine").write_bytes(b"half")
    then = young.stat().st_mtime - 7200
    os.utime(old, (then, then))
    if not locks:
        request.getfixturevalue("no_locks")
    with publish.staging(tmp_path) as stage:
        assert set(tmp_path.iterdir()) == {stage} | (set() if locks else {young})
    assert not stage.exists()


# Each of two processes publishes its own engine of one name again and again.
PUBLISH = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from convcut_trt.home import find_model
    from convcut_trt.manifest import EngineManifest, manifests
    from convcut_trt.publish import publish
    model, (path,), folder = find_model(sys.argv[1]), manifests(Path(sys.argv[2])), Path(sys.argv[3])
    there = EngineManifest.read(path)
    engine, here = there.engine.read_bytes(), replace(there, path=folder / path.name)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[4])):
        publish(model, here, there.typed_onnx, engine)
"""
ROUNDS = 40


def test_two_that_publish_at_once_leave_one_of_two_engines(tmp_path: Path) -> None:
    """And at every moment one of them can be opened."""
    out = tmp_path / "out"
    out.mkdir()
    two, processes = [], []
    for number in range(2):
        model = material.model(tmp_path / f"model {number}", number)
        built = tmp_path / f"built {number}"
        two.append(make(built, model, precision="fp32", judged=material.few(model)))
        processes.append(start(PUBLISH, model.onnx, built, out, ROUNDS))
    publish.publish(model, replace(two[1], path=out / two[1].path.name), two[1].typed_onnx, b"")
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes):
        with engine.load(out) as opened:
            assert opened.manifest.sha256 in [built.sha256 for built in two]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    found = EngineManifest.read(out / two[0].path.name)
    found.check_files()
    assert found in two
    with engine.load(out) as opened:
        assert opened.manifest == found
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def _has_open(process: subprocess.Popen[str], folder: Path) -> bool:
    with suppress(OSError):  # closed while it is looked at
        opened = [path.resolve() for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        return folder.resolve() in opened
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells that both are waiting")
def test_two_builds_at_once_leave_one_of_two_engines(tmp_path: Path) -> None:
    """Two commands, over a former engine, which both have built theirs before either may publish it."""
    out = tmp_path / "out"
    three = [material.model(tmp_path / str(number), number) for number in range(3)]
    former = make(out, three[2], precision="fp32", judged=material.few(three[2]))
    options = ["--precision", "fp32", "--backend", "onnxruntime", "--batch", "1"]
    command = [sys.executable, "-m", "convcut_trt", "build", *options, "--gate-pictures", "2"]
    with alone(out, "busy"):
        processes = [
            subprocess.Popen([*command, "-o", out, model.onnx], stderr=subprocess.PIPE, text=True)
            for model in three[:2]
        ]
        while not all(_has_open(process, out) for process in processes):
            assert [process.poll() for process in processes] == [None, None]
            time.sleep(0.05)
        assert EngineManifest.read(former.path) == former
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    found = EngineManifest.read(former.path)
    assert found.sha256["onnx"] in {model.spec.onnx_sha256 for model in three[:2]}
    found.check_files()
    with engine.load(out) as opened:
        assert opened.manifest == found
    assert {path.name for path in out.iterdir()} == {
        found.path.name,
        found.engine.name,
        "witnesses",
    }


def test_a_folder_that_others_write_to_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_PATIENCE_S", 0.1)
    with alone(tmp_path, "busy"), pytest.raises(InputError, match="wait for them, or .* with -o"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_check_does_not_overwrite_what_was_built_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = make(tmp_path)
    latter = []

    def build_meanwhile(*arguments: Any) -> Any:
        latter.append(make(tmp_path, batch=(1, 1, 1)))
        return judge.judge(*arguments)

    monkeypatch.setattr(verify, "judge", build_meanwhile)
    with pytest.raises(InputError, match="built anew .*: verify it again"):
        verify.verify(built, ZOO, FACES, models.quiet)
    check_published(latter[0], tmp_path)


def test_a_check_that_fails_says_so_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = make(tmp_path)
    monkeypatch.setattr(publish, "_PATIENCE_S", 0.1)
    strict = replace(built, budgets={**built.budgets, "loss_median": 1e-9})
    with alone(tmp_path, "busy"), pytest.raises(GateFailed, match="does not say so: others are"):
        verify.verify(strict, ZOO, FACES, models.quiet)
    assert EngineManifest.read(built.path) == built


def test_two_sweeps_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from convcut_trt.cli import main

    (tmp_path / "engines").mkdir()
    given = ["bench", "--sweep", "--backend", "onnxruntime", "--precision", "fp32"]
    with alone(tmp_path / "engines", "busy"):
        assert main([*given, "-o", str(tmp_path)]) == 2
    assert "another sweep is at work" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["engines"]
