"""Commands, programs and names in the pages are those that there are."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import convcut_trt
from convcut_trt import cli, lab
from export.__main__ import VERBS as EXPORT_VERBS
from tests.docs.pages import DOCS, NAMES, ROOT, anchors, blocks, commands, words_of


class Parsed(Exception):
    """The arguments were understood."""


@pytest.fixture
def parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb ends when its arguments are parsed."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *given: Any) -> None:
        original(parser, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def understood(command: list[str]) -> bool:
    """Whether the verb's own parser takes the arguments."""
    verb = command[0] if command else ""
    others = {"calibrate": "calib.calibrate", "report": "bench.report"}
    try:
        if verb in lab.VERBS:
            module = others.get(verb) or f"export.{EXPORT_VERBS[verb]}"
            import_module(module).main(command[1:])
        else:
            cli.main(command)
    except Parsed:
        return True
    except SystemExit as stop:
        return not stop.code  # --help, --version
    return False


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("parsing")
def test_commands_are_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [command for command in commands(ROOT / name) if command[0] not in lab.VERBS]
    assert [command for command in given if not understood(command)] == [], capsys.readouterr().err


@pytest.mark.slow  # torch and all that the lab imports
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("parsing")
def test_commands_of_the_lab_are_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    given = [command for command in commands(ROOT / name) if command[0] in lab.VERBS]
    assert [command for command in given if not understood(command)] == [], capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("convcut-trt build --precision fp16 --batch 1:4:16", True),
        ("convcut-trt build --precison fp16", False),
        ("convcut-trt calibrate models/mine.onnx --images 512", True),
        ("convcut-trt calibrate --pictures 512", False),
        ("convcut-trt fly", False),
    ],
)
@pytest.mark.usefixtures("parsing")
def test_a_wrong_command_is_found(line: str, right: bool) -> None:
    ((_, *command),) = words_of(line)
    assert understood(command) is right


def test_commands_are_found_wherever_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `convcut-trt doctor`, but not `convcut-trt[ort]`:\n\n1. so\n\n   ```sh\n"
        "   A=1 ~/venv/bin/convcut-trt build \\\n     --precision fp16 && convcut-trt run 'a !\n   b' # c'\n"
        "   ```\n"
    )
    found = list(commands(page))
    assert found == [["build", "--precision", "fp16"], ["run", "a !\nb"], ["doctor", "--help"]]


@pytest.mark.parametrize("name", NAMES)
def test_programs_that_are_named_are_there(name: str) -> None:
    """``python FILE`` and ``python -m MODULE`` of this repository."""
    text = (ROOT / name).read_text("utf-8")
    files = re.findall(r"(?:python3? |ros2 launch )((?:examples|docs|bench)/[\w./]+)", text)
    modules = re.findall(r"python3? -m ((?:convcut_trt|bench|tests|export)[\w.]*)", text)
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert [module for module in modules if find_spec(module) is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_python_in_the_pages_names_what_is_there(name: str) -> None:
    for block in blocks(ROOT / name):
        if block.language not in ("python", "py"):
            continue
        tree = ast.parse(block.body, name)
        compile(tree, name, "exec")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("convcut_trt"):
                module = import_module(str(node.module))
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "cc":
                assert hasattr(convcut_trt, node.attr), node.attr


def test_the_reference_is_that_of_the_docstrings() -> None:
    made = runpy.run_path(str(DOCS / "make_api.py"))["text"]()
    assert (DOCS / "api.md").read_text("utf-8") == made, "python docs/make_api.py"
    assert {name.lower() for name in convcut_trt.__all__} <= set(anchors(DOCS / "api.md"))


def test_without_arguments_the_way_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    way = re.findall(r"^  (convcut-trt .+?)  ", said, re.MULTILINE)
    assert [line.split()[1] for line in way] == ["doctor", "build", "predict", "run"]
    assert all((ROOT / page).is_file() for page in re.findall(r"docs/[\w.-]+\.md", said))
    assert len(said.splitlines()) <= 14
