"""``bench --sweep``: from the command line, interrupted everywhere, and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt import auto, cli
from convcut_trt.cli import main
from convcut_trt.errors import GateFailed, InputError
from convcut_trt.gates import Gate, judged
from convcut_trt.home import ZOO
from convcut_trt.measuring import (
    conditions,
    provenance,
    results,
    sweep,
    sweep_cell,
    sweep_plan,
    sweep_table,
    timed,
)
from convcut_trt.measuring.apart import Crashed
from convcut_trt.measuring.results import Compared, Result
from convcut_trt.measuring.sweep_cell import Opponent, Unwritable
from convcut_trt.measuring.sweep_plan import Asked, Cell
from convcut_trt.measuring.sweep_table import Fate

NETWORK = "conv-cut-mini"
FP32, FP16 = (f"{NETWORK}.{precision}.onnxruntime.conv" for precision in ("fp32", "fp16"))
LINEAR = f"{NETWORK}.fp32.onnxruntime.linear"
BF16 = f"{NETWORK}.bf16.onnxruntime.conv"
QUICK = ["--seconds", "0.02", "--openings", "8", "--batch", "1"]
SWEEP = ["bench", "--sweep", "--backend", "onnxruntime", "--precision", "fp32,fp16", *QUICK]


def here(function: Callable[..., Any], *arguments: Any, step: Any) -> Any:
    """Stands in for a process of its own: patches reach it, and it starts in no time."""
    return function(*arguments, step)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a sweep that was really run: two engines."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "apart", here)
        patch.setattr(auto, "SECONDS_EACH", 0.005)
        patch.setattr(timed, "WARM_UP_S", 0.02)
        patch.setattr(conditions, "flags", lambda before, after: {})
        patch.setattr(
            "convcut_trt.measuring.timed.gc.collect", lambda: 0
        )  # slow among many objects
        few = judged.bundled(48, 4)
        patch.setattr(judged, "bundled", lambda size, count=None: few)
        assert main([*SWEEP, "--mlp", "conv", "-o", str(folder)]) == 0
    yield folder


class Stub:
    """Does a cell as the real sweep did it, and can be told to fail.

    Attributes:
        done: Cells that were begun, in order, each with what it was compared with.
        failures: Cell -> what it raises.
    """

    def __init__(self, real: Path) -> None:
        self._real = real
        self.done: list[tuple[str, str]] = []
        self.failures: dict[str, BaseException] = {}

    def __call__(
        self, cell: Cell, asked: Asked, folder: Path, opponent: Opponent | None, step: Any
    ) -> Result:
        self.done.append((cell.name, opponent.name if opponent else ""))
        step("building", 0, 1)
        if cell.name in self.failures:
            raise self.failures[cell.name]
        source = self._real / "engines" / (FP16 if ".fp16." in cell.name else FP32)
        found = results.read(source / "result.json")
        for path in source.glob(f"{NETWORK}.*"):
            shutil.copyfile(path, folder / path.name)
        shutil.copytree(source / "witnesses", folder / "witnesses", dirs_exist_ok=True)
        (measured,) = found.measured
        subject = replace(measured.subject, name=cell.name)
        compared = results.read(self._real / "sweep.json").compared[:1]
        if opponent is not None:
            compared = tuple(replace(c, name=cell.name, other=opponent.name) for c in compared)
        return replace(
            found,
            measured=(replace(measured, subject=subject),),
            compared=compared if opponent else (),
        )


@pytest.fixture
def stub(real: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    made = Stub(real)
    monkeypatch.setattr(sweep, "work", made)
    monkeypatch.setattr(sweep, "apart", here)
    monkeypatch.setattr("convcut_trt.fields.os.fsync", lambda file: None)
    # both take a moment, and every cell asks
    machine, commit = provenance.machine(), provenance.commit()
    monkeypatch.setattr(provenance, "machine", lambda: machine)
    monkeypatch.setattr(provenance, "commit", lambda: commit)
    return made


def run(folder: Path, *more: str) -> int:
    """Four engines, those of ``ALL`` in that order, where no options say otherwise."""
    return main([*SWEEP, *more, "-o", str(folder)])


def names(stub: Stub) -> list[str]:
    return [name for name, _ in stub.done]


ALL = [FP32, LINEAR, FP16, f"{NETWORK}.fp16.onnxruntime.linear"]


def test_engines_are_built_measured_and_compared(real: Path) -> None:
    found = results.read(real / "sweep.json")
    assert found.complete
    assert [one.subject.name for one in found.measured] == [FP32, FP16]
    assert [one.subject.asked for one in found.measured] == ["fp32", "fp16"]
    assert all(one.subject.gates for one in found.measured)
    (compared,) = found.compared
    assert (compared.name, compared.other, compared.batch) == (FP16, FP32, 1)
    assert compared.openings == len(compared.log_ratios) == 8
    assert found.command == (
        "convcut-trt bench --sweep --precision fp32,fp16 --mlp conv --backend onnxruntime "
        "--batch 1 --seconds 0.02 --openings 8"
    )
    assert str(real) not in (real / "sweep.json").read_text()
    for name in (FP32, FP16):
        assert list((real / "engines" / name).glob(f"{NETWORK}.*.json"))


def test_what_is_done_is_not_done_again(tmp_path: Path, stub: Stub, capsys: Any) -> None:
    assert run(tmp_path) == 0
    assert stub.done == [(name, FP32 if name != FP32 else "") for name in ALL]
    first = results.read(tmp_path / "sweep.json")
    assert "0 of them done before" in capsys.readouterr().err
    stub.done.clear()
    assert run(tmp_path) == 0
    assert stub.done == []
    shown = capsys.readouterr()
    assert "4 of them done before" in shown.err
    assert f"{tmp_path / 'sweep.json'}" in shown.out
    again = results.read(tmp_path / "sweep.json")
    assert (again.measured, again.compared) == (first.measured, first.compared)


@pytest.mark.parametrize("place", range(4))
def test_ctrl_c_at_every_cell(tmp_path: Path, stub: Stub, capsys: Any, place: int) -> None:
    stub.failures[ALL[place]] = KeyboardInterrupt()
    assert run(tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().err
    if place:
        kept = results.read(tmp_path / "sweep.json")
        assert not kept.complete
        assert [one.subject.name for one in kept.measured] == ALL[:place]
    else:
        assert not (tmp_path / "sweep.json").exists()
    stub.failures.clear()
    stub.done.clear()
    assert run(tmp_path) == 0
    assert names(stub) == ALL[place:]
    found = results.read(tmp_path / "sweep.json")
    assert found.complete
    assert [one.subject.name for one in found.measured] == ALL


class Killed(BaseException):
    """As kill -9: nothing is done any more."""


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("where", ["write_json", "results.write"])
def test_killed_while_a_cell_is_written(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, place: int, where: str
) -> None:
    owner, name = (sweep, where) if where == "write_json" else (results, "write")
    write, left = getattr(owner, name), [place if where == "write_json" else 2 * place]

    def killed(path: Path, values: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        write(path, values)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            run(tmp_path)
    stub.done.clear()
    assert run(tmp_path) == 0
    assert names(stub) == ALL[place:]
    assert results.read(tmp_path / "sweep.json").complete


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20] + b"0" * 20)


@pytest.mark.parametrize(
    "file",
    [
        "cell.json",
        "result.json",
        f"{NETWORK}.fp16.onnxruntime.onnx",
        f"{NETWORK}.fp16.onnxruntime.json",
    ],
)
@pytest.mark.parametrize("change", [damage, Path.unlink])
def test_a_cell_whose_files_changed_is_done_again(
    tmp_path: Path, stub: Stub, capsys: Any, file: str, change: Callable[[Path], None]
) -> None:
    run(tmp_path, "--mlp", "conv")
    change(tmp_path / "engines" / FP16 / file)
    stub.done.clear()
    capsys.readouterr()
    assert run(tmp_path, "--mlp", "conv") == 0
    assert stub.done == [(FP16, FP32)]
    said = f"{FP16} is done again" in capsys.readouterr().err
    assert said or (file, change) == ("cell.json", Path.unlink)
    assert results.read(tmp_path / "sweep.json").complete


@pytest.mark.parametrize("what", ["version", "seconds", "model"])
def test_what_everything_depends_on_makes_all_stale(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    copy = tmp_path / "zoo"
    shutil.copytree(ZOO, copy)
    model = str(copy / f"{NETWORK}.onnx")
    folder = tmp_path / "sweep"
    assert run(folder, "--mlp", "conv", model) == 0
    stub.done.clear()
    more: list[str] = []
    if what == "version":
        monkeypatch.setattr(sweep_plan, "__version__", "99")
    elif what == "seconds":
        more = ["--seconds", "0.03"]
    else:
        spec = copy / f"{NETWORK}.spec.json"
        values = json.loads(spec.read_text())
        values["margin"] += 0.01
        spec.write_text(json.dumps(values))
    assert run(folder, "--mlp", "conv", model, *more) == 0
    assert names(stub) == [FP32, FP16]


def test_another_first_engine_is_another_comparison(tmp_path: Path, stub: Stub) -> None:
    run(tmp_path)
    (tmp_path / "engines" / FP32 / "cell.json").unlink()
    stub.failures[FP32] = GateFailed("no", gates=[Gate("flips", 3.0, 0.0, "fail", "")])
    stub.done.clear()
    assert run(tmp_path) == 0
    # LINEAR is the same engine in this test: those behind it keep what they were compared with
    assert stub.done[:2] == [(FP32, ""), (LINEAR, "")]
    found = results.read(tmp_path / "sweep.json")
    assert found.skipped[FP32] == "failed: at flips"
    assert [one.subject.name for one in found.measured] == ALL[1:]


def test_what_failed_is_a_row_and_is_kept(tmp_path: Path, stub: Stub, capsys: Any) -> None:
    gate = Gate("flips", 3.0, 0.0, "fail", "")
    stub.failures = {
        LINEAR: GateFailed("no", gates=[gate]),
        FP16: InputError("this network has no such thing"),
        ALL[3]: Crashed("its process crashed (SIGSEGV)"),
    }
    assert run(tmp_path, "--precision", "fp32,fp16,bf16") == 0
    out = capsys.readouterr().out
    for said in (
        "failed: at flips",
        "refused: this network has no such thing",
        "SIGSEGV",
        "bf16 kernels",
    ):
        assert said in out
    found = results.read(tmp_path / "sweep.json")
    assert set(found.skipped) >= {LINEAR, FP16, ALL[3], BF16}
    assert not found.complete  # what crashed is tried again
    stub.done.clear()
    assert run(tmp_path, "--precision", "fp32,fp16,bf16") == 0
    assert names(stub) == [ALL[3]]


def test_a_full_disk_ends_it_and_nothing_is_lost(tmp_path: Path, stub: Stub, capsys: Any) -> None:
    stub.failures[FP16] = Unwritable("no space left on the device")
    assert run(tmp_path) == 2
    assert "no space left" in capsys.readouterr().err
    assert len(results.read(tmp_path / "sweep.json").measured) == 2
    stub.failures.clear()
    stub.done.clear()
    assert run(tmp_path) == 0
    assert names(stub) == ALL[2:]


def test_where_nothing_passes_it_says_so(tmp_path: Path, stub: Stub, capsys: Any) -> None:
    stub.failures = {name: GateFailed("no") for name in ALL}
    assert run(tmp_path) == 1
    assert "no engine of this sweep passed" in capsys.readouterr().err
    assert not (tmp_path / "sweep.json").exists()


def test_the_fastest_is_named_and_what_is_not_told_apart_from_it(real: Path) -> None:
    found = results.read(real / "sweep.json")
    cells = sweep_plan.plan(cli._parser().parse_args([*SWEEP, "--mlp", "conv"]))
    (as_measured,) = found.compared
    best = replace(as_measured, verdict="faster", ratio=1.3, low=1.2, high=1.4)
    passed = {name: Fate("passed", "") for name in (FP32, FP16)}

    def said(*compared: Compared) -> str:
        return sweep_table.text(cells, passed, replace(found, compared=compared), (1,))

    assert f"{FP16} is the fastest that passed, 1.30x {FP32} (1.20 to 1.40)" in said(best)
    assert "told apart" not in said(best)
    third = replace(found.measured[1].subject, name="third")
    found = replace(found, measured=(*found.measured, replace(found.measured[1], subject=third)))
    close = replace(best, name="third", ratio=1.15, low=1.1, high=1.21)
    assert "not told apart from it: third" in said(best, close)
    assert "told apart" not in said(best, replace(close, high=1.19))
    for verdict in ("slower", "same", "inconclusive"):
        assert f"none that passed is shown to be faster than {FP32}" in said(
            replace(best, verdict=verdict)
        )


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (OSError(28, "No space left on device"), Unwritable),
        (InputError("this network has no such thing"), InputError),
        (GateFailed("no"), GateFailed),
    ],
)
def test_a_full_disk_is_no_fate_of_a_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception, kind: type[Exception]
) -> None:
    def fail(*arguments: Any) -> None:
        raise cause

    def refuse(*arguments: Any) -> None:
        try:
            fail()
        except OSError:
            raise InputError("it could not be written") from None

    cell = Cell(ZOO / f"{NETWORK}.onnx", NETWORK, "fp32", "onnxruntime", "", "conv", "native")
    asked = Asked((1,), 0.02, 8, None)
    for how in (fail, refuse):
        monkeypatch.setattr(sweep_cell, "build", how)
        with pytest.raises(kind) as caught:
            sweep_cell.work(cell, asked, tmp_path, None, step=lambda *step: None)
        assert type(caught.value) is kind


def test_the_command_names_the_faces_without_their_folder(tmp_path: Path, stub: Stub) -> None:
    faces = tmp_path / "faces.npz"
    faces.write_bytes(b"never opened here")
    assert run(tmp_path / "out", "--mlp", "conv", "--data", str(faces)) == 0
    assert results.read(tmp_path / "out/sweep.json").command.endswith("--data faces.npz")


def test_json_is_one_object(tmp_path: Path, stub: Stub, capsys: Any) -> None:
    assert run(tmp_path, "--json", "--precision", "fp32,bf16", "--mlp", "conv") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["complete"]
    assert shown["cells"][FP32] == {"fate": "passed", "reason": ""}
    assert shown["cells"][BF16]["fate"] == "refused"
