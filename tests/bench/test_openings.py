"""The recorded openings: that the verdicts do on them what is promised, and that recording can be interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import openings, openings_page
from bench.openings import AGAIN, DELAYED, A, Delayed
from bench.openings_page import Tried, ratios, tried
from convcut_trt.errors import InputError
from convcut_trt.fields import Fields, read_json
from convcut_trt.fit import newest
from convcut_trt.measuring.measure import log_ratio
from tests.timing import ANSWER, Clock, Engine


@pytest.fixture(scope="module")
def recorded() -> Fields:
    return read_json(openings.RESULT, openings.SCHEMA, InputError, "record them")


@pytest.fixture(scope="module")
def twelve(recorded: Fields) -> Callable[[str, bool], Tried]:
    """What comparisons of twelve openings say: of which session, and whether an opening is drawn twice."""
    return cache(lambda name, replace: tried(ratios(recorded, name), openings=12, replace=replace))


@pytest.mark.parametrize("replace", [False, True])
def test_identical_engines_are_hardly_ever_told_apart_and_a_delay_is_found(
    recorded: Fields, twelve: Callable[[str, bool], Tried], replace: bool
) -> None:
    assert len(recorded.objects("openings")) >= 100
    assert recorded.inside("settings").get("seconds", float) >= 5
    assert twelve(AGAIN, replace).told_apart <= 0.05
    assert twelve(DELAYED, replace).verdicts["faster"] >= 0.8


def test_the_interval_covers_what_it_says(twelve: Callable[[str, bool], Tried]) -> None:
    for name in (AGAIN, DELAYED):
        found = twelve(name, True)
        assert found.covered >= 0.92
        assert found.narrow < found.covered


def test_the_ratios_are_those_of_the_samples(recorded: Fields) -> None:
    """A hundred blocks of each opening are kept: their ratio is near that of all."""
    off = []
    for row in recorded.objects("openings"):
        kept = row.inside("blocks_us")
        blocks = {
            name: np.sqrt(np.array(kept.list_of(name, int), float).reshape(-1, 2).prod(axis=1))
            for name in (A, AGAIN, DELAYED)
        }
        for name in (AGAIN, DELAYED):
            whole = row.inside("log_ratios").get(name, float)
            off.append(log_ratio(blocks[A], blocks[name]) - whole)
    assert abs(float(np.mean(off))) < 0.003
    assert float(np.std(off)) < 0.02


def test_the_delay_is_five_percent_of_a_call(recorded: Fields) -> None:
    place = recorded.list_of("percentiles", int).index(50)
    shares = [
        row.get("delay_us", float) / row.inside("percentiles_us").list_of(A, float)[place]
        for row in recorded.objects("openings")
    ]
    assert float(np.median(shares)) == pytest.approx(0.05, abs=0.003)


def test_a_delay_is_learnt_and_then_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(openings, "time", clock)
    delayed = Delayed(Engine(clock, [0.010]), 0.05)
    faces = np.zeros((1, 4, 4, 3), np.uint8)
    takes = []
    for _ in range(40):
        start = clock.now
        np.testing.assert_array_equal(delayed.run(faces)["probabilities"], ANSWER)
        takes.append(clock.now - start)
    learnt = 2 * openings.FIRST - 1
    assert takes[:learnt] == pytest.approx([0.010] * learnt, rel=1e-3)
    assert takes[learnt:] == pytest.approx([0.0105] * (40 - learnt), rel=1e-3)
    assert delayed.delays_s == pytest.approx([0.0005] * (40 - learnt), rel=1e-3)
    # it goes along, and by the calls that count, of which each follows one that wakes the threads
    slower = Delayed(Engine(clock, [0.015, 0.010] * 60 + [0.030, 0.020] * 60), 0.05)
    for _ in range(240):
        slower.run(faces)
    assert slower.delays_s[100] == pytest.approx(0.0005, rel=1e-3)
    assert slower.delays_s[-1] == pytest.approx(0.001, rel=1e-3)


def test_a_recording_goes_on_where_it_was_interrupted(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = newest(engines, "conv-cut-mini", None, "auto")
    monkeypatch.setattr("bench.openings.build.build", lambda *arguments: manifest)
    monkeypatch.setattr(openings_page, "RESAMPLINGS", 20)
    seeds: list[Any] = []

    def record(
        manifest: Any, batch: int, seconds: float, random: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if len(seeds) == 5:
            seeds.append(None)
            raise KeyboardInterrupt
        seeds.append(int(random.integers(1 << 30)))
        noise = 0.01 * math.sin(len(seeds))
        row = {
            "blocks": 3,
            "load": 0.5,
            "delay_us": 50.0,
            "log_ratios": {AGAIN: noise, DELAYED: 0.05 + noise},
            "percentiles_us": dict.fromkeys((A, AGAIN, DELAYED), [1000.0 + noise] * 10),
            "blocks_us": dict.fromkeys((A, AGAIN, DELAYED), [1000] * 6),
        }
        return row, {}

    monkeypatch.setattr(openings, "record", record)
    out = tmp_path / "openings.json"
    given = ["--seconds", "1", "--openings", "14", "--out", str(out)]
    assert openings.main(given) == 130
    assert len(json.loads(out.read_text())["openings"]) == 5
    assert openings.main(given) == 0
    assert len(json.loads(out.read_text())["openings"]) == 14
    drawn = [seed for seed in seeds if seed is not None]
    assert len(set(drawn)) == 14
    text = out.with_suffix(".md").read_text()
    assert "14 openings of 1 s" in text
    assert "| A, A again | 12 | without | 0.0% | 100.0% |" in text
    # the same again records nothing, and other settings are refused
    assert openings.main(given) == 0
    assert len(seeds) == 15
    assert openings.main(["--seconds", "2", "--openings", "14", "--out", str(out)]) == 2
