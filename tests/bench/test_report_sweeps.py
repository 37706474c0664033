"""The report of a sweep: every batch has its chart, gains stand against FP32, networks are not mixed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.report import report
from convcut_trt.measuring import results
from convcut_trt.measuring.results import STEADY
from tests.bench.report_results import (
    BATCHES,
    MODEL,
    OTHER,
    cell,
    compared,
    measured,
    result,
    subject,
    sweep,
    usual,
)
from tests.bench.test_report import Page
from tests.bench.test_report_benches import section, svgs, write

FIRST = cell("fp32", "onnxruntime", "conv").name


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of one sweep."""
    return report(write(tmp_path_factory.mktemp("results"), sweep(), "sweep.json"), None)


def titles(text: str) -> list[str]:
    return re.findall(r"<title>([^<]+)</title>", text)


def test_every_batch_has_a_chart_of_what_shares_an_opponent(text: str) -> None:
    shown = section(text, "engines-and-peers-against-each-other-measured")
    charts = svgs(shown)
    assert [title.split(", ")[1] for title in titles(shown)] == [f"batch {n}" for n in BATCHES]
    for chart, batch in zip(charts, BATCHES, strict=True):
        # 16 at each batch: those with the engine that 15 of them have in common
        assert chart.count('class="mark') == 15
        assert OTHER not in chart.split("<desc>")[1].split("</desc>")[0]
        gain = "3.00" if batch == 4 else "2.00"
        assert f"int8.pw.openvino.linear against {FIRST}: {gain}, faster" in chart
    assert shown.count("15 of 16; the table has all.") == len(BATCHES)
    page = Page(shown)
    assert sum(row[0].startswith(OTHER) for row in page.rows) == len(BATCHES)


def test_few_pairs_are_all_drawn_and_nothing_is_said_to_be_missing(tmp_path: Path) -> None:
    shown = section(
        report(write(tmp_path, usual()), None), "engines-and-peers-against-each-other-measured"
    )
    (chart,) = svgs(shown)
    assert chart.count('class="mark') == len(usual().compared)
    assert "the table has all" not in shown


def test_many_pairs_of_an_ordinary_bench_are_those_of_the_first_engine(tmp_path: Path) -> None:
    engines = [subject("fp32", name=f"engine {number}") for number in range(7)]
    pairs = [
        compared(one, other, 1.5) for k, one in enumerate(engines) for other in engines[k + 1 :]
    ]
    found = result([measured(one, 2.0) for one in engines], pairs)
    shown = section(
        report(write(tmp_path, found), None), "engines-and-peers-against-each-other-measured"
    )
    (chart,) = svgs(shown)
    assert chart.count("engine 0 against engine") == 2 * 6  # in words and in the drawing
    assert chart.count('class="mark') == 6


def test_every_cell_gains_over_the_fp32_engine_it_was_compared_with(text: str) -> None:
    shown = section(text, "precision-and-placement-measured")
    page = Page(shown)
    for asked, flavour, mlp in (("int8", "openvino", "linear"), ("int8", "onnxruntime", "conv")):
        row = page.row(cell(asked, flavour, mlp).name)
        assert re.fullmatch(
            r"batch 1: 2\.0.*, faster; batch 4: 3\.0.*, faster; batch 16: 2\.0.*, faster", row[6]
        )
        assert row[7] == FIRST
    assert page.row(cell("fp32", "openvino", "conv").name)[7] == FIRST
    assert page.row(FIRST)[6:8] == ["–", "–"]
    own = page.row(cell("int8", "onnxruntime", "conv", OTHER).name)
    assert own[7] == cell("fp32", "onnxruntime", "conv", OTHER).name
    assert [title.split(", ")[1] for title in titles(shown)] == [f"batch {n}" for n in BATCHES]
    assert all(chart.count('class="mark') == 16 for chart in svgs(shown))


def test_the_fp32_engine_of_the_same_backend_comes_first(tmp_path: Path) -> None:
    one, two = cell("fp32", "onnxruntime", "conv"), cell("fp32", "openvino", "conv")
    int8 = cell("int8", "openvino", "conv")
    pairs = [compared(one, two, 1.0), compared(one, int8, 0.5), compared(two, int8, 0.25)]
    found = result([measured(each, 2.0) for each in (one, two, int8)], pairs)
    text = report(write(tmp_path, found), None)
    page = Page(section(text, "precision-and-placement-measured"))
    gained = {row[0]: row[6:8] for row in page.rows[1:]}
    assert gained["int8.pw.openvino"][0].startswith("4.0")
    assert gained["int8.pw.openvino"][1] == "fp32.openvino"
    assert gained["fp32.openvino"][1] == "fp32.onnxruntime"
    assert gained["fp32.onnxruntime"] == ["–", "–"]


def test_what_is_confused_is_held_against_the_same_network(text: str) -> None:
    shown = section(text, "what-is-confused-changed-against-fp32")
    headings = re.findall(r"<h4>([^<]+)</h4>", shown)
    assert (
        len(headings) == len(sweep().measured) - 2
    )  # each network's first is what they are held against
    for heading in headings:
        one, other = heading.split(" against ")
        assert other == (FIRST if one.startswith(MODEL) else FIRST.replace(MODEL, OTHER))


def test_the_batch_curve_goes_through_every_batch(text: str, tmp_path: Path) -> None:
    engines = len(sweep().measured)
    whole = section(text, "more-faces-in-a-call-measured")
    assert all(chart.count('class="mark') == len(BATCHES) * engines for chart in svgs(whole))
    shown = section(report(write(tmp_path, usual()), None), "more-faces-in-a-call-measured")
    time, rate = svgs(shown)
    one = usual().measured[0]
    medians = {s.batch: s.times.p50 for s in one.series if s.way == STEADY}
    assert tuple(medians) == BATCHES
    for batch, median in medians.items():
        assert median is not None
        assert f"fp32, batch {batch}: {median:.4g}" in time
        assert f"fp32, batch {batch}: {1000 * batch / median:.4g}" in rate
    for chart in (time, rate):
        assert chart.count('class="mark') == len(BATCHES) * len(usual().measured)
        for points in re.findall(r'class="line[^>]*points="([^"]+)"', chart):
            places = [float(point.split(",")[0]) for point in points.split()]
            assert len(places) == len(BATCHES) and places == sorted(set(places))


def test_a_bench_of_one_batch_has_no_curve(tmp_path: Path) -> None:
    alone = [replace(one, series=one.series[:1]) for one in usual().measured]
    results.write(tmp_path / "bench.json", replace(usual(), measured=tuple(alone)))
    assert "No bench has measured several batches yet" in report(tmp_path, None)
