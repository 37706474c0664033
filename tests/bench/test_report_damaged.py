"""A report of damaged results: the file is named, never drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import report as module
from bench.report import report
from convcut_trt.errors import InputError
from convcut_trt.measuring.results import ON_GPU
from tests.bench.report_results import H200, measured, result, subject, usual
from tests.bench.test_report_benches import write


def _cut(kind: str, change: Callable[[dict[str, Any]], Any]) -> Any:
    values = json.loads((module.RESULTS / f"{kind}.json").read_text())
    change(values)
    return values


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("gates", lambda v: v.pop("honest")),
        ("gates", lambda v: v["honest"]["precisions"]["fp32"].update(gates=[3])),
        ("engines", lambda v: v.update(models=[])),
        ("detectors", lambda v: v["parts"].update(new={})),
        ("openings", lambda v: v.update(openings=[])),
        ("openings", lambda v: v["openings"][3].pop("log_ratios")),
        ("roofs", lambda v: [part.update(passes=[]) for part in v["parts"].values()]),
        ("roofs", lambda v: v.update(parts=7)),
    ],
)
def test_a_damaged_file_is_named(
    kind: str, change: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    (tmp_path / f"{kind}.json").write_text(json.dumps(_cut(kind, change)))
    with pytest.raises(InputError, match=rf"{kind}\.json is not as this version writes it"):
        report(tmp_path, None)


def test_a_damaged_bench_is_named(tmp_path: Path) -> None:
    write(tmp_path, usual())
    values = json.loads((tmp_path / "bench.json").read_text())
    values["measured"][0]["series"][0]["times"].pop("mean")
    (tmp_path / "bench.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"bench\.json.*'mean' is missing"):
        report(tmp_path, None)


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        (("measured", 0, "series", 0, "times"), "samples", []),
        (("measured", 0, "series", 0, "times"), "mean", 0.0),
        (("measured", 1, "series", 1, "times"), "p50", 0.0),
        (("measured", 2, "series", 0, "times"), "samples", [-1.0, 2.0]),
        (("compared", 0), "verdict", "x"),
        (("compared", 1), "ratio", 0.0),
        (("compared", 2), "name_ms", []),
        (("measured", 1, "accuracy", "confusion"), "happiness", [1]),
    ],
)
def test_a_bench_with_values_that_cannot_be_is_named(
    where: tuple[str | int, ...], field: str, value: Any, tmp_path: Path
) -> None:
    write(tmp_path, usual())
    write(tmp_path, replace(usual(), date="2026-01-01"), "sound.json")
    values = json.loads((tmp_path / "bench.json").read_text())
    inside = values
    for key in where:
        inside = inside[key]
    inside[field] = value
    (tmp_path / "bench.json").write_text(json.dumps(values))
    said = "bench.json is not as this version writes it"
    with pytest.raises(InputError, match=rf"^{re.escape(said)}"):
        report(tmp_path, None)


def test_a_gpu_that_took_no_time_is_a_damaged_file(tmp_path: Path) -> None:
    one = measured(subject("fp16", "tensorrt"), 0.2, way=ON_GPU)
    times = replace(one.series[0].times, p50=0.0)
    found = replace(one, series=(replace(one.series[0], times=times),))
    write(tmp_path, result([found], machine=H200))
    with pytest.raises(InputError, match=r"^bench\.json is not as .* give one above 0"):
        report(tmp_path, None)
