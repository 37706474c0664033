"""``build --dry-run``: everything is checked as in a build, and nothing is built or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convcut_trt import cli
from convcut_trt.dry_run import dry_run
from convcut_trt.errors import InputError
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.request import Request
from tests import models


def plan(folder: Path, **changes: Any) -> dict[str, Any]:
    request = {"precision": "fp16", "backend": "onnxruntime", **changes}
    return dry_run(models.zoo(), Request(output=folder / "engines", **request))


def test_it_says_what_would_be_built_and_writes_nothing(tmp_path: Path) -> None:
    facts = plan(tmp_path, precision="int8", placement="fc2")
    assert list(facts["engines"]) == ["int8 (fc2)"]
    assert facts["ranges"].endswith("conv-cut-mini.ranges.json")
    assert facts["gates"] == "256 faces (256 bundled pictures), on the engine itself"
    assert not list(tmp_path.iterdir())


def test_auto_names_all_that_it_tries_and_what_it_leaves_out(tmp_path: Path) -> None:
    facts = plan(tmp_path, precision="auto")
    int8 = [f"int8 ({name})" for name in PLACEMENTS]
    assert list(facts["engines"]) == ["fp16", "fp32", *int8]
    assert list(facts["left_out"]) == ["bf16"]


def test_a_target_is_judged_by_a_stand_in(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    facts = plan(tmp_path, backend="tensorrt-rtx", targets=("rtx4060ti",), tail="kernel")
    assert facts["for"] == "GeForce RTX 4060 Ti"
    assert "stand-in" in facts["gates"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "fp8"}, "not known"),
        ({"tail": "kernel"}, "leave out --tail kernel"),
        ({"targets": ("rtx4060ti",)}, "leave out --target"),
        ({"workspace_mib": 64}, "--workspace is for TensorRT"),
        ({"timing_cache": Path("x")}, "--timing-cache is for TensorRT"),
        ({"ranges": Path("none.json")}, "--ranges is for int8"),
        ({"precision": "int8", "ranges": Path("none.json")}, "none.json"),
        ({"backend": "tensorrt-rtx"}, "say what to build for"),
    ],
)
def test_it_refuses_what_a_build_would_refuse(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    if changes.get("backend") == "tensorrt-rtx":
        pytest.importorskip("tensorrt_rtx")
    with pytest.raises(InputError, match=said):
        plan(tmp_path, **changes)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", "--backend", "onnxruntime", "-o", str(tmp_path / "engines"), "--dry-run"]
    assert cli.main([*command, "--json"]) == 0
    assert "fp16" in json.loads(capsys.readouterr().out)["engines"]
    assert cli.main(command) == 0
    assert "MB typed ONNX" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
