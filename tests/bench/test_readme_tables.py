"""The README's tables: the committed ones are what the results make, and they say what the results say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import readme
from bench.readme import README, filled, main, ratios, what_ran_where
from bench.report import RESULTS
from bench.results import Bench, Results, read_results
from convcut_trt.errors import InputError
from tests.bench.report_results import H200, compared, measured, result, subject, usual

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


def test_ratios_stand_with_interval_verdict_and_device() -> None:
    fp32, int8 = subject("fp32"), subject("int8")
    pair = compared(fp32, int8, 0.5)
    found = Results(benches=[Bench("cpu.json", result([], [pair]))])
    cells = row(ratios(found), "A CPU")
    assert cells[1:4] == [f"`{fp32.name}`", f"`{int8.name}`", "1"]
    assert cells[4] == f"0.50x ({pair.low:.3f} to {pair.high:.3f})"
    assert cells[5:] == ["slower", "2026-01-02"]
    assert "No comparison" in ratios(Results())


def test_ratios_are_those_of_one_precision() -> None:
    fp32, int8, other = subject("fp32"), subject("int8"), subject("fp32", "openvino")
    both = [measured(one, 2.0) for one in (fp32, int8, other)]
    pairs = [compared(fp32, int8, 0.5), compared(fp32, other, 1.5)]
    text = ratios(Results(benches=[Bench("cpu.json", result(both, pairs))]))
    assert other.name in text and int8.name not in text


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
