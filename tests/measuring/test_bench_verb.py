"""The verb ``bench``, from the command line."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convcut_trt.cli import main
from convcut_trt.engine import open_session
from convcut_trt.errors import EngineMismatch
from convcut_trt.home import ZOO
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring import bench_verb, conditions, entrants, results
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.measure import log_ratio
from tests.measuring.benching import NAME, QUICK

pytestmark = pytest.mark.usefixtures("short_and_alone")


def test_the_engines_of_the_cache_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    assert main(["bench", *QUICK, "-o", str(output)]) == 0
    shown = capsys.readouterr()
    assert NAME in shown.out
    assert "steady" in shown.out
    assert "fp16 stored, fp32 computed" in shown.out
    assert str(output) in shown.out
    assert "frame to label" in shown.err  # progress
    found = results.read(output)
    assert found.complete
    assert [one.subject.name for one in found.measured] == [NAME]
    assert found.compared == ()
    (measured,) = found.measured
    manifest = EngineManifest.read(tmp_path / "home" / f"{NAME}.json")
    assert measured.subject.sha256 == manifest.sha256
    assert {gate["name"] for gate in measured.subject.gates} >= {"witnesses", "flips"}
    assert measured.accuracy is None
    assert {series.way for series in measured.series} == {"steady", "after idle", "frame to label"}
    assert str(tmp_path) not in output.read_text()


def test_without_an_output_the_result_lies_in_the_cache(tmp_path: Path) -> None:
    assert main(["bench", *QUICK]) == 0
    (path,) = (tmp_path / "home" / "results").glob("*.json")
    assert results.read(path).complete


def test_two_engines_are_compared(
    tmp_path: Path, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (compared,) = results.read(output).compared
    assert shown["compared"][0]["verdict"] == compared.verdict
    assert (compared.name, compared.other) == (NAME, "twin")
    assert (compared.openings, compared.batch, compared.seconds) == (8, 1, 0.03)
    assert len(compared.log_ratios) == len(compared.name_ms) == len(compared.other_ms) == 8
    assert compared.low is not None and compared.high is not None
    assert compared.low <= compared.ratio <= compared.high
    # what was said can be found again from the calls
    assert len(compared.blocks) == 8
    assert all(0 < len(b.name_ms) == len(b.other_ms) <= 100 for b in compared.blocks)
    logs = [log_ratio(blocks.name_ms, blocks.other_ms) for blocks in compared.blocks]
    assert logs == pytest.approx(compared.log_ratios, abs=0.02)
    assert compared.verdict in ("faster", "slower", "same", "inconclusive")


def test_against_an_engine_is_the_same(tmp_path: Path, pair: tuple[str, str]) -> None:
    output = tmp_path / "bench.json"
    assert main(["bench", pair[0], "--against", pair[1], *QUICK, "-o", str(output)]) == 0
    assert [(c.name, c.other) for c in results.read(output).compared] == [(NAME, "twin")]


def test_a_flagged_machine_proves_nothing(
    tmp_path: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flags = {"swapped": "8 pages went to or came from the swap"}
    monkeypatch.setattr(conditions, "flags", lambda before, after: flags)
    monkeypatch.setattr(
        "convcut_trt.measuring.measure.studentised", lambda values: (0.30, 0.31)
    )  # as clear as can be
    output = tmp_path / "bench.json"
    assert main(["bench", *pair, *QUICK, "-o", str(output)]) == 0
    found = results.read(output)
    assert found.compared[0].verdict == "inconclusive"
    assert (found.compared[0].low or 0) > 1.3
    assert found.measured[0].flags == flags
    assert "inconclusive" in (out := capsys.readouterr().out)
    assert "swapped: 8 pages" in out


def test_several_batches(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    given = ["bench", "--seconds", "0.02", "--batch", "4,1", "-o", str(output)]
    assert main(given) == 0
    (measured,) = results.read(output).measured
    steady = [series.batch for series in measured.series if series.way == "steady"]
    assert steady == [4, 1]


def test_labelled_faces_give_the_accuracy(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("happiness", "sadness"):
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    output = tmp_path / "bench.json"
    given = ["bench", *QUICK, "--data", str(tmp_path / "faces"), "-o", str(output)]
    assert main(given) == 0
    accuracy = results.read(output).measured[0].accuracy
    assert accuracy is not None
    assert accuracy.images == 6
    counts = np.array(list(accuracy.confusion.values()))
    assert counts.shape == (8, 8) and counts.sum() == 6
    assert np.trace(counts) == round(accuracy.share * 6)
    assert accuracy.low <= accuracy.share <= accuracy.high
    assert accuracy.share * 6 == pytest.approx(round(accuracy.share * 6))


def test_with_json_there_is_one_object_whatever_happens(capsys: Any) -> None:
    assert main(["bench", *QUICK, "--json", "--data", "gone"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "InputError"


def test_the_command_is_what_was_run_without_a_folder(tmp_path: Path) -> None:
    for name in ("happiness", "sadness"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        Image.new("L", (48, 48)).save(tmp_path / "faces" / name / "1.png")
    output, model = tmp_path / "bench.json", ZOO / "conv-cut-mini.onnx"
    given = ["--seconds", "0.02", "--batch", "2,1", "--data", f"{tmp_path}/faces/"]
    assert main(["bench", *given, "--model", str(model), "-o", str(output)]) == 0
    assert results.read(output).command == (
        f"convcut-trt bench {NAME} --seconds 0.02 --openings 12 --batch 2,1 --data faces "
        "--model conv-cut-mini.onnx"
    )
    assert main(["bench", "--seconds", "0.02", "-o", str(output)]) == 0
    command = results.read(output).command
    assert command == f"convcut-trt bench {NAME} --seconds 0.02 --openings 12"


def test_a_peer_takes_part(tmp_path: Path, capsys: Any) -> None:
    """Whoever runs the verb may bring other systems along, as the checkout does."""

    def slower(engine: Entrant) -> Entrant:
        return replace(engine, subject=replace(engine.subject, name="another system", kind="peer"))

    options = Namespace(
        engines=[],
        against=["another system"],
        model=None,
        spin=False,
        data=None,
        batch=(1,),
        seconds=0.05,
        openings=8,
        output=tmp_path / "bench.json",
        json=False,
    )
    assert bench_verb.bench(options, {"another system": slower}) == 0
    found = results.read(tmp_path / "bench.json")
    assert [one.subject.kind for one in found.measured] == ["engine", "peer"]
    assert [(c.name, c.other) for c in found.compared] == [(NAME, "another system")]
    options.against = ["a third"]
    with pytest.raises(EngineMismatch, match="one of another system"):
        bench_verb.bench(options, {"another system": slower})


def test_an_engine_whose_threads_spin_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def opened(manifest: EngineManifest, *, spin: bool) -> Any:
        asked.append(spin)
        return open_session(manifest, spin=spin)

    monkeypatch.setattr(entrants, "open_session", opened)
    output = tmp_path / "bench.json"
    assert main(["bench", *QUICK, "--spin", "-o", str(output)]) == 0
    found = results.read(output)
    assert [one.subject.name for one in found.measured] == [f"{NAME} spinning"]
    assert found.command.startswith(f"convcut-trt bench {NAME} --spin --seconds 0.03")
    assert asked == [True]


def change_manifest(tmp_path: Path, **changes: Any) -> None:
    path = tmp_path / "home" / f"{NAME}.json"
    replace(EngineManifest.read(path), **changes).write(path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gone.json"], "gone.json does not exist"),
        (["no-such-model"], "convcut-trt build"),
        (["--against", "gone"], "--against gone is neither an engine"),
        (["--batch", "64"], "was built for batches 1 to 16, not 64"),
        (["--openings", "7"], "give 8 or more"),
        (["-o", "no/such/folder/x.json"], "is no folder"),
        (["-o", "."], ". is a folder: name a file in it"),
        (["-o", "/proc/x.json"], "choose another file with -o"),  # not even root may write there
        (["--data", "gone"], "gone"),
    ],
)
def test_mistakes(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *given]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "steady" not in shown.out  # before anything is measured


@pytest.mark.parametrize(
    "given",
    [
        ["--batch", "0"],
        ["--batch", "1:4:16"],
        ["--batch", "1,,2"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
    ],
)
def test_options_that_are_no_numbers(given: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *given])
    assert caught.value.code == 2


def test_an_engine_given_twice(tmp_path: Path, capsys: Any) -> None:
    path = str(tmp_path / "home" / f"{NAME}.json")
    assert main(["bench", path, path]) == 2
    assert "given twice" in capsys.readouterr().err


def test_an_engine_for_another_device(tmp_path: Path, capsys: Any) -> None:
    change_manifest(tmp_path, flavour="tensorrt", compute_capability="8.7", target="orin-nano-8gb")
    path = str(tmp_path / "home" / f"{NAME}.json")
    assert main(["bench", path]) == 2
    assert "cannot run here" in (said := capsys.readouterr().err)
    assert "convcut-trt build" in said


def test_an_engine_that_failed_its_gates_is_not_timed(tmp_path: Path, capsys: Any) -> None:
    gates = ({"name": "flips", "value": 3, "budget": 0, "verdict": "fail", "detail": ""},)
    change_manifest(tmp_path, gates=gates)
    assert main(["bench", str(tmp_path / "home" / f"{NAME}.json")]) == 2
    assert "failed at flips" in capsys.readouterr().err


def test_an_edited_engine_is_not_opened(tmp_path: Path, capsys: Any) -> None:
    engine = tmp_path / "home" / f"{NAME}.onnx"
    engine.write_bytes(engine.read_bytes() + b"\0")
    assert main(["bench", *QUICK, str(engine)]) == 2
    assert "other SHA-256" in capsys.readouterr().err


def test_without_engines_the_build_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "empty"))
    assert main(["bench"]) == 2
    assert "convcut-trt build conv-cut-mini" in capsys.readouterr().err
