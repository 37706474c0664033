"""Engines of every form: real builds, refusals as rows, both files alike, mistakes as a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from bench import engines
from bench.engines import Measured, Row, markdown, measure, read
from convcut_trt import backends, devices
from convcut_trt.backends.base import BuildOptions, BuiltEngine, Layer
from convcut_trt.errors import BuildError, InputError
from convcut_trt.guard import guarded
from convcut_trt.home import Model
from convcut_trt.precision.typed import form_of
from tests import block, models

SM = "sm_86"
ONE = (1, 1, 1)
FP16, INT8 = form_of("fp16", False, None, None), form_of("int8", False, "fc2", None)


def needs_builder() -> None:
    """Skips where there is no TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx")


def run(*arguments: str | Path) -> int:
    """What the shell gets."""
    return guarded(lambda: engines.main([str(each) for each in arguments]), as_json=False)


def cells(text: str, model: str) -> dict[str, dict[str, str]]:
    """Form -> column -> cell of a model's table."""
    lines = text.split(f"## {model}\n")[1].split("\n## ")[0].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    head, _, *body = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo model in FP16 and INT8, for one target and a fixed batch, as the command writes it."""
    needs_builder()
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "FORMS", (FP16, INT8))
        assert run("conv-cut-mini", "--target", "sm86", "--batch", "1", "-o", folder) == 0
    return folder


def test_the_zoo_model_builds(zoo_folder: Path) -> None:
    measured = read(zoo_folder / engines.NAME)["conv-cut-mini"]
    assert measured.onnx_sha256 == models.zoo().spec.onnx_sha256
    assert measured.trained
    fp16, int8 = measured.rows
    assert (fp16.form, int8.form) == ("fp16", "int8 (fc2)")
    for row in measured.rows:
        assert (row.sm, row.batch, row.refused) == (SM, ONE, "")
        assert row.seconds and row.seconds > 0
        assert row.computed and row.computed > 0.99
        assert row.computed_in_plan == pytest.approx(row.computed, abs=1e-3)
        # No engine is smaller than its weights: 1.3 M of 2 bytes, in INT8 some of 1 byte.
        assert row.megabytes and 1.3 < row.megabytes < 20
    assert fp16.operations and int8.operations
    assert int8.operations > fp16.operations


def test_both_files_say_the_same_and_name_no_place(zoo_folder: Path) -> None:
    text = (zoo_folder / "engines.json").read_text()
    said = (zoo_folder / "engines.md").read_text()
    for place in (Path(__file__).parents[2], Path.home(), zoo_folder, "/tmp"):  # noqa: S108 only looked for
        assert str(place) not in text + said
    values = json.loads(text)
    assert values["schema"] == engines.SCHEMA
    table = cells(said, "conv-cut-mini")
    rows = values["models"]["conv-cut-mini"]["rows"]
    assert list(table) == [row["form"] for row in rows]
    for row in rows:
        found = table[row["form"]]
        assert found[f"{SM}, batch 1"] == f"{row['megabytes']:.1f} / {row['operations']}"
        assert found["seconds"] == f"{row['seconds']:.1f}"


def test_a_second_model_leaves_the_first_where_it_is(zoo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / engines.NAME).write_bytes((zoo_folder / engines.NAME).read_bytes())
    model = drawn(tmp_path / "drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "FORMS", (FP16,))
        assert run(model.folder, "--target", "sm86", "--batch", "1", "-o", tmp_path) == 0
    found = read(tmp_path / engines.NAME)
    assert list(found) == ["conv-cut-mini", "drawn"]
    assert found["conv-cut-mini"] == read(zoo_folder / engines.NAME)["conv-cut-mini"]
    assert set(cells((tmp_path / "engines.md").read_text(), "drawn")) == {"fp16"}


def drawn(folder: Path, model: onnx.ModelProto | None = None) -> Model:
    """An exported model of one block, without ranges."""
    zoo = models.zoo().spec
    spec = replace(
        zoo,
        name="drawn",
        classes=tuple("abcde"),
        size=block.SIZE,
        map_shape=(block.CHANNELS, block.SIDE, block.SIDE),
        witnesses=tuple(replace(each, probabilities=(0.2,) * 5) for each in zoo.witnesses),
        provenance={},
    )
    return models.write(folder, block.network() if model is None else model, spec)


def transposed_first(model: onnx.ModelProto) -> None:
    """Pictures are turned before they are cast: the builder takes no transpose of uint8."""
    nodes = {node.name: node for node in model.graph.node}
    cast, turn = nodes["cast"], nodes["nchw"]
    turn.input[0], turn.output[0] = "images", "turned images"
    cast.input[0], cast.output[0] = "turned images", "nchw"
    model.graph.node.remove(cast)
    model.graph.node.insert(1, cast)


def test_what_the_builder_refuses_is_a_row(tmp_path: Path) -> None:
    needs_builder()
    model = drawn(tmp_path, models.changed(block.network(), transposed_first))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "FORMS", (form_of("fp32", False, None, None),))
        measured = measure(model, [devices.find("sm86")], [ONE], lambda engine: None)
    (row,) = measured.rows
    assert row.refused
    assert row.megabytes is row.operations is row.seconds is row.computed is None


class Refuses:
    """A builder that refuses everything but fixed batches of one, at length, naming its file."""

    def __init__(self) -> None:
        self.folder, self.version = "", "0"

    def versions(self) -> dict[str, str]:
        return {"tensorrt_rtx": self.version}

    def build(self, path: Path, options: BuildOptions) -> BuiltEngine:
        self.folder = str(path.parent)
        if options.batch != (1, 1, 1):
            raise BuildError(f"cannot build {path}:\n{'because ' * 100}")
        layers = (Layer("a", "Conv", "fp32", 3), Layer("b", "Conv", "fp16", 1))
        return BuiltEngine(b"12345", "rtx", "0", ((8, 6),), layers, None, "", 1.0, None)


@pytest.fixture
def refuses(monkeypatch: pytest.MonkeyPatch) -> Refuses:
    builder = Refuses()
    monkeypatch.setattr(backends, "get", lambda name: builder)
    return builder


def test_refusals_are_short_and_told_apart(refuses: Refuses, tmp_path: Path) -> None:
    model = drawn(tmp_path)
    assert run(model.onnx, "--target", "sm86", "sm120", "-o", tmp_path) == 0
    rows = read(tmp_path / engines.NAME)["drawn"].rows
    assert len(rows) == len(engines.FORMS) * 2 * 2
    for row in rows:
        assert len(row.refused) <= 200
        assert "\n" not in row.refused
        if row.form.startswith("int8"):
            assert "--ranges" in row.refused
        else:
            assert bool(row.refused) == (row.batch != ONE)
            assert not row.refused or row.refused.startswith("cannot build drawn.onnx: because")
    text = (tmp_path / "engines.md").read_text()
    assert refuses.folder not in text
    table = cells(text, "drawn")
    assert table["fp16"]["sm_120, batch 1:4:16"] == "refused"
    assert table["fp16"]["sm_120, batch 1"] == "0.0 / –"
    assert table["fp16"]["computed as asked"] == "25.0% / –"
    assert table["int8 (pw)"]["seconds"] == "–"
    said = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(said) == len(engines.FORMS)
    assert (
        sum("refused for sm_86, batch 1:4:16; sm_120, batch 1:4:16:" in line for line in said) == 4
    )


def test_names_of_one_capability_are_one_target(refuses: Refuses, tmp_path: Path) -> None:
    drawn(tmp_path)
    assert run(tmp_path, "--target", "rtx3060", "a2", "--batch", "1", "-o", tmp_path) == 0
    rows = read(tmp_path / engines.NAME)["drawn"].rows
    assert [row.sm for row in rows] == [SM] * len(engines.FORMS)


def test_targets_may_come_one_after_the_other(refuses: Refuses, tmp_path: Path) -> None:
    drawn(tmp_path)
    once = len(engines.FORMS)
    for target, count in (("sm86", once), ("sm120", 2 * once), ("sm86", 2 * once)):
        assert run(tmp_path, "--target", target, "--batch", "1", "-o", tmp_path) == 0
        assert len(read(tmp_path / engines.NAME)["drawn"].rows) == count
    table = cells((tmp_path / "engines.md").read_text(), "drawn")
    assert {"sm_86, batch 1", "sm_120, batch 1"} < set(table["fp16"])
    refuses.version = "1"  # what another builder made stands in no table with it
    assert run(tmp_path, "--target", "sm89", "--batch", "1", "-o", tmp_path) == 0
    assert {row.sm for row in read(tmp_path / engines.NAME)["drawn"].rows} == {"sm_89"}


def test_an_untrained_network_is_called_so() -> None:
    row = Row("fp16", SM, ONE, "", 1.25, 7, 0.5, 1.0, 1.0)
    for trained, told in ((False, True), (True, False), (None, False)):
        measured = Measured("0" * 64, 48, 10, trained, {}, {"processor": "x", "cores": 1}, (row,))
        assert ("random weights" in markdown({"a": measured})) == told


def damage(change: Callable[[Any], None]) -> str:
    row = {"form": "fp16", "sm": SM, "batch": [1, 1, 1]}
    model = {
        "onnx_sha256": "0" * 64,
        "pixels": 48,
        "weights": 1,
        "trained": True,
        "versions": {},
        "machine": {},
        "rows": [row],
    }
    values = {"schema": engines.SCHEMA, "models": {"a": model}}
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(schema=0),
        lambda values: values.pop("models"),
        lambda values: values["models"]["a"].pop("rows"),
        lambda values: values["models"]["a"]["rows"][0].update(operations="many"),
    ],
)
def test_damaged_results_are_not_written_over(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    path = tmp_path / engines.NAME
    path.write_text(damage(lambda values: None))
    assert read(path)
    path.write_text(damage(change))
    before = path.read_bytes()
    with pytest.raises(InputError, match=engines.NAME):
        read(path)
    assert run("conv-cut-mini", "-o", tmp_path) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-model"],
        ["missing.onnx"],
        ["conv-cut-mini", "--target", "rtx9999"],
        ["conv-cut-mini", "--target", "xavier-nx"],
        ["conv-cut-mini", "-o", "no/such/folder"],
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("-o", tmp_path, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert said.err.startswith("convcut-trt: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", ["4:1", "4:2:1", "0", "many"])
def test_a_batch_that_is_none_is_a_mistake(
    batch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("conv-cut-mini", "--batch", batch, "-o", tmp_path)
    assert stopped.value.code == 2
    assert "is not MIN:OPT:MAX" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_model_is_a_mistake() -> None:
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2


def test_ranges_of_another_model_are_a_mistake(refuses: Refuses, tmp_path: Path) -> None:
    model = drawn(tmp_path)
    other = models.zoo().onnx.with_suffix(".ranges.json")
    model.onnx.with_suffix(".ranges.json").write_bytes(other.read_bytes())
    assert run(model.onnx, "-o", tmp_path) == 2
    assert not (tmp_path / engines.NAME).exists()


def test_a_device_without_engines_is_a_mistake(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    needs_builder()
    assert run("conv-cut-mini", "--target", "t4", "-o", tmp_path) == 2
    assert "T4" in capsys.readouterr().err
