"""What ``inspect`` says of files that are nearly ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.errors import InputError
from convcut_trt.inspection import describe

GATE = {"name": "witnesses", "value": 0.1, "budget": 0.01, "verdict": "fail", "detail": ""}


def failed(folder: Path, **fields: Any) -> Path:
    path = folder / "tiny.failed.json"
    path.write_text(json.dumps({"schema": 1, "gates": [GATE], "cause": "a scale", **fields}))
    return path


def test_the_report_of_a_failed_build(tmp_path: Path) -> None:
    found = describe(failed(tmp_path, kind="labelled faces"))
    assert found["kind"] == "report of a failed build", "not what the file calls itself"
    assert (found["gates"], found["cause"]) == ([GATE], "a scale")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".onnx", "a/" * 3000])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(InputError, match="give an"):
        describe(Path(name))


@pytest.mark.parametrize(
    "gates",
    [
        "all",
        [1],
        [{}],
        [{"name": "a", "verdict": "fail"}],
        [{**GATE, "name": 5}],
        [{**GATE, "budget": 10**400}],
        [{**GATE, "more": 1}],
    ],
)
def test_gates_that_are_none(tmp_path: Path, gates: object) -> None:
    with pytest.raises(InputError, match="gates"):
        describe(failed(tmp_path, gates=gates))
