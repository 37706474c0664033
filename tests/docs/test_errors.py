"""Every kind of error points to its section, and what troubleshooting quotes is what the source says."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from convcut_trt import cli, errors
from convcut_trt.errors import ConvcutError, InputError
from tests.docs.pages import DOCS, ROOT, anchors

_QUOTE = re.compile(r"^\*\*`(.+)`\*\*$", re.MULTILINE)


def kinds() -> list[type[ConvcutError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, ConvcutError)]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: str(kind.__name__))
def test_every_kind_of_error_has_its_section(kind: type[ConvcutError]) -> None:
    page, _, section = kind.__new__(kind).page.partition("#")
    assert section in anchors(ROOT / page)


def test_an_error_points_to_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Special(InputError):
        pass

    assert Special("so").page == InputError("so").page == "docs/errors.md#inputerror"
    missing = str(tmp_path / "missing.json")
    assert cli.main(["verify", missing, "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["error"] == "ManifestError" and report["page"] == "docs/errors.md#manifesterror"
    first, second = said.err.splitlines()
    assert first == f"convcut-trt: {report['text']}" and second.endswith(report["page"])


@cache
def texts() -> tuple[str, ...]:
    """Every string of the source but docstrings, with a NUL where a value goes in."""
    found = []
    for folder in ("convcut_trt", "export", "calib", "bench"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            alone = {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)
            }  # docstrings
            found += [_text(node) for node in ast.walk(tree) if node not in alone]
    return tuple(filter(None, found))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def occurs(quote: str) -> bool:
    """Whether one string of the source says this, with anything for ``...``."""
    parts = [part.strip() for part in quote.split("...")]
    wanted = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    return sum(map(len, parts)) >= 10 and any(map(wanted.search, texts()))


@pytest.mark.parametrize("quote", _QUOTE.findall((DOCS / "troubleshooting.md").read_text("utf-8")))
def test_an_error_in_troubleshooting_is_one_of_the_sources(quote: str) -> None:
    assert occurs(quote)


def test_an_error_that_nobody_raises_is_found() -> None:
    assert not occurs("... is not a text of this package: ...")
    assert not occurs("...: ...")
    assert not occurs("Every string of the source but docstrings")
