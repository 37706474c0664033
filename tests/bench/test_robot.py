"""The robot measurement: its figures from known rows, the promises it finds broken, and some of the real thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.robot import main, summary
from bench.robot_ends import COLUMNS, CYCLE, Plan, pictures
from bench.robot_page import markdown

MS = 10**6
SECOND = 10**9
PLAN = Plan(30.0, 120.0, Path("engine"), None, 1, 2)


def told(frames: int = 3600) -> dict[str, Any]:
    """A run in which every frame takes 10 ms of work, of which half a millisecond is ours, and nothing is lost."""
    taken = np.arange(frames, dtype=np.int64) * SECOND // 30
    begun = taken + 3 * MS
    column = {
        "sequence": np.arange(frames),
        "taken": taken,
        "arrived": taken + 2 * MS,
        "begun": begun,
        "decode": np.full(frames, 2 * MS),
        "detect": np.full(frames, 4 * MS),
        "infer": np.full(frames, 3 * MS),
        "answered": begun + 9 * MS + MS // 2,
        "sent": begun + 10 * MS,
        "latency": np.full(frames, 10 * MS),
        "cpu": np.full(frames, MS // 2),
        "crop_cpu": np.full(frames, MS // 4),
        "intake_cpu": np.full(frames, MS // 10),
        "faces": np.ones(frames, np.int64),
    }
    rows = np.stack([column[name] for name in COLUMNS], axis=1).astype(np.int64)
    heard = np.stack([column["sequence"], column["answered"] + MS], axis=1)
    return {
        "camera": {"sent": frames, "behind": 0, "seconds": frames / 30},
        "loop": {
            "rows": rows,
            "health": {"frames": frames, "dropped": 0, "bad": 0},
            "memory": [100.0] * 120,
            "lost": [],
        },
        "answers": heard,
    }


def test_the_figures_are_those_of_the_rows() -> None:
    found = summary(PLAN, told())
    assert all(found["kept"].values())
    assert found["latency_ms"]["total"] == pytest.approx({"p50": 13.5, "p95": 13.5, "p99": 13.5})
    parts = {name: figures["p50"] for name, figures in found["latency_ms"].items()}
    assert parts.pop("total") == pytest.approx(sum(parts.values()))
    assert parts["our own code"] == pytest.approx(0.5)
    assert found["own_cpu_ms"]["p50"] == pytest.approx(0.6)
    assert found["own_cpu_ms"]["without_crops"]["p50"] == pytest.approx(0.35)
    assert len(found["each_minute_ms"]) == 2
    assert found["lost_on_the_way"] == []


@pytest.mark.parametrize(
    ("promise", "change"),
    [
        ("answered once and in order", lambda t: t["answers"].__setitem__((7, 0), 6)),
        ("answered once and in order", lambda t: t["answers"].__setitem__(([7, 8], 0), [8, 7])),
        ("every answer heard", lambda t: t.update(answers=t["answers"][:-1])),
        ("drops counted exactly", lambda t: t["camera"].update(sent=3601)),
        (
            "nothing lost on the way",
            lambda t: (t["camera"].update(sent=3601), t["loop"]["lost"].append(3600)),
        ),
        (
            "own CPU time below 1 ms",
            lambda t: t["loop"]["rows"].__setitem__((slice(None), COLUMNS.index("cpu")), MS),
        ),
        ("memory flat", lambda t: t["loop"]["memory"].append(120.0)),
        (
            "99 % answered within two frames of work",
            lambda t: t["loop"]["rows"].__setitem__(
                (slice(0, 60), COLUMNS.index("latency")), 21 * MS
            ),
        ),
    ],
)
def test_a_broken_promise_is_found(promise: str, change: Any) -> None:
    run = told()
    change(run)
    kept = summary(PLAN, run)["kept"]
    assert [name for name, met in kept.items() if not met] == [promise]


def test_the_page_names_what_was_not_kept() -> None:
    run = told()
    run["loop"]["memory"].append(120.0)
    origin = {
        **{"date": "2026-01-01T00:00:00Z", "command": "python -m bench.robot"},
        **{"engine": "an engine", "machine": {"cores": 2, "load": [0.5, 1.0]}},
    }
    page = markdown({"parts": {"30 Hz, YuNet": {**origin, **summary(PLAN, run)}}})
    assert "**Not kept**: memory flat" in page and "| total | 13.50 |" in page
    assert "YuNet, with the crops | 0.60 |" in page and "YuNet, without the crops | 0.35 |" in page


def test_the_pictures_are_always_the_same_and_move() -> None:
    first = pictures()
    assert len(first) == CYCLE == len(set(first))
    pictures.cache_clear()
    assert pictures() == first


@pytest.mark.slow
def test_a_few_seconds_of_it(tmp_path: Path) -> None:
    # How fast it is depends on the machine; that nothing is lost does not.
    assert main(["--minutes", "0.1", "--rate", "5", "-o", str(tmp_path)]) in (0, 1)
    page = (tmp_path / "robot.md").read_text()
    for promise in (
        "answered once and in order",
        "every answer heard",
        "drops counted exactly",
    ):
        assert f"- Kept: {promise}" in page
