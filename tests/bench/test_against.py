"""``bench --against``: how it reaches peers, which take part, and with what they are compared."""

from __future__ import annotations

import gc
import importlib.util
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import against, peers
from convcut_trt import cli, lab
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.measuring import bench_entrants, conditions, results, timed, versus
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.results import IDLE, ON_GPU, STEADY, WHOLE
from convcut_trt.measuring.timed import F64

NAME = "conv-cut-mini.fp16.onnxruntime"
QUICK = ["--seconds", "0.02", "--openings", "8", "--batch", "1"]


@pytest.fixture(autouse=True)
def short_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up of a moment, and a machine that nobody else uses."""
    monkeypatch.setattr(timed, "WARM_UP_S", 0.02)
    monkeypatch.setattr(versus, "until_quiet", lambda: None)
    monkeypatch.setattr(
        gc, "collect", lambda *generation: 0
    )  # slow among a test run's many objects
    monkeypatch.setattr(conditions, "flags", lambda before, after: {})


def run_bench(engines: Path, given: list[str], known: bench_entrants.Peers, output: Path) -> int:
    return cli.main(
        ["bench", str(engines / f"{NAME}.json"), *given, *QUICK, "-o", str(output)], known
    )


def there(engine: Entrant) -> Entrant:
    """A peer that is as good as the engine, in fewer bits."""
    return peers.entrant(engine, "there", "int8", "int8", engine.open, versions={}, sha256={})


def gone(engine: Entrant) -> Entrant:
    """One that is not installed."""
    raise BackendMissing("gone is not installed: pip install gone")


def unfit(engine: Entrant) -> Entrant:
    """One that cannot be compared with this engine."""
    raise InputError("unfit has no checkpoint")


KNOWN = {"there": there, "gone": gone, "unfit": unfit}


def test_a_peer_that_is_not_installed_is_left_out_and_said(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    given = ["--against", "gone", "--against", "there"]
    assert run_bench(engines, given, KNOWN, output) == 0
    shown = capsys.readouterr()
    assert "gone is left out: gone is not installed" in shown.err
    assert "gone is left out: gone is not installed" in shown.out
    found = results.read(output)
    assert found.skipped == {"gone": "gone is not installed: pip install gone"}
    assert [(one.name, one.other) for one in found.compared] == [(NAME, "there int8")]
    assert "fp16 against int8" in shown.out  # not the same bits
    assert f"bench {NAME} --against there --against gone" in found.command


@pytest.mark.parametrize("name", ["torch", "torch-compile", "torch-tensorrt", "all"])
def test_a_peer_whose_library_is_missing_is_left_out_and_said(
    name: str, engines: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in ("bench.peer_torch", "bench.peer_gpu"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    torches = {peer: make for peer, make in peers.PEERS.items() if "torch" in peer}
    options = Namespace(
        engines=[str(engines / f"{NAME}.json")], against=[name, "there"], model=None, spin=False
    )
    taking, skipped = bench_entrants.chosen(options, {**torches, "there": there})
    assert [one.name for one in taking] == [NAME, "there int8"]
    assert set(skipped) == (set(torches) if name == "all" else {name})
    said = capsys.readouterr().err
    for peer, why in skipped.items():
        assert "torch is not installed: pip install -e '.[lab,peers]'" in why
        assert f"{peer} is left out: {why}" in said


def test_a_missing_module_of_our_own_is_no_peer_that_is_not_installed(
    engines: Path, tmp_path: Path
) -> None:
    known = {"lost": peers._later("peer_lost", "lost")}
    with pytest.raises(ModuleNotFoundError, match=r"bench\.peer_lost"):
        run_bench(engines, ["--against", "lost"], known, tmp_path / "bench.json")


def test_all_takes_those_that_are_here(engines: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    assert run_bench(engines, ["--against", "all"], KNOWN, output) == 0
    found = results.read(output)
    assert [one.subject.name for one in found.measured] == [NAME, "there int8"]
    assert found.skipped.keys() == {"gone", "unfit"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["gone"], "nothing to compare"),
        (["there", "unfit"], "no checkpoint"),  # it was asked for by name
        (["all", "unfit"], "no checkpoint"),
        (["there", "nobody"], "--against nobody is neither"),
    ],
)
def test_what_cannot_be_compared(
    names: list[str], said: str, engines: Path, tmp_path: Path, capsys: Any
) -> None:
    output = tmp_path / "bench.json"
    given = [word for name in names for word in ("--against", name)]
    assert run_bench(engines, given, KNOWN, output) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_peers_are_compared_with_engines_and_not_with_each_other(
    engines: Path, tmp_path: Path
) -> None:
    def second(engine: Entrant) -> Entrant:
        return peers.entrant(engine, "second", "int8", "int8", engine.open, versions={}, sha256={})

    shutil.copytree(engines, tmp_path / "engines")
    shutil.copyfile(tmp_path / "engines" / f"{NAME}.json", twin := tmp_path / "engines/twin.json")
    output = tmp_path / "bench.json"
    given = [str(twin), "--against", "all"]
    known = {"there": there, "second": second}
    assert run_bench(tmp_path / "engines", given, known, output) == 0
    found = results.read(output)
    # one that is the same beside both takes part once
    assert [one.subject.name for one in found.measured] == [
        NAME,
        "twin",
        "there int8",
        "second int8",
    ]
    pairs = [(one.name, one.other) for one in found.compared]
    assert pairs == [(NAME, "twin")] + [
        (name, peer) for name in (NAME, "twin") for peer in ("there int8", "second int8")
    ]


def test_one_that_tells_its_own_times_is_not_asked(engines: Path, tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []

    def times(batch: int, seconds: float) -> F64:
        asked.append((batch, seconds))
        return np.array([2.0, 3.0, 4.0])

    def tells(engine: Entrant) -> Entrant:
        return replace(there(engine), own_times=times)

    output = tmp_path / "bench.json"
    assert run_bench(engines, ["--against", "tells"], {"tells": tells}, output) == 0
    found = results.read(output)
    assert asked == [(1, 0.02)]
    (series,) = found.measured[1].series
    assert (series.way, series.batch, series.times.p50) == (ON_GPU, 1, 3.0)
    assert found.measured[1].not_measured.keys() == {STEADY, IDLE, WHOLE}
    assert found.compared == ()


@pytest.mark.parametrize("name", [*bench_entrants.PEERS, bench_entrants.ALL])
def test_a_peer_sends_the_verb_to_the_checkout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def call(command: list[str], env: dict[str, str]) -> int:
        calls.append(command)
        return 3

    monkeypatch.setattr(subprocess, "call", call)
    given = ["--against", name, "--json"]
    assert cli.main(["bench", *given]) == 3
    assert calls == [[sys.executable, "-P", "-m", "bench.against", *given]]
    assert importlib.util.find_spec("bench.against") is not None


def test_without_a_checkout_the_way_to_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "site-packages/convcut_trt/lab.py"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "--against", "torch"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_the_checkout_compares(engines: Path, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "bench.json"
    engine = str(engines / f"{NAME}.json")
    names = ["--against", "torch", "--against", "onnxruntime"]
    assert against.main([engine, *names, *QUICK, "-o", str(output)]) == 0
    found = results.read(output)
    assert [(one.name, one.other) for one in found.compared] == [
        (NAME, "torch fp32"),
        (NAME, "onnxruntime fp32"),
    ]
    torch_side = found.measured[1]
    assert torch_side.difference <= 1e-4
    assert "thread" in torch_side.subject.precision
    assert torch_side.subject.versions == {"torch": torch.__version__}
    assert torch_side.subject.sha256.keys() == {"checkpoint"}
