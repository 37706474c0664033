"""Training: resumable to the bit, stops on what cannot go on, leaves a frozen trunk alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.errors import ConvcutError, InputError
from export import checkpoint, train
from export.__main__ import main as lab
from export.data import open_faces
from export.evaluate import evaluate
from export.model import create_backbone
from export.recipe import Recipe
from export.to_onnx import trained
from export.train import Trainer
from tests.export import tiny

BRIEF = {"training.epochs": 1}


def trainer(plan: Recipe, faces: Dataset, folder: Path) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(plan, faces, folder, tiny.fabric())


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoint.read(folder / "model.safetensors")[0]


def state(folder: Path) -> dict[str, Tensor]:
    return checkpoint.read(folder / "state.safetensors")[0]


def test_a_run_leaves_a_model_a_state_and_a_note(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {"model.safetensors", "state.safetensors", "run.json"}
    note = json.loads((run / "run.json").read_text())
    assert [entry["epoch"] for entry in note["progress"]["history"]] == [0, 1, 2]
    assert note["training_images"] == 160 and note["validation_images"] == 20
    model, plan, own = trained(run / "model.safetensors")
    assert plan == tiny.recipe() and not model.training
    assert own["progress"]["best_epoch"] <= 2


def test_the_model_is_that_of_the_best_validation_epoch(run: Path) -> None:
    progress = json.loads((run / "run.json").read_text())["progress"]
    accuracies = [entry["validation_accuracy"] for entry in progress["history"]]
    assert progress["best_accuracy"] == pytest.approx(max(accuracies), abs=1e-5)
    assert progress["best_epoch"] == accuracies.index(max(accuracies))


def test_the_weights_move_and_the_loss_falls(run: Path, faces: Dataset) -> None:
    history = json.loads((run / "run.json").read_text())["progress"]["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    torch.manual_seed(tiny.recipe().training.seed)
    start = tiny.recipe().build(8).state_dict()
    moved = [key for key, value in weights(run).items() if not torch.equal(value, start[key])]
    assert {"trunk.stem.0.weight", "tail.head.weight", "tail.attention.score_scale"} <= set(moved)


@pytest.mark.parametrize("interrupted_in", [1, 2])
def test_a_resumed_run_ends_at_the_same_weights(
    run: Path,
    faces: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted_in: int,
) -> None:
    first = trainer(tiny.recipe(), faces, tmp_path)
    steps = first.steps * interrupted_in + 2
    update = first.average.update_parameters

    def interrupt(model: torch.nn.Module) -> None:
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise KeyboardInterrupt
        update(model)

    monkeypatch.setattr(first.average, "update_parameters", interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = trainer(tiny.recipe(), faces, tmp_path)
    second.resume()
    assert second.progress.epoch == interrupted_in
    second.run()
    torch.testing.assert_close(state(tmp_path), state(run), rtol=0, atol=0)
    torch.testing.assert_close(weights(tmp_path), weights(run), rtol=0, atol=0)


def test_a_finished_run_resumes_to_nothing(run: Path, faces: Dataset) -> None:
    before = weights(run)
    again = trainer(tiny.recipe(), faces, run)
    again.resume()
    again.run()
    torch.testing.assert_close(weights(run), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "data", "hint"),
    [
        ({"training.seed": 1}, "synthetic:160", "another recipe"),
        ({}, "synthetic:96", "another training images"),
    ],
)
def test_what_is_not_that_run_is_not_resumed(
    run: Path, changes: dict[str, Any], data: str, hint: str
) -> None:
    other = trainer(tiny.recipe(**changes), open_faces(data), run)
    with pytest.raises(InputError, match=hint):
        other.resume()


def test_there_must_be_something_to_resume(faces: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        trainer(tiny.recipe(), faces, tmp_path).resume()
    (tmp_path / "state.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="no checkpoint of convcut-trt"):
        trainer(tiny.recipe(), faces, tmp_path).resume()


def test_a_loss_that_is_not_finite_stops_the_run(faces: Dataset, tmp_path: Path) -> None:
    one = trainer(tiny.recipe(), faces, tmp_path)
    with torch.no_grad():
        one.bare.tail.head.bias[0] = torch.nan
    with pytest.raises(ConvcutError, match="loss is nan.*epoch 0, batch 0.*learning rate"):
        one.run()
    assert not list(tmp_path.iterdir())


def test_a_gradient_that_is_not_finite_stops_the_run(faces: Dataset, tmp_path: Path) -> None:
    one = trainer(tiny.recipe(), faces, tmp_path)
    weight = one.bare.tail.head.weight
    weight.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
    with pytest.raises(ConvcutError, match="gradient"):
        one.run()


def test_a_frozen_trunk_stays_as_it_was_loaded(faces: Dataset, tmp_path: Path) -> None:
    # Stochastic depth would change the features of a trunk that is left in training mode.
    options = tiny.OPTIONS | {"drop_path_rate": 0.5}
    given = create_backbone("convnext_tiny", options).state_dict()
    torch.save(given, tmp_path / "imagenet.pth")
    plan = tiny.recipe(
        **BRIEF
        | {
            "network.trunk_options": options,
            "network.weights": str(tmp_path / "imagenet.pth"),
            "training.frozen_trunk": True,
        }
    )
    one = trainer(plan, faces, tmp_path / "run")
    modes: list[bool] = []
    one.bare.trunk.register_forward_hook(lambda *_: modes.append(one.bare.trunk.training))
    one.run()
    assert modes and not any(modes)
    optimised = {id(p) for group in one.optimizer.param_groups for p in group["params"]}
    assert optimised == {
        id(p) for name, p in one.bare.named_parameters() if not name.startswith("trunk.")
    }
    ours = weights(tmp_path / "run")
    for key, value in one.bare.trunk.state_dict().items():
        torch.testing.assert_close(value, given[key], rtol=0, atol=0)
        torch.testing.assert_close(ours[f"trunk.{key}"], given[key], rtol=0, atol=0)
    # The weights' file is not asked for again.
    (tmp_path / "imagenet.pth").unlink()
    again = trainer(plan, faces, tmp_path / "run")
    again.resume()
    again.run()


def test_data_must_fill_a_batch_and_have_a_validation_split(tmp_path: Path) -> None:
    images = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 8
    names = [f"c{number}" for number in range(8)]
    for split in (np.zeros(40, int), np.repeat([0, 1], [20, 20])):
        data = dataset_from_arrays("blank", images, labels, names, split)
        with pytest.raises(InputError, match="one batch of 32 and a validation split"):
            trainer(tiny.recipe(), data, tmp_path)


def test_the_verb_trains_and_refuses_to_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'name = "tiny"\n[network]\ntrunk = "convnext_tiny"\ncut = "stage2"\ndetail = [[4, 1], [2, 1]]\n'
        "trunk_options = { depths = [1, 1, 1, 1], dims = [8, 16, 24, 24], patch_size = 2 }\n"
        "[input]\nsize = 32\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\n"
        "[training]\nepochs = 1\nbatch = 16\n"
    )
    command = [
        "train",
        str(recipe),
        "--data",
        "synthetic:32",
        "-o",
        str(tmp_path / "run"),
        "--json",
    ]
    assert lab(command) == 0
    assert json.loads(capsys.readouterr().out)["progress"]["epoch"] == 1
    assert lab(command) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "InputError"
    assert "--resume" in err and "Traceback" not in err
    assert lab([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["bake"],
        ["train", "no-such-recipe", "--data", "synthetic", "-o", "x"],
        ["train", "synthetic", "--data", "nowhere", "-o", "x"],
        ["export", "none.safetensors", "-o", "x"],
        ["evaluate", "none.safetensors", "--data", "synthetic:8"],
        ["evaluate", "none.onnx", "--data", "synthetic:8"],
    ],
)
def test_a_users_mistake_is_one_sentence(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lab(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("convcut-trt: ") and err.count("\n") == 1


@pytest.mark.slow
def test_the_synthetic_recipe_learns_what_no_linear_model_does(tmp_path: Path) -> None:
    """The other half of the claim, logistic regression below 60 %, is in test_synthetic.py."""
    command = ["synthetic", "--data", "synthetic:4000", "-o", str(tmp_path)]
    assert train.main(command) == 0
    report = evaluate(tmp_path / "model.safetensors", "synthetic:4000", "test")
    assert report["official"]["accuracy"] > 0.95
