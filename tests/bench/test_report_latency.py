"""The report of what each engine took: the course of its calls, its percentiles, and the machine's state."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.report import report
from bench.sections_latency import spread
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.distribution import KEPT, Distribution
from convcut_trt.measuring.energy import Energy
from convcut_trt.measuring.results import IDLE, ON_GPU, STEADY, Result, Series
from tests.bench.report_results import (
    FP32,
    H200,
    MODEL,
    MOMENT,
    PEER,
    measured,
    result,
    subject,
    usual,
)
from tests.bench.test_report import Page
from tests.bench.test_report_benches import section, svgs, write


def latency(folder: Path, found: Result) -> str:
    """The HTML of the section, of a page of one bench."""
    return section(report(write(folder, found), None), "latency-measured")


def with_steady(times: Distribution) -> Result:
    """A bench of one engine, with these times and after idle."""
    one = measured(FP32, 4)
    idle = next(series for series in one.series if series.way == IDLE)
    return result([replace(one, series=(Series(STEADY, 1, True, times), idle))])


def line_of(svg: str) -> Any:
    """The points of the only line, float [N, 2]."""
    (points,) = re.findall(r'class="line[^>]*points="([^"]+)"', svg)
    return np.array([list(map(float, point.split(","))) for point in points.split()])


def test_the_course_shows_when_an_engine_became_slow_and_which_calls_strayed(
    tmp_path: Path,
) -> None:
    times = np.random.default_rng(0).normal(4.0, 0.01, 4000)
    times[3000:] *= 1.5
    times[:1600:400] = 40.0
    course = svgs(latency(tmp_path, with_steady(Distribution.of(times))))[-1]
    assert "<title>Course of the calls, steady, batch 1, A CPU: conv-cut-mini</title>" in course
    assert "4, at last 6 ms" in course
    line = line_of(course)
    assert (np.diff(line[:, 0]) > 0).all()
    before, after = line[:37, 1], line[38:, 1]  # 50 pieces, the 38th holds the change
    assert len(line) == 50
    assert np.ptp(before) < 1 and np.ptp(after) < 1
    assert before.mean() - after.mean() > 15  # down is more in SVG
    marks = re.findall(r'class="mark[^>]* d="M([0-9.]+) ([0-9.]+)', course)
    assert len(marks) == KEPT // 100
    left, top = map(float, marks[0])
    assert left == pytest.approx(line[0, 0], abs=5) and top < after.min()


def test_the_course_of_few_calls_is_all_of_them(tmp_path: Path) -> None:
    times = Distribution.of(np.array([3.0, 9.0, 3.0, 3.5]))
    course = svgs(latency(tmp_path, with_steady(times)))[-1]
    heights = line_of(course)[:, 1]
    assert heights[1] < heights[3] < heights[0] == heights[2]
    assert 'class="mark' not in course


def test_every_engine_has_its_strip_of_the_course(tmp_path: Path) -> None:
    course = svgs(latency(tmp_path, usual()))[-1]
    assert course.count('<polyline class="line') == len(usual().measured)
    for name in ("fp32", "fp16", "int8", "torch fp32"):
        assert f">{name}</text>" in course


def test_sorted_samples_show_no_course_and_all_else_as_in_the_order_of_time(
    tmp_path: Path,
) -> None:
    times = Distribution.of(np.random.default_rng(0).lognormal(1, 0.3, 3000))
    older = replace(times, samples=tuple(sorted(times.samples)))
    for name, found in (("newer", times), ("older", older)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, with_steady(found))
    newer, older_page = (report(tmp_path / name, None) for name in ("newer", "older"))
    assert newer.count("Course of the calls") == 1
    assert "Course of the calls" not in older_page
    course = re.search(r'<div class="figures"><figure><svg [^>]*><title>Course.*?</div>', newer)
    assert course is not None
    assert newer.replace(course[0], "") == older_page


def test_percentiles_of_all_calls_count_more_than_those_of_what_is_kept() -> None:
    found = Distribution.of(np.array([*np.arange(30.0, 1030.0), *np.arange(0.0, 1000.0)]))
    low, high = np.percentile(found.samples, (5, 95))
    assert spread(found) == (low, found.p95) != (low, high)
    assert spread(replace(found, p95=None)) == (low, high)


def test_a_gpu_has_its_degrees_and_what_holds_it_back(tmp_path: Path) -> None:
    states = (
        State(sm_mhz=1980, temperature_c=41.4, power_w=120, throttle=(), source="NVML"),
        State(sm_mhz=1755, temperature_c=66, throttle=("software power cap",), source="NVML"),
    )
    before, after = (replace(MOMENT, gpu=state) for state in states)
    one = replace(
        measured(subject("fp16", "tensorrt"), 0.2),
        before=before,
        after=after,
        energy=Energy(0.0021, 310, 95, 1, 9000, 2.0, "the board"),
    )
    text = report(write(tmp_path, result([one, measured(PEER, 4)])), None)
    said = "1980 MHz, 41 °C, 120 W before; 1755 MHz, 66 °C, software power cap after"
    page = Page(section(text, "latency-measured"))
    row = page.row(f"{MODEL}.fp16.tensorrt", "fp16 stored")
    assert row[-1].startswith(said)
    assert row[5] == "2.1 mJ at 310.0 W, idle 95.0 W (the board)"
    assert said in Page(section(text, "devices-measured")).text
    assert page.row("torch fp32", "fp32 on 2 threads")[-1].startswith(
        "2500 MHz before; 2500 MHz after"
    )


def test_an_engine_says_what_it_was_made_with(tmp_path: Path) -> None:
    versions = {"builder": "10.16.1", "numpy": "2.4.6"}
    engine = subject("fp16", "tensorrt", versions=versions, target="h200")
    peer = replace(PEER, versions={"fer": "25.10.3"}, sha256={}, operations=None)
    page = Page(latency(tmp_path, result([measured(engine, 1), measured(peer, 2)])))
    row = page.row(engine.name, "fp16 stored")
    digest = engine.sha256["onnx"][:12]
    assert row[6] == f"tensorrt 10.16.1, for h200, 39 operations, sha256 {digest}"
    assert page.row("torch fp32", "fp32 on 2 threads")[6] == "fer 25.10.3"


def test_times_on_the_gpu_have_a_batch_curve_too(tmp_path: Path) -> None:
    one = measured(subject("fp16", "tensorrt"), 0.2, way=ON_GPU)
    both = replace(one, series=(*measured(FP32, 0.3).series, *one.series))
    text = report(write(tmp_path, result([both], machine=H200)), None)
    shown = svgs(section(text, "more-faces-in-a-call-measured"))
    assert [re.findall("over the batch, ([^,]+),", svg)[0] for svg in shown] == [
        *(STEADY, STEADY),
        *(ON_GPU, ON_GPU),
    ]
