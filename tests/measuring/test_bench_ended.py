"""What ends a bench early, and what is kept of it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.cli import main
from convcut_trt.errors import InputError
from convcut_trt.measuring import bench_verb, results
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.versus import Versus
from tests.measuring.benching import NAME, QUICK, Change, Changed, interrupted, wrong

pytestmark = pytest.mark.usefixtures("short_and_alone")


def test_an_engine_that_answers_wrong_meanwhile_ends_the_bench(
    tmp_path: Path, pair: tuple[str, str], at_call: Change, capsys: Any
) -> None:
    at_call(NAME, 3, wrong)
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output), "--json"]) == 1
    shown = capsys.readouterr()
    reason = json.loads(shown.out)["reason"]
    assert reason.startswith(f"{NAME} answered wrong at call 3")
    assert f"convcut-trt: {reason}" in shown.err
    assert not output.exists()  # there was nothing to keep yet


def test_a_peer_that_answers_wrong_is_not_told_to_be_built(
    tmp_path: Path, at_call: Change, capsys: Any
) -> None:
    """An engine can be verified and built anew; another system cannot."""

    def slower(engine: Entrant) -> Entrant:
        @contextmanager
        def opened() -> Any:
            with engine.open() as session:
                yield Changed(session, wrong)

        subject = replace(engine.subject, name="slow", flavour="torch", kind="peer")
        return replace(engine, subject=subject, open=opened)

    given = ["bench", *QUICK, "--against", "slow", "-o", str(tmp_path / "bench.json")]
    assert main(given, {"slow": slower}) == 1
    said = capsys.readouterr().err
    assert "slow answered wrong at call 1" in said
    assert "leave `--against torch` out" in said
    assert "convcut-trt build" not in said


def test_what_was_measured_before_a_wrong_answer_is_kept(
    tmp_path: Path, pair: tuple[str, str], at_call: Change
) -> None:
    at_call("twin", 1, wrong)
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output)]) == 1
    found = results.read(output)
    assert not found.complete
    assert [one.subject.name for one in found.measured] == [NAME]


def test_ctrl_c_keeps_what_was_measured(
    tmp_path: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stop(self: bench_verb.Run, step: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_verb.Run, "compare", stop)
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output)]) == 130
    found = results.read(output)
    assert not found.complete
    assert [one.subject.name for one in found.measured] == [NAME, "twin"]
    assert "what was measured is kept" in (shown := capsys.readouterr()).err
    assert "not complete" in shown.out


def test_ctrl_c_in_the_middle_of_a_comparison(
    tmp_path: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_again = Versus.open_again
    openings: list[int] = []

    def stop(self: Versus) -> None:
        if len(openings) == 3:
            raise KeyboardInterrupt
        openings.append(1)
        open_again(self)

    monkeypatch.setattr(Versus, "open_again", stop)
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output)]) == 130
    (compared,) = results.read(output).compared
    assert (compared.openings, compared.verdict) == (3, "inconclusive")
    assert len(compared.log_ratios) == 3


def test_ctrl_c_before_anything_was_measured(tmp_path: Path, at_call: Change, capsys: Any) -> None:
    at_call(NAME, 2, interrupted)
    output = tmp_path / "bench.json"
    assert main(["bench", *QUICK, "-o", str(output)]) == 130
    assert not output.exists()
    assert "nothing was measured yet" in capsys.readouterr().err


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may become while a bench runs."""

    def write(path: Path, result: Any) -> None:
        raise InputError(f"{path} could not be written (No space left on device)")

    monkeypatch.setattr(results, "write", write)


@pytest.mark.usefixtures("full_disk")
def test_what_cannot_be_written_is_shown_all_the_same(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "bench.json"
    assert main(["bench", *QUICK, "-o", str(output)]) == 2
    shown = capsys.readouterr()
    assert "steady" in shown.out
    assert str(output) not in shown.out
    assert f"{output} could not be written" in shown.err
    assert main(["bench", *QUICK, "-o", str(output), "--json"]) == 2
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["measured"][0]["subject"]["name"] == NAME
    assert "could not be written" in found["reason"]
    assert "could not be written" in shown.err


@pytest.mark.usefixtures("full_disk")
def test_a_wrong_answer_counts_for_more_than_a_full_disk(
    tmp_path: Path, pair: tuple[str, str], at_call: Change, capsys: Any
) -> None:
    at_call("twin", 1, wrong)
    assert main(["bench", *pair, *QUICK, "-o", str(tmp_path / "bench.json")]) == 1
    shown = capsys.readouterr()
    assert "steady" in shown.out
    assert "could not be written" in shown.err and "twin answered wrong" in shown.err
