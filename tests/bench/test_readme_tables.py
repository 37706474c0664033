"""The README's tables: the committed ones are what the results make, and they say what the results say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import readme
from bench.readme import README, filled, main, ratios, what_ran_where
from bench.report import RESULTS
from bench.results import Bench, Raw, Results, read_results
from convcut_trt.errors import InputError
from convcut_trt.measuring.results import Compared, Subject
from tests.bench.report_results import (
    FP32,
    H200,
    INT8,
    PEER,
    compared,
    measured,
    result,
    subject,
    usual,
)

MARKED = "before\n<!-- results: what-ran-where -->\nold\n<!-- end -->\nafter\n"


def row(table: str, name: str) -> list[str]:
    """The cells of the one row that starts so."""
    (found,) = (line for line in table.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_committed_readme_is_what_the_results_make() -> None:
    text = README.read_text("utf-8")
    assert "<!-- results: what-ran-where -->" in text
    assert filled(text, read_results(RESULTS)) == text, "run: python -m bench.readme"


def test_without_results_nothing_ran() -> None:
    table = what_ran_where(Results())
    for name in ("`onnxruntime`", "`tensorrt-rtx`", "`tensorrt`"):
        assert row(table, name) == [name, "never", "never", "never", "no"]
    assert row(table, "CUDA kernels")[2:] == ["never", "never", "no"]


def test_a_bench_shows_what_ran_and_where() -> None:
    engine = subject("int8", "tensorrt")
    gpu = Bench("gpu.json", result([measured(engine, 1)], machine=H200))
    table = what_ran_where(Results(benches=[gpu, Bench("cpu.json", usual())]))
    where = "yes: NVIDIA H200, 2026-01-02"
    assert row(table, "`tensorrt`") == ["`tensorrt`", "yes: int8", "yes", where, where]
    cpu = "yes: A CPU, 2026-01-02"
    assert row(table, "`onnxruntime`")[1:] == ["yes: fp32, fp16, int8", "yes", cpu, cpu]
    assert row(table, "`tensorrt-rtx`")[1:] == ["never", "never", "never", "no"]
    assert "openvino" not in table
    # A peer is no engine of ours.
    assert "torch" not in table


def test_engines_that_were_only_built_never_ran() -> None:
    built = read_results(RESULTS)
    built.benches.clear()
    cells = row(what_ran_where(built), "`tensorrt-rtx`")
    assert cells[1] == "yes: fp32, fp16, bf16, int8 for sm_86, sm_89 and sm_120"
    assert cells[2:] == ["never", "never", "no"]


def test_an_engine_that_ran_with_both_tails_is_measured() -> None:
    part = {"date": "2026-01-03T00:00:00Z", "outcome": "runs, and fails at computed"}
    other = {**part, "outcome": "does not run here: no SM"}
    parts = {"tensorrt": part, "tensorrt-rtx": other}
    raw = Raw("tails.x.json", {"device": "NVIDIA L4", "parts": parts})
    table = what_ran_where(Results(measured={"tails": [raw]}))
    where = "yes: NVIDIA L4, 2026-01-03"
    assert row(table, "`tensorrt`")[1:] == ["yes: fp16", "yes", where, where]
    assert row(table, "`tensorrt-rtx`")[1:] == ["never", "never", "never", "no"]


def bench(pairs: Sequence[Compared], *subjects: Subject, **changes: Any) -> Bench:
    """A file with these comparisons."""
    found = result([measured(one, 2.0) for one in subjects], pairs)
    return Bench("cpu.json", replace(found, **changes))


def test_ratios_stand_with_interval_verdict_and_settings_below_their_machine() -> None:
    one, two = subject("fp32"), subject("fp32", "openvino")
    pair = compared(one, two, 0.5, openings=8, seconds=2.0)
    text = ratios(Results(benches=[bench([pair], one, two)]))
    assert text.startswith("A CPU, 2 cores, 2026-01-02:\n\n| engine | against |")
    cells = row(text, f"`{one.name}`")
    assert cells[:4] == [f"`{one.name}`", f"`{two.name}`", "1", "8 x 2 s"]
    assert cells[4:] == [f"0.50x ({pair.low:.3f} to {pair.high:.3f})", "slower"]
    assert "No comparison" in ratios(Results())


def test_machines_and_threads_have_tables_of_their_own() -> None:
    pairs = [compared(FP32, PEER, 2.0)]
    alone = replace(PEER, precision="fp32, eager, on 1 thread")
    found = [
        bench(pairs, FP32, PEER),
        bench(pairs, FP32, alone),
        bench(pairs, FP32, PEER, date="2026-02-01"),
        bench(pairs, FP32, replace(PEER, precision="fp32 on the GPU"), machine=H200),
    ]
    text = ratios(Results(benches=found))
    heads = [line for line in text.splitlines() if line.endswith(":")]
    assert heads == [
        "A CPU, 2 cores, on 2 threads each, 2026-01-02 to 2026-02-01:",
        "A CPU, 2 cores, on 1 thread each, 2026-01-02:",
        "NVIDIA H200, 2026-01-02:",
    ]
    assert text.count("`torch fp32`") == 4


def test_ratios_are_those_of_one_precision() -> None:
    other = subject("fp32", "openvino")
    pairs = [compared(FP32, INT8, 0.5), compared(FP32, other, 1.5)]
    text = ratios(Results(benches=[bench(pairs, FP32, INT8, other)]))
    assert other.name in text and INT8.name not in text
    # what was compared and not measured has no known precision
    assert "No comparison" in ratios(Results(benches=[bench(pairs)]))


def test_the_fastest_int8_engine_of_each_network_stands_beside_eager_torch() -> None:
    slower, far = subject("int8", "openvino"), subject("int8", name="other.int8", model="other")
    bf16 = subject("bf16", "openvino")
    compiled = replace(PEER, name="torch-compile fp32")
    pairs = [
        *(compared(one, PEER, ratio) for one, ratio in ((INT8, 3.0), (slower, 2.5), (bf16, 9.0))),
        compared(INT8, compiled, 2.0),
        compared(INT8, FP32, 1.5),
    ]
    again = bench([compared(INT8, PEER, 2.9), compared(far, PEER, 1.1)], INT8, far, PEER)
    first = bench(pairs, INT8, slower, bf16, PEER, compiled, FP32)
    text = ratios(Results(benches=[first, again]))
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) == 2
    assert lines[0].startswith(f"| `{INT8.name}` | `torch fp32` | 1 | 12 x 5 s | 3.00x")
    assert lines[1].startswith("| `other.int8` | `torch fp32` | 1 | 12 x 5 s | 1.10x")


def test_only_what_is_marked_is_made_anew() -> None:
    text = filled(MARKED, Results())
    assert text.startswith("before\n<!-- results: what-ran-where -->\n\n| flavour |")
    assert text.endswith("|\n\n<!-- end -->\nafter\n")
    assert filled(text, Results()) == text
    assert filled("nothing marked", Results()) == "nothing marked"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- results: weather -->\n<!-- end -->", "no table 'weather': choose from what-ran"),
        ("<!-- results: ratios -->\n", "has no `<!-- end -->`"),
        ("<!-- results: ratios -->\n" + MARKED, "has no `<!-- end -->`"),
    ],
)
def test_bad_marks_are_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        filled(text, Results())


def test_the_command_writes_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    path = tmp_path / "README.md"
    path.write_text(MARKED)
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_text() == filled(MARKED, Results())
    with pytest.raises(InputError, match=r"gone\.md cannot be read"):
        main([str(tmp_path / "gone.md")])


def test_damaged_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "gates.json").write_text(json.dumps({"schema": 1, "honest": 3}))
    with pytest.raises(InputError, match=r"gates\.json"):
        filled(MARKED, read_results(tmp_path))
