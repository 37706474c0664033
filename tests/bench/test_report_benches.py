"""The report of benches: what the tables say, what the charts draw, and estimates apart from measurements."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import charts
from bench import report as module
from bench.charts import linear, logarithmic, percentiles
from bench.report import report
from bench.results import read_results
from bench.sections_choice import pareto, turned
from bench.sections_confusion import change
from bench.sections_latency import short
from convcut_trt.devices import known
from convcut_trt.measuring import results
from convcut_trt.measuring.results import ON_GPU, Result
from tests.bench.report_results import (
    CPU,
    FP32,
    H200,
    INT8,
    MODEL,
    compared,
    measured,
    result,
    subject,
    usual,
)
from tests.bench.test_report import EVIL, Page


def write(folder: Path, found: Result, name: str = "bench.json") -> Path:
    results.write(folder / name, found)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of one usual bench."""
    return report(write(tmp_path_factory.mktemp("results"), usual()), None)


def section(text: str, anchor: str) -> str:
    """The HTML of one section."""
    (found,) = re.findall(rf'<section id="{anchor}">(.*?)</section>', text, re.DOTALL)
    return str(found)


def svgs(text: str) -> list[str]:
    return re.findall(r"<svg [^>]*role=.*?</svg>", text, re.DOTALL)


def test_every_series_has_its_distribution(text: str) -> None:
    page = Page(section(text, "latency-measured"))
    times = usual().measured[0].series[0].times
    row = page.row("fp32", "steady", "1")
    shown = (times.p50, times.p90, times.p95, times.p99, times.p99_9, times.max, times.jitter)
    assert row[3:10] == [f"{value:.3f}" for value in shown]
    assert row[10:] == ["2,000", f"{1000 / times.mean:,.0f}"]
    idle = page.row("fp32", "after idle, unsettled", "1")
    assert idle[6:8] == ["–", "–"]  # 90 calls have no 99th percentile


def test_every_figure_says_where_by_what_and_what_it_shows(text: str) -> None:
    page = Page(text)
    assert "A CPU, 2 cores, Linux x86_64. convcut-trt bench somewhere" in page.text
    assert ", 2026-01-02, commit 0123456789ab with changes. From bench.json" in page.text
    assert len(svgs(text)) >= 8
    for svg in svgs(text):
        assert re.search("<title>[^<]+</title><desc>[^<]+</desc>", svg)
    curve = svgs(section(text, "latency-measured"))[0]
    assert "Percentiles of the time, steady, batch 1, A CPU: conv-cut-mini" in curve
    assert curve.count('<polyline class="line') == 4


def test_pairs_stand_with_interval_and_verdict(text: str) -> None:
    page = Page(section(text, "engines-and-peers-against-each-other-measured"))
    pair = compared(FP32, INT8, 0.5)
    row = page.row("fp32", "int8")
    assert row[3:6] == ["0.500", f"{pair.low:.3f} to {pair.high:.3f}", "slower"]
    assert row[7] == "12 of 5 s"
    same = page.row("fp32", "torch fp32")
    assert same[5] == "same"
    busy = page.row("int8", "torch fp32")
    assert busy[5:] == ["inconclusive", *busy[6:8], "busy: others took 40%"]


def test_precisions_stand_against_fp32_whichever_way_they_were_compared(text: str) -> None:
    page = Page(section(text, "precision-and-placement-measured"))
    int8 = page.row("int8")
    assert int8[6].startswith("2.000 (")
    assert int8[6].endswith("), faster")
    assert int8[3] == "pw"
    assert int8[7] == "fp32"
    assert int8[8:10] == ["2 pass, 1 not shown", "accuracy: not shown"]
    assert int8[11] == "254 of 256 labels"
    assert page.row("fp16")[6].endswith("), slower")
    assert page.row("fp32")[6] == "–"
    assert not any(row[0].startswith("torch") for row in page.rows)


