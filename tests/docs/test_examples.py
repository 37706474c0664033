"""What stands behind ``<!-- run -->`` in a page is run, in the order of the page."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from convcut_trt import cli
from tests.docs.pages import NAMES, ROOT, blocks, words_of


def runnable() -> list[str]:
    return [name for name in NAMES if any(block.run for block in blocks(ROOT / name))]


@pytest.mark.slow
@pytest.mark.parametrize("name", runnable())
def test_examples_run(
    name: str,
    own_engines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In an empty folder with the examples beside it, and an engine in the cache; few pictures at the gates."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVCUT_HOME", str(own_engines))
    for block in blocks(ROOT / name):
        if not block.run or (block.needs and find_spec(block.needs) is None):
            continue
        if block.language == "python":
            exec(compile(block.body, name, "exec"), {})  # noqa: S102 our own page
            assert capsys.readouterr().out
            continue
        for program, *arguments in words_of(block.body):
            assert program == "convcut-trt"
            few = ["--gate-pictures", "16"] if arguments[0] == "build" else []
            assert cli.main([*arguments, *few]) == 0, arguments
