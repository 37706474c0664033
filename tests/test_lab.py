"""Lab verbs: each runs the module of the checkout that has it, with the arguments as they were given."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convcut_trt import lab
from convcut_trt.cli import main

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the lab needs Python 3.11 or later"
)

ROOT = Path(__file__).parents[1]
MODULES = {
    "train": ["export", "train"],
    "evaluate": ["export", "evaluate"],
    "export": ["export", "export"],
    "ablate": ["export", "ablate"],
    "explain": ["export", "explain"],
    "calibrate": ["calib", "calibrate"],
    "report": ["bench.report"],
}


def test_every_verb_has_a_place() -> None:
    assert MODULES.keys() == lab.VERBS.keys()


@pytest.mark.parametrize("verb", MODULES)
def test_a_verb_runs_its_module(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def call(command: list[str], env: dict[str, str]) -> int:
        calls.append((command, env))
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    assert main([verb, "x.safetensors", "--help"]) == 7
    ((command, environment),) = calls
    assert command == [sys.executable, "-P", "-m", *MODULES[verb], "x.safetensors", "--help"]
    assert environment["PYTHONPATH"].startswith(str(ROOT))
    module = MODULES[verb][0]
    runnable = module if "." in module else f"{module}.__main__"
    assert importlib.util.find_spec(runnable) is not None


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (
            -signal.SIGKILL,
            2,
            "train was killed (SIGKILL), most likely because memory ran out: close",
        ),
        (-signal.SIGSEGV, 2, "train was ended by signal 11"),
        (-signal.SIGINT, 130, "stopped"),
    ],
)
def test_a_verb_that_is_killed_is_told(
    code: int,
    exit_code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dying = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {-code})"]
    call = subprocess.call
    monkeypatch.setattr(subprocess, "call", lambda command, env: call(dying, env=env))
    assert main(["train", "x", "--data", "y"]) == exit_code
    assert says in capsys.readouterr().err


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^0$"):
        main(["--help"])
    out = capsys.readouterr().out
    for verb in lab.VERBS:
        assert verb in out


def test_report_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "convcut_trt", "report", "--results", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "broken.json cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "report.html").exists()