def test_a_comparison_turned_twice_is_itself() -> None:
    pair = compared(FP32, INT8, 0.5)
    there = turned(pair)
    assert there.verdict == "faster"
    assert there.ratio == pytest.approx(2.0)
    back = turned(there)
    assert [back.low, back.high] == pytest.approx([pair.low, pair.high])
    assert replace(back, ratio=pair.ratio, low=pair.low, high=pair.high) == pair


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1.0, 0.8)], [0]),
        ([(1.0, 0.8), (2.0, 0.9)], [0, 1]),
        ([(1.0, 0.9), (2.0, 0.8)], [0]),
        ([(1.0, 0.8), (1.0, 0.8)], [0, 1]),
        ([(1.0, 0.8), (1.0, 0.9), (0.5, 0.9)], [2]),
        ([(3.0, 0.7), (2.0, 0.8), (1.0, 0.6)], [1, 2]),
    ],
)
def test_the_front_is_what_nothing_beats(
    points: list[tuple[float, float]], front: list[int]
) -> None:
    assert pareto(points) == front


def test_what_is_confused_is_the_difference_to_fp32() -> None:
    fp32, int8 = measured(FP32, 2.0, 0.9).accuracy, measured(INT8, 1.0, 0.88).accuracy
    assert fp32 is not None and int8 is not None
    changed = change(int8, fp32)
    assert changed is not None and changed.tolist() == [[-10, 10], [10, -10]]
    assert change(replace(int8, images=999), fp32) is None
    assert change(replace(int8, confusion={"anger": [1]}), fp32) is None


def test_the_page_shows_what_is_confused(text: str) -> None:
    shown = section(text, "what-is-confused-changed-against-fp32")
    assert "as happiness" in shown and "\u2212" in shown


def test_accuracy_stands_with_its_interval(text: str) -> None:
    page = Page(section(text, "accuracy-against-latency-measured"))
    assert page.row("int8")[1:4] == ["84.00%", "82.00% to 86.00%", "1,000"]
    assert [page.row(name)[-1] for name in ("fp32", "fp16", "int8")] == ["no", "yes", "no"]


def test_measured_and_estimated_share_no_table(text: str) -> None:
    page = Page(section(text, "devices-estimates"))
    heads = [row for row in page.rows if row[0].startswith("device")]
    assert [head[0] for head in heads] == ["device (estimate)", "device (datasheet)"]
    assert all("estimate" in cell for cell in heads[0][1:4])
    assert "Nothing in this section was measured" in page.text
    assert "A CPU" not in page.text
    for device in known().values():
        rows = [row for row in page.rows if row[0].split(",")[0] == device.name]
        assert len(rows) == 2 * len(device.variants)
        assert device.variants or f"{device.name}: no estimate" in page.text
    own = Page(section(text, "devices-measured"))
    assert not any(device.name in own.text for device in known().values())


def test_a_known_gpu_is_held_against_its_datasheet(tmp_path: Path) -> None:
    engine = measured(subject("fp16", "tensorrt"), 0.2, way=ON_GPU)
    other = measured(
        subject("fp16", "tensorrt", name="other", sha256={"onnx": "0"}), 0.2, way=ON_GPU
    )
    text = report(write(tmp_path, result([engine, other], machine=H200)), None)
    page = Page(section(text, "devices-measured"))
    row = page.row("NVIDIA H200", "2026-01-02", "conv-cut-mini.fp16.tensorrt", "on the GPU")
    assert re.fullmatch(r"\d+ % of the (compute|memory) roof, limited by .* \(estimate\)", row[8])
    assert page.row("NVIDIA H200", "2026-01-02", "other", "on the GPU")[8] == "–"
    (plot,) = svgs(section(text, "rooflines"))
    assert plot.count('class="mark') == 1
    assert "fp16 989.4k" in plot


