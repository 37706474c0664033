"""The command line: what each verb prints, and its exit code."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convcut_trt import lab
from convcut_trt.cli import main
from convcut_trt.home import ZOO

PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"
ENGINE = "conv-cut-mini.fp16.onnxruntime"
BOX = ["--box", "110,70,100,120"]
RTX = find_spec("tensorrt_rtx") is not None


def call(*arguments: object) -> int:
    """Runs the command line; argparse's own exit counts as its code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_without_arguments_it_shows_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "convcut-trt build --precision fp16" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["build", "predict", "inspect", "doctor"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    text = capsys.readouterr().out
    assert f"example: convcut-trt {verb}" in text
    assert "--json" in text


def test_build_prints_the_gates_and_how_to_run_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--backend", "onnxruntime", "--gate-pictures", 8, "-o", tmp_path]
    assert call("build", "--precision", "fp16", *arguments) == 0
    said = capsys.readouterr()
    for gate in ("witnesses", "loss, median", "flips", "batch invariance", "finite", "stored"):
        assert f"\n{gate}" in said.out
    assert "fp16 stored, fp32 computed" in said.out
    assert f"convcut-trt predict FILE --engine {tmp_path / ENGINE}.json" in said.out
    assert "typed graph" in said.err
    assert "Traceback" not in said.err


@pytest.mark.skipif(not RTX, reason="tensorrt-rtx is not installed")
def test_build_for_another_machine_is_a_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--target", "rtx4060ti", "--gate-pictures", 8, "-o", tmp_path, "--json"]
    assert call("build", *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["published"]
    assert report["flavour"] == "tensorrt-rtx"
    assert report["verified_on"] == "onnxruntime-cpu (stand-in)"
    assert report["precision"]["computed"]["fp16"] > 0.95
    assert Path(report["engine"]).is_file()
    fidelity = next(gate for gate in report["gates"] if gate["name"] == "fidelity")
    assert fidelity["verdict"] == "not run"


def test_a_failed_gate_exits_1_publishes_nothing_and_shows_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--backend", "onnxruntime", "--gate-pictures", 8, "-o", tmp_path]
    assert call("build", *arguments, "--budget", "loss_median=1e-9") == 1
    said = capsys.readouterr()
    assert "loss, median" in said.err
    assert "nothing was published" in said.err
    assert "fail" in said.out
    assert "likeliest cause: " in said.out
    (report,) = tmp_path.iterdir()
    assert report.name == "conv-cut-mini.fp16.onnxruntime.failed.json"
    assert report.name in said.err
    assert call("inspect", report) == 0
    assert "report of a failed build" in capsys.readouterr().out


def test_a_failed_gate_in_json_is_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--backend", "onnxruntime", "--gate-pictures", 8, "-o", tmp_path, "--json"]
    assert call("build", *arguments, "--budget", "loss_median=1e-9") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["published"] is False
    assert any(gate["verdict"] == "fail" for gate in report["gates"])


def test_predict_prints_a_table_and_draws_a_picture(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tmp_path / "new folder" / "out.png"
    assert call("predict", PORTRAIT, *BOX, "--engine", engines, "--draw", drawn) == 0
    assert "%" in capsys.readouterr().out
    with Image.open(drawn) as picture:
        assert picture.height == 480
        assert len(np.unique(np.asarray(picture))) > 50


def test_predict_in_json_holds_every_class(
    engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", PORTRAIT, *BOX, "--engine", engines, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)


def test_predict_draws_several_into_a_folder(engines: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (60, 50), "grey").save(other)
    folder = tmp_path / "drawn"
    assert call("predict", PORTRAIT, other, "--engine", engines, "--draw", folder) == 0
    assert {path.name for path in folder.iterdir()} == {"astronaut.png", "other.png"}


@pytest.mark.parametrize(
    "name", [f"{ENGINE}.json", f"{ENGINE}.onnx", ZOO / "conv-cut-mini.spec.json"]
)
def test_inspect_knows_every_file_of_ours(
    engines: Path, name: str | Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", engines / name) == 0
    assert "conv-cut-mini" in capsys.readouterr().out
    assert call("inspect", engines / name, "--json") == 0
    assert "kind" in json.loads(capsys.readouterr().out)


def test_inspect_knows_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", ZOO / "conv-cut-mini.onnx", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "model"
    assert facts["parameters"] < 2_000_000
    assert facts["ir_version"] <= 10
    assert 18 <= facts["opset"]["ai.onnx"] <= 20


def test_doctor_replays_the_witnesses(engines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--engines", engines, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["engines"][f"{ENGINE}.json"].startswith("runs here, 16 witnesses")
    assert report["backends"]["onnxruntime"] == "runs here"
    assert call("doctor", "--engines", engines) == 0


def test_doctor_names_a_broken_engine_and_exits_1(
    own_engines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_engines / f"{ENGINE}.onnx").write_bytes(b"not an engine")
    assert call("doctor", "--engines", own_engines, "--json") == 1
    assert "SHA-256" in json.loads(capsys.readouterr().out)["engines"][f"{ENGINE}.json"]


def test_doctor_of_an_empty_folder_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("doctor", "--engines", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["next"].startswith("convcut-trt build")


def test_lab_verbs_without_a_checkout_say_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "site-packages" / "convcut_trt" / "lab.py"))
    assert call("train", "conv-cut-mini") == 2
    assert "pip install -e '.[lab]'" in capsys.readouterr().err


def test_lab_verbs_run_the_checkout_from_anywhere(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "export").mkdir()  # an unlucky name in the current folder must not stand for ours
    (tmp_path / "export" / "__init__.py").write_text("raise SystemExit(9)")
    command = [sys.executable, "-m", "convcut_trt"]
    done = subprocess.run(
        [*command, "train", "no-such-recipe", "--data", "nowhere", "-o", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there is no recipe 'no-such-recipe'" in done.stderr
    assert "Traceback" not in done.stderr
