"""The table behind the budgets: what it measures, how it counts room, and that the published one still holds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import gate_table
from bench.breakages import EXPORTS, GRAPHS
from bench.gate_table import ENGINE, RESULTS, STAND_IN, forms, headroom, main, markdown, worst
from convcut_trt import gates
from convcut_trt.gates import Gate, judged
from convcut_trt.precision.typed import PRECISIONS


@pytest.mark.parametrize(
    ("name", "value", "budget", "room"),
    [
        ("witnesses", 0.001, 0.01, 10.0),
        ("witnesses", 0.02, 0.01, 0.5),
        ("flips", 0.0, 0.02, None),
        ("finite", 0.0, 0.0, None),
        ("fidelity", None, None, None),
        ("computed", 0.0, None, None),
        ("agreement", 0.999, 0.995, 5.0),
        ("agreement", 1.0, 0.995, None),
        ("agreement", 0.9, 1.0, 0.0),
        ("stored", 0.0, 0.8, 0.2),
        ("accuracy", -0.001, -0.003, 3.0),
        ("accuracy", 0.002, -0.003, None),
    ],
)
def test_room_is_what_is_allowed_over_what_is_used(
    name: str, value: float | None, budget: float | None, room: float | None
) -> None:
    assert headroom(Gate(name, value, budget, "pass")) == (
        None if room is None else pytest.approx(room)
    )


def judgement(form: str, **rooms: float | None) -> dict[str, Any]:
    """A form whose gates measured the inverse of their headroom."""
    found = [
        {
            "name": name,
            "value": 0.0 if room is None else 1 / room,
            "budget": 1.0,
            "verdict": "pass",
            "headroom": room,
        }
        for name, room in rooms.items()
    ]
    return {"form": form, "computed_by": ENGINE, "gates": found}


def test_the_form_with_the_least_room_stands_for_its_precision() -> None:
    found = worst([judgement("a", x=None, y=5.0), judgement("b", x=9.0, y=7.0)])
    assert {name: entry["form"] for name, entry in found.items()} == {"x": "b", "y": "a"}
    assert found["x"]["measured"] == pytest.approx(1 / 9)
    skipped = judgement("c", x=2.0)
    skipped["gates"][0]["value"] = None
    assert worst([skipped]) == {}


def test_every_placement_is_judged_as_engine_and_as_stand_in() -> None:
    kinds = {precision: [kind for _, kind in forms(precision)] for precision in PRECISIONS}
    assert kinds["fp32"] == kinds["fp16"] == [STAND_IN, ENGINE]
    assert kinds["bf16"] == [STAND_IN]  # no CPU kernel takes it
    assert kinds["int8"] == [STAND_IN, ENGINE] * 4
    assert {(form.mlp, form.rest) for form, kind in forms("int8") if kind == ENGINE} == {
        ("linear", "fp32")
    }


def faces(folder: Path) -> Path:
    """Twelve drawn pictures of two classes."""
    random = np.random.default_rng(0)
    for name in ("happiness", "sadness"):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            picture = random.integers(0, 256, (60, 50, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("labelled", [True, False])
def test_both_files_are_written(
    labelled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundled = judged.bundled
    monkeypatch.setattr(judged, "bundled", lambda size, count=None: bundled(size, 6))
    monkeypatch.setattr(gate_table, "PRECISIONS", ("fp32", "int8"))
    monkeypatch.setattr(gate_table, "PLACEMENTS", ("fc1",))
    left = replace(GRAPHS["left in FP32"], precisions=("int8",))
    monkeypatch.setattr(gate_table, "GRAPHS", {"left in FP32": left})
    chosen = {"resized without averaging": EXPORTS["resized without averaging"]}
    monkeypatch.setattr(gate_table, "EXPORTS", chosen)
    given = ["--data", str(faces(tmp_path / "faces"))] if labelled else []
    assert main([*given, "-o", str(tmp_path / "new" / "out")]) == 0
    out = tmp_path / "new" / "out"
    assert capsys.readouterr().out.strip() == str(out / "gates.md")
    report = json.loads((out / "gates.json").read_text())
    assert report["honest"]["faces"].startswith("12 faces of" if labelled else "6 bundled")
    assert set(report["honest"]["precisions"]) == {"fp32", "int8"}
    int8 = report["honest"]["precisions"]["int8"]
    assert [form["computed_by"] for form in int8["forms"]] == [STAND_IN, ENGINE]
    assert ("accuracy" in int8["gates"]) == labelled
    assert int8["gates"]["computed"]["measured"] == pytest.approx(1)
    assert report["broken"]["graphs"] == {"left in FP32": {"int8": ["stored"]}}
    assert report["broken"]["exports"] == {
        "resized without averaging": {"fp32": ["witnesses"], "int8": ["witnesses"]}
    }
    assert str(tmp_path) not in json.dumps(report)
    assert "| resized without averaging | witnesses |" in (out / "gates.md").read_text()


def published() -> dict[str, Any]:
    report: dict[str, Any] = json.loads((RESULTS / "gates.json").read_text("utf-8"))
    return report


def test_the_published_table_is_that_of_the_published_figures() -> None:
    assert (RESULTS / "gates.md").read_text("utf-8") == markdown(published())
    for folder in (Path.home(), RESULTS.parents[1]):  # it says nothing of where it was made
        assert str(folder) not in json.dumps(published())


NAMES = {
    "witnesses": "witnesses",
    "loss, median": "loss_median",
    "loss, 99 %": "loss_p99",
    "fidelity, median": "fidelity_median",
    "fidelity, 99 %": "fidelity_p99",
    "flips": "flip_margin",
    "agreement": "agreement",
    "batch invariance": "invariance",
    "largest activation": "largest_activation",
    "stored": "stored",
}


def test_the_published_table_holds_the_budgets_to_what_honest_engines_measure() -> None:
    """A budget that was changed needs its evidence: run ``python -m bench.gate_table`` again."""
    for precision, found in published()["honest"]["precisions"].items():
        limits = gates.budgets(precision)
        for name, key in NAMES.items():
            if name not in found["gates"]:
                assert (precision, key) in {("fp32", "stored"), *_no_engine(key)}
                continue
            entry = found["gates"][name]
            assert entry["budget"] == pytest.approx(limits[key]), (precision, name)
            assert entry["verdict"] in ("pass", "not shown"), (precision, name)
            room = math.inf if entry["headroom"] is None else entry["headroom"]
            assert room >= 2, (precision, name, entry)


def _no_engine(key: str) -> set[tuple[str, str]]:
    return {("bf16", key)} if key.startswith("fidelity") else set()
