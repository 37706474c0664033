"""A bench that takes a moment, of engines that can be told to answer wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.engine import open_session
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import conditions, entrants, timed, versus
from tests.measuring.benching import NAME, Change, Changed


@pytest.fixture
def short_and_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engines: Path) -> None:
    """A warm-up of a moment, a machine that nobody else uses, and the engines where they are looked for."""
    monkeypatch.setattr(timed, "WARM_UP_S", 0.02)
    monkeypatch.setattr(versus, "until_quiet", lambda: None)
    # slow among the many objects of a test run
    monkeypatch.setattr("convcut_trt.measuring.timed.gc.collect", lambda: 0)
    monkeypatch.setattr(conditions, "flags", lambda before, after: {})
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "home"))
    shutil.copytree(engines, tmp_path / "home")


@pytest.fixture
def pair(tmp_path: Path, short_and_alone: None) -> tuple[str, str]:
    """Two engines that are the same but for their names."""
    home = tmp_path / "home"
    shutil.copyfile(home / f"{NAME}.json", home / "twin.json")
    return str(home / f"{NAME}.json"), str(home / "twin.json")


@pytest.fixture
def at_call(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Makes something else of the answers of an engine from one of its calls on."""

    def change(name: str, number: int, change: Callable[[Any], Any]) -> None:
        def opened(manifest: EngineManifest, *, spin: bool) -> Any:
            session, calls = open_session(manifest, spin=spin), count(1)
            if manifest.path.stem != name:
                return session
            return Changed(
                session, lambda answers: change(answers) if next(calls) >= number else answers
            )

        monkeypatch.setattr(entrants, "open_session", opened)

    return change