def write_roofs(folder: Path, threads: int = 2, **machine: Any) -> Path:
    """Roofs of a processor: the committed ones of one network, as if they had been measured elsewhere."""
    part = json.loads((module.RESULTS / "roofs.json").read_text())["parts"][
        f"{MODEL}, fp32, 1 thread"
    ]
    on = {"processor": CPU.processor, "cores": CPU.cores, "physical_cores": 2, "last_cache_mb": 30}
    counts = {"multiply_adds": 1000, "bytes": 100}
    part |= {"threads": threads, "machine": {**part["machine"], **on, **machine}}
    part["layers"] = [row | counts for row in part["layers"] if row["kind"] == "gemm"]
    part["kinds"] = [row | counts for row in part["kinds"] if row["kind"] in ("gemm", "depthwise")]
    (folder / "roofs.json").write_text(json.dumps({"schema": 1, "parts": {"one": part}}))
    return folder


def test_a_cpu_is_held_against_the_roofs_of_its_processor(tmp_path: Path) -> None:
    text = report(write(write_roofs(tmp_path), usual()), None)
    page = Page(section(text, "devices-measured"))
    rows = {row[2]: row for row in page.rows[1:]}
    own = rows["conv-cut-mini.fp32.onnxruntime"][8]
    share = re.fullmatch(r"(\d+) % of the compute roof, limited by .* \(estimate\)", own)
    # 4 ms for what the floor of these roofs is 1 to 2 ms
    assert share and 10 < int(share[1]) < 60
    # no roofs in these bits, and a peer computes another graph
    assert rows["conv-cut-mini.int8.onnxruntime"][8] == rows["torch fp32"][8] == "–"


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        (CPU.system, {"processor": "another CPU"}),
        (CPU.system, {"cores": 4}),
        (CPU.system, {"threads": 1}),
        ("Linux A CPU", {}),
    ],
)
def test_other_roofs_say_nothing_of_a_cpu(
    system: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    found = replace(usual(), machine=replace(CPU, system=system))
    text = report(write(write_roofs(tmp_path, **changes), found), None)
    page = Page(section(text, "devices-measured"))
    assert {row[8] for row in page.rows[1:]} == {"–"}


def test_layers_lie_below_the_roofs_and_small_ones_together(tmp_path: Path) -> None:
    folder = write_roofs(tmp_path)
    (plot,) = svgs(section(report(folder, None), "rooflines"))
    part = json.loads((folder / "roofs.json").read_text())["parts"]["one"]
    assert plot.count('class="mark') == len(part["layers"]) + 1  # all depthwise ones together
    assert "at 20;" in plot  # 2 * 1000 operations in 100 bytes


def test_of_a_sweep_only_the_whole_is_read(tmp_path: Path) -> None:
    write(tmp_path, usual(), "sweep.json")
    for one in usual().measured:
        cell = tmp_path / "engines" / one.subject.name
        cell.mkdir(parents=True)
        write(cell, result([one]), "result.json")
        (cell / "cell.json").write_text("{}")
    (found,) = read_results(tmp_path).benches
    assert found.file == "sweep.json" and found.result == usual()


def test_without_benches_every_section_says_what_makes_them(tmp_path: Path) -> None:
    text = Page(report(tmp_path, None)).text
    for command in ("bench.robot", "bench.openings", "bench.roofs", "bench.gate_table"):
        assert f"python -m {command}" in text
    assert text.count("convcut-trt bench --batch") == 7


def test_one_engine_alone_and_interrupted_is_a_page(tmp_path: Path) -> None:
    alone = replace(measured(FP32, 4), series=measured(FP32, 4).series[:1])
    found = replace(result([alone]), complete=False, skipped={"fer": "not installed"})
    text = Page(report(write(tmp_path, found), None)).text
    assert "Not complete: it was stopped" in text
    assert "fer is left out: not installed." in text


def test_names_from_a_bench_are_escaped(tmp_path: Path) -> None:
    evil = subject("fp32", name=EVIL, precision=EVIL, judged_on=EVIL, verified_on=EVIL, mlp=EVIL)
    other = subject("fp16", name=f"{EVIL}2")
    found = result([measured(evil, 4, 0.8), measured(other, 5, 0.8)], [compared(evil, other, 1.2)])
    found = replace(found, command=EVIL, machine=replace(found.machine, device=EVIL))
    text = report(write(tmp_path, found), None)
    assert "script" not in Page(text).tags
    assert "<script" not in text


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a.fp32.x"], ["a.fp32.x"]),
        (["a.fp32.x", "a.int8.x"], ["fp32", "int8"]),
        (["a.fp32.x", "a.int8.pw.x"], ["fp32", "int8.pw"]),
        (["a.fp32.x", "b.fp32.x"], ["a", "b"]),
        (["a.fp32.x", "torch fp32"], ["a.fp32.x", "torch fp32"]),
        (["a.fp32.x", "torch fp32", "a.int8.x"], ["fp32", "torch fp32", "int8"]),
        (["a.x", "a.x.y"], ["x", "x.y"]),
    ],
)
def test_names_lose_what_they_share(names: list[str], shown: list[str]) -> None:
    assert list(short(names).values()) == shown


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (linear, [0.0, 1.0]),
        (linear, [3.0]),
        (linear, [0.0]),
        (linear, [84.1, 86.3]),
        (logarithmic, [1e-3, 1e3]),
        (logarithmic, [2.1, 2.9]),
        (logarithmic, [5.0]),
        (logarithmic, [0.98, 1.02]),
        (lambda label, values: percentiles(label, int(values[0])), [1]),
        (lambda label, values: percentiles(label, int(values[0])), [90]),
        (lambda label, values: percentiles(label, int(values[0])), [5000]),
    ],
)
def test_an_axis_has_ticks_inside_it_and_keeps_the_order(
    make: Callable[[str, list[float]], charts.Axis], values: list[float]
) -> None:
    axis = make("x", values)
    assert len(axis.ticks) >= 2
    assert all(axis.low - 1e-9 <= axis.scale(value) <= axis.high + 1e-9 for value, _ in axis.ticks)
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)
    places = [axis.at(value) for value, _ in axis.ticks]
    assert (np.diff(places) > 0).all()
    if make in (linear, logarithmic):
        assert all(0 < axis.at(value) < 1 for value in values)


