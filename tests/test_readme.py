"""Every command of the README is run, and its Python, in the order in which they stand."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from convcut_trt.cli import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    return [body for found, body in BLOCK.findall(text) if found == language]


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]


ROBOT = next(block for block in blocks("sh") if "convcut-trt doctor" in block)
LAB_BLOCK = next(block for block in blocks("sh") if "convcut-trt train" in block)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the examples beside it, and an engine cache of its own."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "home"))
    return tmp_path


def test_every_block_is_run_by_a_test() -> None:
    assert {language for language, _ in BLOCK.findall((ROOT / "README.md").read_text())} <= {
        "sh",
        "python",
        "py",  # needs a camera
    }
    known = [ROBOT, LAB_BLOCK]
    (make,) = [block for block in blocks("sh") if block not in known]
    # `make test` runs this; `make demo`'s own commands are run by the slow packaging test
    assert [command[:2] for command in commands(make)] == [["make", "demo"], ["make", "test"]]
    assert len(blocks("python")) == 1


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_the_robot_commands_and_the_python(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in commands(ROBOT):
        assert command[0] == "convcut-trt"
        # The gates, and the choice of a precision, have their own tests.
        few = ["--gate-pictures", "16"] if "build" in command else []
        few += ["--dry-run"] if "auto" in command else []
        assert main([*command[1:], *few]) == 0, command
    assert (folder / "astronaut.png").is_file()
    capsys.readouterr()
    (snippet,) = blocks("python")
    assert len(snippet.strip().splitlines()) <= 10
    exec(compile(snippet, "README.md", "exec"), {})  # noqa: S102 our own README
    assert capsys.readouterr().out.startswith("['")


@pytest.mark.slow
def test_the_lab_commands(folder: Path) -> None:
    pytest.importorskip("torch")
    for command in commands(LAB_BLOCK):
        assert main(command[1:]) == 0, command
    assert (folder / "engines" / "synthetic.fp16.onnxruntime.json").is_file()
