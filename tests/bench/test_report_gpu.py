"""The report of a GPU: held against the right datasheet and power mode, estimates beside times, and both tails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.report import report
from bench.roof_of import device_of, estimate_of, figures_of
from convcut_trt.devices import known
from convcut_trt.errors import InputError
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.results import ON_GPU
from tests.bench.report_results import (
    BATCHES,
    CPU,
    H200,
    in_mode,
    measured,
    result,
    subject,
)
from tests.bench.test_report import EVIL, Page
from tests.bench.test_report_benches import section, svgs, write

ENGINE = subject("fp16", "tensorrt")
NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tesla T4", "t4"),
        ("NVIDIA T4", "t4"),
        ("NVIDIA A2", "a2"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4060 Ti", "rtx4060ti"),
        ("NVIDIA GeForce RTX 4060", "rtx4060"),
        (NANO, "orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("Tesla V100-SXM2-16GB", None),
        ("NVIDIA T400", None),
        ("A CPU", None),
    ],
)
def test_a_gpu_is_known_by_the_name_that_cuda_has_for_it(name: str, key: str | None) -> None:
    found = device_of(replace(CPU, device=name))
    assert (None if found is None else found.key) == key


@pytest.mark.parametrize(
    ("key", "mode", "variant"),
    [
        ("orin-nano", "15W", "15 W"),
        ("orin-nano", "25W", "25 W"),
        ("orin-nano", "MAXN_SUPER", "MAXN (Super)"),
        ("orin-nano", None, "25 W"),
        ("orin-nano", "7W", None),
        ("orin-nx", "40W", "40 W (Super)"),
        ("orin-nx", "10W", "10 W"),
        ("orin-nx", "MAXN_SUPER", None),
        ("agx-orin", "MODE_30W", "30 W"),
        ("agx-orin", "MAXN", "MAXN"),
        ("agx-orin", "mode 3", None),
        ("agx-orin", "MODE_40W", None),
        ("h200", "power limit 700 W", "SXM"),
        ("rtx4060ti", "power limit 160 W", "8 GB"),
    ],
)
def test_a_jetson_is_held_against_its_power_mode(
    key: str, mode: str | None, variant: str | None
) -> None:
    found = figures_of(known()[key], State(power_mode=mode, source="sysfs"))
    assert (None if found is None else found.variant) == variant


def test_a_lower_power_mode_has_a_lower_roof(tmp_path: Path) -> None:
    machine = replace(H200, device=NANO)
    modes = ("MAXN_SUPER", "15W", "7W")
    found = [
        in_mode(measured(replace(ENGINE, name=f"engine.{mode}"), 2.0, way=ON_GPU), mode)
        for mode in modes
    ]
    highest, lower, none = (estimate_of(machine, one, 16) for one in found)
    assert highest is not None and lower is not None and none is None
    assert highest.floor_ms < 0.7 * lower.floor_ms
    assert (highest.name, lower.name) == (
        "Jetson Orin Nano, MAXN (Super)",
        "Jetson Orin Nano, 15 W",
    )
    text = report(write(tmp_path, result(found, machine=machine)), None)
    page = Page(section(text, "devices-measured"))
    shares = {row[2]: row[8] for row in page.rows[1:]}
    assert shares["engine.7W"] == "–"
    assert int(shares["engine.15W"].split()[0]) > int(shares["engine.MAXN_SUPER"].split()[0])
    plots = svgs(section(text, "rooflines"))
    assert ["fp16 16.71k" in plot for plot in plots] == [True, False]
    assert ["fp16 10.03k" in plot for plot in plots] == [False, True]
    assert all(plot.count('class="mark') == 1 for plot in plots)


def test_estimate_and_measurement_of_a_gpu_stand_side_by_side(tmp_path: Path) -> None:
    one = measured(ENGINE, 0.2, way=ON_GPU)
    peer = replace(one, subject=replace(ENGINE, name="trtexec fp16", kind="peer"))
    steady = measured(replace(ENGINE, name="from the host"), 0.3)
    text = report(write(tmp_path, result([one, peer, steady], machine=H200)), None)
    page = Page(section(text, "rooflines"))
    rows = [row for row in page.rows if row[0] == ENGINE.name]
    assert [row[1] for row in rows] == [str(batch) for batch in BATCHES]
    for series, row in zip(one.series, rows, strict=False):
        guess, time = estimate_of(H200, one, series.batch), series.times.p50
        assert guess is not None and time is not None
        assert row[2] == f"{time:.3g}"
        assert row[3].startswith(f"{guess.expected_ms:.3g} (")
        assert float(row[5]) == pytest.approx(
            max(time / guess.expected_ms, guess.expected_ms / time), rel=0.01
        )
        assert row[6] == ("yes" if guess.low_ms <= time <= guess.high_ms else "no")
    names = {row[0] for row in page.rows}
    assert not {"trtexec fp16", "from the host"} & names
    head = page.row("engine", "batch")
    assert "estimate, ms (its range)" in head and "measured, ms" in head


def tails(**changes: Any) -> dict[str, Any]:
    """What ``bench.tails`` writes of a GPU on which one backend ran and the other did not."""
    about = {
        "command": "python -m bench.tails --out DIR",
        "commit": "0123456789abcdef",
        "date": "2026-01-02T00:00:00Z",
        "versions": {"tensorrt": "10.13"},
        "machine": {"processor": "A CPU", "cores": 8},
    }
    engine = {"engine": "native tail", "batch": [1, 8, 16], "megabytes": 3.25, "operations": 41}
    timing = {
        "profile": [1, 8, 16],
        "batch": 8,
        "ms": {"native tail": 0.25, "kernel tail": 0.2},
        "kernel_is": [1.25, 1.2, 1.3],
    }
    ran = {"outcome": "runs", "engines": [{**engine, "failed": []}], "timings": [timing]}
    refused = {
        "outcome": f"does not run here: {EVIL}",
        "said": "Unsupported SM",
        "ahead": [{"target": "sm_89", "outcome": "built, and does not run here"}],
    }
    parts = {"tensorrt": {**about, **ran}, "tensorrt-rtx": {**about, **refused}}
    return {"schema": 1, "device": "NVIDIA H200", "parts": parts, **changes}


def test_both_tails_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tails.nvidia-h200.json").write_text(json.dumps(tails()))
    text = report(tmp_path, None)
    assert capsys.readouterr().err == ""
    shown = section(text, "native-tail-and-kernel-tail-measured")
    page = Page(shown)
    assert page.row("1:8:16", "8")[2:] == ["0.250", "0.200", "1.250 (1.200 to 1.300)"]
    assert page.row("native tail", "1:8:16")[2:] == ["3.2", "41", "–"]
    assert "It said: Unsupported SM" in page.text
    assert "Built ahead of time for sm_89: built, and does not run here." in page.text
    assert "NVIDIA H200, 8 cores of A CPU" in page.text
    (chart,) = svgs(shown)
    assert "batch 8, profile 1:8:16: 1.25" in chart
    assert "script" not in Page(text).tags


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": {"tensorrt": {}}},
        {"parts": []},
        {"parts": {"tensorrt": {**tails()["parts"]["tensorrt"], "timings": [{"batch": 1}]}}},
    ],
)
def test_damaged_tails_are_named(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tails.x.json").write_text(json.dumps(tails(**changes)))
    with pytest.raises(InputError, match=r"tails\.x\.json is not as this version writes it"):
        report(tmp_path, None)
