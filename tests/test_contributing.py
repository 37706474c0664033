"""CONTRIBUTING names files and names in them that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = " ".join((ROOT / "CONTRIBUTING.md").read_text("utf-8").split())
PATHS = sorted(
    path
    for path in set(re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", TEXT))
    if ("/" in path or re.search(r"\.(py|json|toml|txt)$", path)) and "NAME" not in path
)
MADE = {"onnx.py", "types.py", "conftest.py"}  # names of modules, wherever they are
INSIDE = sorted(set(re.findall(r"`(\w+)` (?:of|in) `([\w./-]+\.py)`", TEXT)))


def test_the_page_is_read() -> None:
    assert len(PATHS) > 25 and len(INSIDE) > 6


@pytest.mark.parametrize("path", [path for path in PATHS if path not in MADE])
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("name", "path"), INSIDE)
def test_a_name_that_is_named_is_in_its_file(name: str, path: str) -> None:
    assert re.search(rf"^(?:def |class )?{name}\b", (ROOT / path).read_text("utf-8"), re.MULTILINE)
