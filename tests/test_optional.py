"""Imports of what an extra brings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convcut_trt.optional import unreported
from tests import models

_APART = """
import os, sys
from pathlib import Path
import numpy as np
from convcut_trt import backends
before = dict(os.environ)
with backends.get("onnxruntime").open(Path(sys.argv[1])) as session:
    size = session.signature.picture
    session.run(np.zeros((1, *size), np.uint8))
assert dict(os.environ) == before
"""


def left_at_home(tmp_path: Path, variables: dict[str, str]) -> list[str]:
    """What lies in a fresh home once a process has opened an engine and used it."""
    home = tmp_path / "home"
    home.mkdir()
    # nothing else of this environment: on a CI machine onnxruntime keeps quiet by itself
    environment = {"HOME": str(home), "LOCALAPPDATA": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _APART, str(models.zoo().onnx)],
        env={**environment, **variables},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_onnxruntime_reports_nothing_and_writes_nothing(tmp_path: Path) -> None:
    """By itself it keeps an identity and a queue of reports in the user's home, and sends them to its maker."""
    assert left_at_home(tmp_path, {}) == []


@pytest.mark.parametrize("chosen", ["0", "1"])
def test_a_choice_of_the_users_stays(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", chosen)
    with unreported("onnxruntime"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == chosen
    assert os.environ["ORT_DISABLE_TELEMETRY"] == chosen


def test_variables_and_modules_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with pytest.raises(ZeroDivisionError), unreported("onnxruntime"):
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
        raise ZeroDivisionError
    assert "ORT_DISABLE_TELEMETRY" not in os.environ
    with unreported("openvino"):
        assert sys.modules["openvino_telemetry"] is None
    assert "openvino_telemetry" not in sys.modules