def test_a_long_name_does_not_run_into_its_figure() -> None:
    row = charts.Row("very-long-name " * 9, "1.234, inconclusive", 1.2, 1.1, 1.3, 0)
    svg = charts.rows("title", "words", logarithmic("x", [1, 2]), [row])
    label, figure = re.findall(r'<text [^>]*text-anchor="(?:start|end)">([^<]*)</text>', svg)
    assert label.endswith("…")
    assert figure == row.text
    assert len(label) + len(figure) < 60


def test_curves_rise_to_the_longest_call(text: str) -> None:
    curve = svgs(section(text, "latency-measured"))[0]
    for points in re.findall(r'class="line[^>]*points="([^"]+)"', curve):
        places = np.array([list(map(float, point.split(","))) for point in points.split()])
        assert (np.diff(places[:, 0]) >= 0).all()
        assert (np.diff(places[:, 1]) <= 0).all()  # down is more in SVG
        assert places[-1, 0] == pytest.approx(charts.WIDTH - charts.RIGHT, abs=0.2)


def test_the_committed_results_make_a_page_that_can_be_sent() -> None:
    text = report(module.RESULTS, None)
    assert len(text.encode()) < 2_000_000
    page = Page(text)
    assert page.loads == ["data:,"]
    assert "Files that are left out" not in page.text
    anchors = {link for link in page.links if link.startswith("#")}
    assert anchors == {f"#{name}" for name in re.findall(r'<section id="([^"]+)"', text)}
    assert f"{MODEL}, fp32, 1 thread" in page.text or "Rooflines" in page.text
