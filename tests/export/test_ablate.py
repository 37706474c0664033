"""The ablation: every row from the same frozen trunk, gone on with where it stopped, and honest about order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.errors import InputError
from export import ablate, checkpoint
from export.ablation_rows import Ablation, HeldOut, measured
from export.ablation_tables import Row, Tables, markdown, over_seeds
from export.data import Split, open_faces
from export.features import Features
from export.model import ConvCut, Trunk
from export.run_folder import MODEL
from export.synthetic import CLASSES
from export.trainer import Trainer

DATA = "synthetic:160"
SPATIAL = Row("spatial", ((4, 1), (2, 1)))


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the features go."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVCUT_HOME", str(folder))
        yield folder


class Whole(NamedTuple):
    """An ablation of two seeds: its folder, and how many pictures went through a trunk for it."""

    folder: Path
    pictures: int


@pytest.fixture(scope="module")
def ablated(run: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("ablation") / "new"
    command = [str(run / MODEL), "--data", DATA, "-o", str(folder)]
    pictures = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        nonlocal pictures
        pictures += len(given[0]) if isinstance(module, Trunk) else 0

    handle = register_module_forward_hook(count)
    assert ablate.main([*command, "--seeds", "2", "--epochs", "1"]) == 0
    handle.remove()
    return Whole(folder, pictures)


@pytest.fixture(scope="module")
def whole(ablated: Whole) -> Path:
    """The folder of an ablation of two seeds."""
    return ablated.folder


@pytest.fixture
def report(whole: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((whole / "ablation.json").read_text()))


@pytest.fixture
def opened(faces: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """``DATA`` without rendering it again."""
    monkeypatch.setattr(ablate, "faces", lambda source, skip_corrupt: {DATA: faces}[source])


def ablation(run: Path, faces: Dataset, folder: Path, **options: Any) -> Ablation:
    return Ablation(run / MODEL, faces, folder, **{"epochs": 1, **options})


def pretend(row: Row, seed: int) -> dict[str, Any]:
    """What a training would have given."""
    figures = {"accuracy": 0.5 + seed / 100, "macro_f1": 0.4}
    return {
        "row": row.name,
        "seed": seed,
        "positions": 9,
        "official": figures,
        "clean": figures,
        "orders": {"sorted": figures, "shuffled": figures},
        "order_difference": 0.0,
        "seconds": 1.0,
    }


def test_both_tables_are_there_with_the_papers_figures_beside_them(report: dict[str, Any]) -> None:
    tables = report["summary"]
    assert [entry["row"] for entry in tables["table_2"]] == [
        f"{kind}-{layers}" for layers in (0, 2) for kind in ("none", "channel", "spatial", "batch")
    ]
    assert [entry["row"] for entry in tables["table_3"]] == ["spatial-1", "spatial-2", "spatial-3"]
    paper = {entry["row"]: entry["paper"] for entry in tables["table_2"]}
    # The paper's code attends across the batch: its figures are not those of another attention.
    assert paper["batch-2"] == [97.33, 95.69] and paper["none-0"] == [75.62, 75.71]
    assert paper["spatial-2"] is None and paper["channel-0"] is None
    assert len(report["results"]) == 20 and not report["skipped"]
    for entry in tables["table_2"] + tables["table_3"]:
        assert entry["clean_accuracy"]["seeds"] == 2 and entry["clean_accuracy"]["half_width"] >= 0


def test_the_means_are_those_of_the_results(report: dict[str, Any]) -> None:
    def values(row: str) -> list[float]:
        return [e["clean"]["accuracy"] for e in report["results"] if e["row"] == row]

    entry = next(e for e in report["summary"]["table_2"] if e["row"] == "spatial-2")
    assert entry["clean_accuracy"]["mean"] == pytest.approx(np.mean(values("spatial-2")))
    gains = np.subtract(values("spatial-2"), values("none-2"))
    assert entry["over_none"]["mean"] == pytest.approx(gains.mean())


def test_an_interval_is_students() -> None:
    value = over_seeds([0.80, 0.82, 0.84])
    # t(0.975, 2) = 4.30265, standard deviation 0.02, three seeds
    assert value["mean"] == pytest.approx(0.82)
    assert value["half_width"] == pytest.approx(4.30265 * 0.02 / 3**0.5, rel=1e-5)
    assert over_seeds([0.5])["half_width"] is None


def test_the_text_says_what_the_figures_are_of(whole: Path, report: dict[str, Any]) -> None:
    text = (whole / "ablation.md").read_text()
    assert text == markdown(report)
    assert text.count("| spatial | yes |") == 2 and "| 97.33 | 95.69 |" in text
    for said in ("spatial attention and detail extraction 4/1, 2/1", "160 images", "favoured", "±"):
        assert said in text


def test_the_trunks_features_are_computed_once(ablated: Whole, report: dict[str, Any]) -> None:
    # Training, validation and test, and for each a picture that tells the size of its map; 20 trainings read them.
    assert ablated.pictures == (160 + 1) + (20 + 1) + (20 + 1)
    for result in report["results"]:
        cache = result["cache"]
        assert cache["bytes"] == 160 * 16 * 16 * 2  # one epoch sees one view
        epoch = max(result["seconds_per_epoch"], 0.05)
        saved = cache["seconds_per_view"] / epoch
        assert cache["recomputing_over_cached"] == pytest.approx(
            1 + saved, abs=0.05 + 0.005 / epoch
        )


def test_only_the_order_of_batch_matters(report: dict[str, Any]) -> None:
    for entry in report["summary"]["orders"]:
        if entry["attention"] == "batch":
            assert entry["largest_difference"] > 3e-4
        else:
            assert entry["largest_difference"] < 1e-5
            assert entry["single"] == entry["sorted"] == entry["shuffled"]


def test_nothing_but_the_report_is_left(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {"ablation.json", "ablation.md"}


def test_a_finished_ablation_trains_nothing_again_and_more_seeds_only_those(
    run: Path,
    whole: Path,
    opened: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(whole, tmp_path / "whole")
    before = (folder / "ablation.json").read_bytes()
    asked: list[int] = []

    def count(_: Ablation, row: Row, seed: int) -> dict[str, Any]:
        asked.append(seed)
        return pretend(row, seed)

    monkeypatch.setattr(Ablation, "run", count)
    command = [str(run / MODEL), "--data", DATA, "-o", str(folder), "--epochs", "1", "--json"]
    assert ablate.main([*command, "--seeds", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(before) and not asked
    assert ablate.main([*command, "--seeds", "3"]) == 0
    assert asked == [2] * 10
    capsys.readouterr()
    assert ablate.main([*command, "--seeds", "1"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["summary"]["table_2"][0]["clean_accuracy"]["seeds"] == 1
    )


def test_an_interrupted_ablation_keeps_its_rows(
    run: Path, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ablation(run, faces, tmp_path)
    left = 3

    def interrupt(row: Row, seed: int) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return pretend(row, seed)

    monkeypatch.setattr(one, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ablate.ablate(one, 1)
    assert len(json.loads((tmp_path / "ablation.json").read_text())["results"]) == 3
    assert "With " not in (tmp_path / "ablation.md").read_text()  # no row of that table yet
    left = 7
    assert len(ablate.ablate(one, 1)["results"]) == 10


def test_a_row_goes_on_within_its_training(
    run: Path, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = ablation(run, faces, tmp_path / "straight", epochs=3).run(SPATIAL, 1)
    broken = ablation(run, faces, tmp_path / "broken", epochs=3)
    epoch = Trainer._epoch
    left = 1

    def interrupt(trainer: Trainer, bar: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        epoch(trainer, bar)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            broken.run(SPATIAL, 1)
    result = broken.run(SPATIAL, 1)
    assert result["epochs"] == 3
    assert {key: result[key] for key in ("clean", "official", "orders")} == {
        key: straight[key] for key in ("clean", "official", "orders")
    }


def test_a_row_is_the_checkpoints_trunk_with_all_else_learned_anew(
    run: Path, faces: Dataset, tmp_path: Path
) -> None:
    one = ablation(run, faces, tmp_path)
    one.run(SPATIAL, 0)
    ours, note = checkpoint.read(one.folder(SPATIAL, 0) / MODEL)
    theirs, _ = checkpoint.read(run / MODEL)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) == name.startswith("trunk."), name
    assert note["origin"]["trunk_of"] == MODEL and note["recipe"]["training"]["epochs"] == 1


def test_end_to_end_the_trunk_learns_too(
    run: Path, faces: Dataset, tmp_path: Path, home: Path
) -> None:
    before = set((home / "features").glob("*"))
    one = ablation(run, faces, tmp_path, end_to_end=True)
    result = one.run(Row("batch", ()), 0)
    assert result["positions"] == 16 and "cache" not in result
    ours, note = checkpoint.read(one.folder(Row("batch", ()), 0) / MODEL)
    theirs, _ = checkpoint.read(run / MODEL)
    assert not torch.equal(ours["trunk.stem.0.weight"], theirs["trunk.stem.0.weight"])
    assert not note["recipe"]["training"]["frozen_trunk"]
    # Features that no other row can use are not left in the cache.
    assert set((home / "features").glob("*")) == before


def test_orders_are_what_they_are_called() -> None:
    """A model that answers every face with the sum of its batch is right wherever a batch holds one class."""
    labels = np.repeat(np.arange(3), 32)
    mixed = np.random.default_rng(0).permutation(96)
    labels = labels[mixed]
    values = np.eye(3, dtype=np.float16)[labels].reshape(96, 1, 1, 3)
    features = Features((cast(Any, values),), torch.device("cpu"), 0, 0.0)

    def neighbours(maps: Tensor) -> Tensor:
        return maps.sum(dim=0).flatten().expand(len(maps), 3) * 10

    model = SimpleNamespace(
        from_features=neighbours, tail=SimpleNamespace(head=SimpleNamespace(out_features=3))
    )
    split = Split(torch.zeros(96, 1, 1, 1, dtype=torch.uint8), torch.zeros(96, 3))
    clean = np.ones(96, bool)
    result = measured(cast(ConvCut, model), features, HeldOut(split, labels, clean), 0)
    assert result["clean"]["accuracy"] == result["orders"]["sorted"]["accuracy"] == 1
    assert result["orders"]["shuffled"]["accuracy"] < 0.6
    assert result["order_difference"] > 0.9
    # Of unclean faces the official figures alone speak.
    clean[labels == 0] = False
    labels[labels == 0] = 1
    result = measured(cast(ConvCut, model), features, HeldOut(split, labels, clean), 0)
    assert result["official"]["accuracy"] == pytest.approx(2 / 3)
    assert result["clean"]["accuracy"] == 1


def test_layers_are_cut_short_or_added() -> None:
    tables = Tables.around("none", [(3, 1)])
    assert [row.detail for row in tables.third] == [
        ((3, 1),),
        ((3, 1), (2, 1)),
        ((3, 1), (2, 1), (2, 1)),
    ]
    # One layer of attention must be there to speak of layers.
    assert {row.attention for row in tables.third} == {"channel"}
    assert len(tables.rows) == 10


def test_a_row_that_does_not_fit_is_left_out_and_says_why(
    run: Path, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ablation(run, faces, tmp_path)
    one.tables = Tables.around("channel", [(4, 2), (2, 2)])  # 4x4 -> 2x2 -> 1x1 -> nothing
    monkeypatch.setattr(one, "run", pretend)
    said: list[str] = []
    report = ablate.ablate(one, 1, said.append)
    assert list(report["skipped"]) == ["channel-3"]
    assert "4x4 -> 2x2 -> 1x1 -> 0x0" in report["skipped"]["channel-3"]
    assert "channel-3 is left out" in said[0] and "channel-3 is left out" in markdown(report)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"epochs": 2}, "recipe"),
        ({"data": "synthetic:32"}, "data"),
        ({"end_to_end": True}, "recipe, end_to_end"),
    ],
)
def test_another_ablation_is_not_gone_on_with(
    run: Path, whole: Path, faces: Dataset, options: dict[str, Any], what: str
) -> None:
    options = dict(options)
    if "data" in options:
        faces = open_faces(options.pop("data"))
    with pytest.raises(InputError, match=f"another {what}: choose another folder with -o"):
        ablate.ablate(ablation(run, faces, whole, **options), 2)


def test_a_damaged_report_is_refused(run: Path, opened: None, tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text('{"schema": 1, "resul')
    with pytest.raises(InputError, match="ablation.json cannot be read.* -o"):
        ablate.main([str(run / MODEL), "--data", DATA, "-o", str(tmp_path)])


def test_bad_checkpoints_are_refused_before_the_data_is_opened(run: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    for path in (tmp_path / "none.safetensors", tmp_path / "broken.safetensors", run / "run.json"):
        with pytest.raises(InputError, match=path.name):
            ablate.main([str(path), "--data", "nowhere"])


def blank(classes: tuple[str, ...], split: list[int]) -> Dataset:
    images = np.arange(len(split), dtype=np.uint8).repeat(64).reshape(-1, 8, 8)
    return dataset_from_arrays("blank", images, np.arange(len(split)) % 8, classes, split)


def test_data_that_does_not_fit_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give data with the classes of the checkpoint"):
        ablation(run, blank((*CLASSES[:-1], "boredom"), [0, 1, 2] * 8), tmp_path)
    one = ablation(run, blank(CLASSES, [0, 1] * 8), tmp_path)
    with pytest.raises(InputError, match="no test faces of its own"):
        ablate.ablate(one, 1)


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["--epochs", "none"]])
def test_counts_are_whole_and_positive(run: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ablate.main([str(run / MODEL), "--data", DATA, *wrong])
    assert caught.value.code == 2
