"""Results: what is kept of many calls, and that a file is read as it was written or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt.errors import InputError
from convcut_trt.measuring import provenance, results
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.distribution import KEPT, Distribution
from convcut_trt.measuring.energy import Energy
from convcut_trt.measuring.provenance import Machine
from convcut_trt.measuring.results import (
    Accuracy,
    Blocks,
    Compared,
    Measured,
    Memory,
    Result,
    Series,
    Subject,
)
from tests.machines import ORIN_GPU, ORIN_NANO, Cuda, files, loader


@pytest.mark.parametrize(
    ("calls", "known"),
    [
        (1, []),
        (2, ["p50"]),
        (9, ["p50"]),
        (10, ["p50", "p90"]),
        (20, ["p50", "p90", "p95"]),
        (99, ["p50", "p90", "p95"]),
        (100, ["p50", "p90", "p95", "p99"]),
        (999, ["p50", "p90", "p95", "p99"]),
        (1000, ["p50", "p90", "p95", "p99", "p99_9"]),
    ],
)
def test_a_percentile_needs_calls_beyond_it(calls: int, known: list[str]) -> None:
    found = Distribution.of(np.random.default_rng(0).lognormal(0, 0.1, calls))
    names = ("p50", "p90", "p95", "p99", "p99_9")
    assert [name for name in names if getattr(found, name) is not None] == known
    assert found.calls == calls
    assert (found.jitter is None) == (calls == 1)


def test_a_distribution_says_what_numpy_says() -> None:
    times = np.random.default_rng(1).lognormal(0, 0.5, 4000)
    found = Distribution.of(times)
    for name, percent in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99), ("p99_9", 99.9)):
        assert getattr(found, name) == pytest.approx(np.percentile(times, percent), abs=1e-4)
    assert found.max == pytest.approx(times.max(), abs=1e-4)
    assert found.mean == pytest.approx(times.mean(), abs=1e-4)
    assert found.jitter == pytest.approx(np.abs(np.diff(times)).mean(), abs=1e-4)


@pytest.mark.parametrize("calls", [2, KEPT - 1, KEPT, KEPT + 1, 2 * KEPT - 1, 4000])
def test_what_is_kept_are_calls_in_the_order_in_which_they_were_taken(calls: int) -> None:
    # Each call is longer than the one before, but for the first: its time says where it was in the series.
    times = np.r_[float(calls), np.arange(1.0, calls)]
    found = Distribution.of(times)
    assert found.course is not None
    assert found.course.tolist() == list(found.samples)
    assert len(found.samples) == min(KEPT, calls)
    assert found.samples[0] == times[0] and found.samples[-1] == times[-1]
    steps = np.diff([0.0, *found.samples[1:]])
    assert np.ptp(steps) <= 1  # evenly spaced, to the whole call
    assert steps.min() >= 1  # none is kept twice
    assert found.ranked.tolist() == sorted(found.samples)
    assert found.max == calls  # of all, kept or not


@pytest.mark.parametrize("samples", [(2.0,), (1.0, 2.0), (1.0, 1.0, 1.0), (1.0, 1.5, 1.5, 9.0)])
def test_sorted_samples_as_older_results_have_them_are_no_course(
    samples: tuple[float, ...],
) -> None:
    older = replace(Distribution.of(np.array(samples)), samples=samples)
    assert older.course is None
    assert older.ranked.tolist() == list(samples)


def test_an_even_engine_has_no_jitter_and_an_alternating_one_all_of_it() -> None:
    assert Distribution.of(np.full(50, 2.0)).jitter == 0
    assert Distribution.of(np.tile([2.0, 3.0], 25)).jitter == 1


def test_throughput() -> None:
    assert Series("steady", 8, True, Distribution.of(np.full(9, 4.0))).throughput == 2000


def moment(at: float) -> Conditions:
    state = State(
        sm_mhz=1020.0, throttle=(), held_by_power_ns=10**9, power_mode="MAXN", source="sysfs"
    )
    return Conditions(at_s=at, cores=2, gpu=state, governor="performance", own_s=at / 2)


def example() -> Result:
    """With everything in it."""
    subject = Subject(
        name="small.fp16.tensorrt",
        kind="engine",
        model="small",
        flavour="tensorrt",
        asked="fp16",
        precision="fp16 stored, fp16 computed",
        stored={"fp16": 0.99, "fp32": 0.01},
        computed={"fp16": 1.0},
        batch=(1, 4, 16),
        placement="",
        mlp="conv",
        tail="native",
        target="",
        operations=None,
        sha256={"engine": "ab", "ranges": None},
        versions={"builder": "10.3"},
        gates=({"name": "witnesses", "value": 1e-4, "budget": None, "verdict": "pass"},),
        verified_on="a GPU",
        judged_on="256 pictures",
        date="2026-01-01T00:00:00+00:00",
    )
    times = Distribution.of(np.random.default_rng(0).lognormal(0, 0.1, 700))
    measured = Measured(
        subject=subject,
        open_ms=100.0,
        first_ms=20.0,
        difference=1e-4,
        series=(Series("steady", 1, True, times), Series("after idle", 1, False, times)),
        not_measured={"on the GPU": "no"},
        memory=Memory(100, 50, 200, None),
        energy=Energy(0.01, 20.0, 5.0, 1, 1000, 10.0, "a board"),
        accuracy=Accuracy("faces", 100, 0.9, 0.85, 0.95, {"happy": [45, 5], "sad": [5, 45]}),
        before=moment(1.0),
        after=moment(20.0),
        flags={"busy": "others took 30% of the CPU"},
    )
    compared = Compared(
        name="one",
        other="two",
        batch=1,
        openings=8,
        seconds=5.0,
        ratio=1.1,
        low=1.05,
        high=1.15,
        verdict="faster",
        log_ratios=(0.1,) * 8,
        name_ms=(1.0,) * 8,
        other_ms=(1.1,) * 8,
        before=moment(1.0),
        after=moment(2.0),
        flags={},
        blocks=(Blocks((1.0, 1.0025), (1.1, 1.1)), Blocks((0.9,), (1.0,))),
    )
    machine = Machine(
        "a GPU", "a CPU", 2, 2**30, "a GPU", "8.9", None, None, "13.0", None, "Linux x86_64"
    )
    return Result(
        command="convcut-trt bench one",
        date="2026-01-02T00:00:00+00:00",
        commit=None,
        versions={"python": "3.11"},
        machine=machine,
        complete=True,
        measured=(measured, replace(measured, energy=None, accuracy=None)),
        compared=(compared,),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.write(path, example())
    assert results.read(path) == example()
    # a line for a list of samples, not one for each
    assert len(path.read_text().splitlines()) < 400
    assert json.loads(path.read_text())["schema"] == results.SCHEMA


def test_a_result_from_before_peers_could_be_skipped_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(broken(lambda v: v.pop("skipped")))
    assert results.read(path) == example()


def test_a_result_from_before_blocks_and_counted_throttling_is_read(tmp_path: Path) -> None:
    def older(values: Any) -> None:
        (pair,) = values["compared"]
        del pair["blocks"]
        for moments in (*values["measured"], pair):
            for when in ("before", "after"):
                del (
                    moments[when]["gpu"]["held_by_power_ns"],
                    moments[when]["gpu"]["held_by_heat_ns"],
                )

    path = tmp_path / "result.json"
    path.write_text(broken(older))
    found = results.read(path)
    assert found.compared[0].blocks == ()
    gpu = found.measured[0].before.gpu
    assert gpu is not None
    assert (gpu.sm_mhz, gpu.held_by_power_ns, gpu.held_by_heat_ns) == (1020.0, None, None)


def test_a_result_whose_samples_are_sorted_is_read_as_it_is(tmp_path: Path) -> None:
    def older(values: Any) -> None:
        for series in values["measured"][0]["series"]:
            series["times"]["samples"].sort()

    path = tmp_path / "result.json"
    path.write_text(broken(older))
    one, newer = results.read(path).measured
    for series, same in zip(one.series, newer.series, strict=True):
        assert series.times.course is None
        assert same.times.course is not None
        assert series.times.ranked.tolist() == same.times.ranked.tolist()
        assert replace(series.times, samples=same.times.samples) == same.times


def broken(change: Any) -> str:
    values = results.to_json(example())
    values = json.loads(json.dumps(values))
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("[]", "expected an object"),
        ('{"schema": 0}', "has schema 0, this version reads 1"),
        ('{"schema": 2}', "has schema 2, this version reads 1"),
        (broken(lambda v: v.pop("machine")), "'machine' is missing"),
        (broken(lambda v: v["measured"][0].pop("open_ms")), r"measured\[0\]: the field 'open_ms'"),
        (
            broken(lambda v: v["measured"][1]["series"].append(3)),
            r"series\[2\]: expected an object",
        ),
        (broken(lambda v: v["measured"][0]["series"][0].update(batch="1")), "'batch' must be int"),
        (broken(lambda v: v["compared"][0].update(log_ratios=["x"])), "log_ratios: .* float"),
        (broken(lambda v: v["measured"][0]["before"]["gpu"].update(throttle=7)), "must be list"),
        (
            broken(lambda v: v["compared"][0]["blocks"][1].update(name_ms=["x"])),
            r"blocks\[1\]: name_ms",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        results.read(path)
    assert "result.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json does not exist"):
        results.read(tmp_path / "gone.json")


def test_a_jetson_is_its_board(tmp_path: Path) -> None:
    root = files(tmp_path, {**ORIN_NANO, "proc/cpuinfo": "processor : 0\nCPU part : 0xd42\n"})
    found = provenance.machine(root=root, load=loader(Cuda(ORIN_GPU)))
    assert found.device.startswith("NVIDIA Jetson Orin Nano")
    assert (found.gpu, found.compute_capability, found.jetpack) == ("Orin", "8.7", "6.2")
    assert found.memory_bytes == 7801856 * 1024


def test_without_a_gpu_the_processor_computes(tmp_path: Path) -> None:
    root = files(tmp_path, {"proc/cpuinfo": "processor : 0\nmodel name : A CPU @ 2 GHz\n"})
    found = provenance.machine(root=root, load=loader())
    assert (found.device, found.gpu, found.driver) == ("A CPU @ 2 GHz", None, None)
    assert found.memory_bytes is None


def test_versions_name_what_is_there() -> None:
    found = provenance.versions()
    assert {"convcut_trt", "python", "numpy"} <= found.keys()
