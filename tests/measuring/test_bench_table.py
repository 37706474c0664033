"""A bench's result as text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from convcut_trt.measuring import bench_table
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.conditions import Conditions
from tests.measuring.test_results import example


def test_a_row_has_a_cell_for_each_percentile() -> None:
    result = replace(example(), compared=())
    shown = bench_table.text(result).splitlines()
    head, row = (
        next(line.split() for line in shown if word in line) for word in (" p90 ", "steady")
    )
    head.remove("ms")  # of "p50 ms"
    assert head[3:] == ["p50", "p90", "p95", "p99", "p99.9", "max", "jitter", "faces/s"]
    times = result.measured[0].series[0].times
    assert times.p95 is not None and times.p99_9 is None
    cells = dict(zip(head, row, strict=True))
    assert (cells["p95"], cells["p99.9"]) == (f"{times.p95:.3f}", "-")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, ""),
        ({"cpu_mhz": 2500.4}, {"cpu_mhz": 2399.6}, "CPU 2500 and 2400 MHz"),
        ({"cpu_mhz": 2500.0}, {}, "CPU 2500 and - MHz"),
        (
            {"cpu_mhz": 1500.0, "gpu": State(sm_mhz=306, source="sysfs")},
            {"cpu_mhz": 1500.0, "gpu": State(sm_mhz=1020, temperature_c=61, source="sysfs")},
            "CPU 1500 and 1500 MHz, GPU 306 and 1020 MHz, - and 61 C",
        ),
    ],
)
def test_clocks_and_heat_as_far_as_they_are_known(
    before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    first, last = (Conditions(at_s=0.0, cores=2, own_s=0.0, **m) for m in (before, after))
    measured = replace(example().measured[0], before=first, after=last)
    shown = bench_table.text(replace(example(), measured=(measured,), compared=()))
    assert ("before and after" in shown) == bool(said)
    assert said in shown
