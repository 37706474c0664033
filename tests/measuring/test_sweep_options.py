"""The options of a sweep, and what is refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convcut_trt.cli import main
from convcut_trt.precision.int8 import PLACEMENTS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--precision", "fp8"], "choose from fp32, fp16, bf16, int8"),
        (["--precision", "auto"], "choose from fp32"),
        (["--mlp", "conv,"], "choose from conv, linear"),
        (["--tail", "auto"], "choose from native, kernel"),
        (["--placement", "fc3"], f"choose from {', '.join(PLACEMENTS)}"),
        (["--backend", "onnx"], "onnxruntime"),
        (["--batch", "0"], "0"),
    ],
)
def test_values_that_are_not_known(given: list[str], said: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--sweep", *given])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--openings", "7"], "give 8 or more"),
        (["--against", "x"], "leave them out with --sweep"),
        (["--spin"], "leave them out with --sweep"),
        (["no-such-model"], "there is no model"),
        (["--precision", "fp16", "--placement", "pw"], "add int8"),
        (["--backend", "onnxruntime", "--precision", "bf16"], "nothing of this sweep"),
        (["--backend", "onnxruntime", "--tail", "kernel"], "nothing of this sweep"),
        (["conv-cut-mini", "conv-cut-mini"], "two networks are called"),
    ],
)
def test_mistakes(tmp_path: Path, given: list[str], said: str, capsys: Any) -> None:
    assert main(["bench", "--sweep", *given, "-o", str(tmp_path / "sweep")]) == 2
    assert said in capsys.readouterr().err


def test_its_options_take_a_sweep(capsys: Any) -> None:
    assert main(["bench", "--precision", "fp16"]) == 2
    assert "add --sweep" in capsys.readouterr().err


def test_a_folder_that_is_none(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    assert main(["bench", "--sweep", "-o", str(tmp_path / "file")]) == 2
    assert "choose another" in capsys.readouterr().err
