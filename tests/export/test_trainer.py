"""The loop: resumable to the bit wherever it is killed, stops on what cannot go on, keeps a frozen trunk."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from convcut_trt.datasets import Dataset, dataset_from_arrays
from convcut_trt.errors import ConvcutError, InputError
from export import checkpoint, optimise
from export.data import normalise, open_faces
from export.model import ConvCut, create_backbone
from export.recipe import Recipe
from export.to_onnx import trained
from export.trainer import Trainer
from tests.export import tiny

BRIEF = {"training.epochs": 1}


def trainer(plan: Recipe, faces: Dataset, folder: Path, **options: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(plan, faces, folder, tiny.fabric(), **options)


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoint.read(folder / "model.safetensors")[0]


@torch.inference_mode()
def predict_logits(model: torch.nn.Module, one: Trainer) -> Tensor:
    return cast(Tensor, model(normalise(one.material.validation.images, one.plan.input)))


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


def killed(plan: Recipe, faces: Dataset, folder: Path, states: int, moment: float) -> None:
    """Trains, or goes on, in a process of its own that is killed some moment after it has saved so many states."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        one = trainer(plan, faces, folder, save_every=0.0)
        one.resume() if (folder / "state.safetensors").exists() else one.run()
        os._exit(0)
    seen: set[int] = set()
    while len(seen) < states:
        with suppress(OSError):
            seen.add((folder / "state.safetensors").stat().st_mtime_ns)
        assert os.waitpid(child, os.WNOHANG)[0] == 0, "it ended before it was killed"
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.schedule": "plateau", "training.optimizer": "adam"},
        {"second_stage": {"epochs": 2, "batch": 16, "schedule": "inverse-time", "dropout": 0.3}},
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(
    faces: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    plan = tiny.recipe(**changes)
    trainer(plan, faces, tmp_path / "whole").run()
    folder = tmp_path / "killed"
    for states, moment in ((2, 0.003), (4, 0.0), (3, 0.011), (2, 0.007)):
        killed(plan, faces, folder, states, moment)
    again = trainer(plan, faces, folder)
    again.resume()
    torch.testing.assert_close(weights(folder), weights(tmp_path / "whole"), rtol=0, atol=0)
    ours, whole = state(folder), state(tmp_path / "whole")
    torch.testing.assert_close(ours, whole, rtol=0, atol=0)


def test_attention_across_the_batch_is_validated_one_face_at_a_time(
    faces: Dataset, tmp_path: Path
) -> None:
    still = {"network.attention": "batch", "training.learning_rate": 1e-9}
    plan = tiny.recipe(**BRIEF | still)
    model = tiny.network(plan)

    def start(network: ConvCut, _: tuple[str, ...]) -> dict[str, Any]:
        network.load_state_dict(model.state_dict())
        return {}

    one = trainer(plan, faces, tmp_path, start=start)
    images = normalise(one.material.validation.images, plan.input)
    with torch.inference_mode():
        alone = torch.cat([model(image[None]) for image in images]).argmax(1)
        assert (model(images).argmax(1) != alone).any()
    one.material.validation.targets.copy_(torch.eye(8)[alone])
    one.run()
    assert one.progress.best_accuracy == 1.0


def test_every_step_can_be_resumed_from(
    run: Path, faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trainer(tiny.recipe(), faces, tmp_path, save_every=0.0)
    step, left = first._step, first.material.train.images.shape[0] // 32 + 2

    def interrupt(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(first, "_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    note = json.loads((tmp_path / "run.json").read_text())["progress"]
    assert (note["epoch"], note["step"]) == (1, 2)
    second = trainer(tiny.recipe(), faces, tmp_path)
    second.resume()
    torch.testing.assert_close(state(tmp_path), state(run), rtol=0, atol=0)
    torch.testing.assert_close(weights(tmp_path), weights(run), rtol=0, atol=0)


def test_a_finished_run_resumes_to_nothing(run: Path, faces: Dataset) -> None:
    before = weights(run)
    again = trainer(tiny.recipe(), faces, run)
    again.resume()
    torch.testing.assert_close(weights(run), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "data", "hint"),
    [
        ({"training.seed": 1}, "synthetic:160", "another recipe"),
        ({}, "synthetic:96", "another data"),
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
        one.network.tail.head.bias[0] = torch.nan
    with pytest.raises(ConvcutError, match="loss is nan.*epoch 0, batch 0.*learning rate"):
        one.run()
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_lost_later_keeps_the_last_good_state(
    faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(tiny.recipe(), faces, tmp_path)
    targets, poisoned = one.material.train.targets, one.material.train.targets.clone() * torch.nan
    record = one._record

    def poison(seconds: float) -> None:
        record(seconds)
        one.material.train.targets.copy_(poisoned)

    monkeypatch.setattr(one, "_record", poison)
    with pytest.raises(ConvcutError, match="epoch 1, batch 0.*keeps the last good state"):
        one.run()
    assert torch.isfinite(torch.cat([t.flatten().float() for t in state(tmp_path).values()])).all()
    assert json.loads((tmp_path / "run.json").read_text())["progress"]["epoch"] == 1
    assert targets.isnan().all()


def test_a_full_disk_keeps_the_former_checkpoint(
    faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(tiny.recipe(), faces, tmp_path)
    kept: list[bytes] = []
    flush, state_file = os.fsync, tmp_path / "state.safetensors"

    def full(descriptor: int) -> None:
        if state_file.exists():
            kept.append(state_file.read_bytes())
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left.*free some space"):
        one.run()
    assert (tmp_path / "state.safetensors").read_bytes() == kept[0]
    assert {path.name for path in tmp_path.iterdir()} <= {
        "model.safetensors",
        "state.safetensors",
        "run.json",
    }


def test_a_gradient_that_is_not_finite_stops_the_run(faces: Dataset, tmp_path: Path) -> None:
    one = trainer(tiny.recipe(), faces, tmp_path)
    weight = one.network.tail.head.weight
    weight.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
    with pytest.raises(ConvcutError, match="gradient"):
        one.run()


FROZEN = BRIEF | {"training.frozen_trunk": True, "training.views": 2, "training.epochs": 3}


def imagenet(folder: Path) -> dict[str, Any]:
    """A file of weights, and the recipe's change that names it; stochastic depth would change features."""
    options = tiny.OPTIONS | {"drop_path_rate": 0.5}
    torch.manual_seed(7)
    torch.save(create_backbone("convnext_tiny", options).state_dict(), folder / "imagenet.pth")
    path = str(folder / "imagenet.pth")
    return {"network.trunk_options": options, "network.weights": path}


def test_a_frozen_trunk_stays_as_it_was_loaded(faces: Dataset, tmp_path: Path) -> None:
    plan = tiny.recipe(**FROZEN | imagenet(tmp_path))
    given = torch.load(tmp_path / "imagenet.pth")
    one = trainer(plan, faces, tmp_path / "run", cache=tmp_path / "cache")
    one.run()
    ours = weights(tmp_path / "run")
    for key, value in one.network.trunk.state_dict().items():
        torch.testing.assert_close(value, given[key], rtol=0, atol=0)
        torch.testing.assert_close(ours[f"trunk.{key}"], given[key], rtol=0, atol=0)
    assert not torch.equal(ours["tail.head.weight"], plan.build(8).state_dict()["tail.head.weight"])
    # Neither the weights' file nor the trunk is asked again.
    (tmp_path / "imagenet.pth").unlink()
    again = trainer(plan, faces, tmp_path / "run", cache=tmp_path / "cache")
    again.network.trunk.register_forward_hook(lambda *_: pytest.fail("the trunk was computed"))
    again.resume()


def test_a_head_on_cached_features_learns_what_it_does_on_the_network(
    faces: Dataset, tmp_path: Path
) -> None:
    plan = tiny.recipe(**FROZEN | imagenet(tmp_path) | {"network.dropout": 0.0})
    one = trainer(plan, faces, tmp_path / "run", cache=tmp_path / "cache")
    one.run()
    model, _, _ = trained(tmp_path / "run" / "model.safetensors")
    logits = predict_logits(model, one)
    reached = float((logits.argmax(1) == one.material.validation.targets.argmax(1)).float().mean())
    assert reached == pytest.approx(one.progress.best_accuracy, abs=1e-6)


def test_a_random_trunk_is_not_frozen(faces: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--init"):
        trainer(tiny.recipe(**FROZEN), faces, tmp_path).run()


def test_data_must_fill_a_batch_and_have_a_validation_split(tmp_path: Path) -> None:
    images = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 8
    names = [f"c{number}" for number in range(8)]
    for split in (np.zeros(40, int), np.repeat([0, 1], [20, 20])):
        data = dataset_from_arrays("blank", images, labels, names, split)
        with pytest.raises(InputError, match="one batch of 32 and a validation split"):
            trainer(tiny.recipe(), data, tmp_path)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_is_the_same_batch(
    faces: Dataset, tmp_path: Path, accumulate: int
) -> None:
    still = BRIEF | {"network.dropout": 0.0}
    trainer(tiny.recipe(**still), faces, tmp_path / "one").run()
    trainer(
        tiny.recipe(**still, **{"training.accumulate": accumulate}), faces, tmp_path / "parts"
    ).run()
    torch.testing.assert_close(
        weights(tmp_path / "parts"), weights(tmp_path / "one"), rtol=1e-4, atol=1e-5
    )


def test_bf16_trains_near_to_fp32(faces: Dataset, tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    fabric.launch()
    plan = tiny.recipe(**BRIEF | {"training.precision": "bf16-mixed"})
    (tmp_path / "run").mkdir()
    one = Trainer(plan, faces, tmp_path / "run", fabric)
    one.run()
    trainer(tiny.recipe(**BRIEF), faces, tmp_path / "fp32").run()
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "fp32")
    assert all(value.dtype == theirs[key].dtype for key, value in ours.items())
    key = "detail.0.pointwise.weight"
    assert 0 < float((ours[key] - theirs[key]).norm() / theirs[key].norm()) < 0.05


def test_early_stopping_ends_a_stage(faces: Dataset, tmp_path: Path) -> None:
    plan = tiny.recipe(**{"training.epochs": 50, "training.patience": 2, "training.min_delta": 0.9})
    one = trainer(plan, faces, tmp_path)
    one.run()
    assert len(one.progress.history) == 3


def test_one_class_is_no_task(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    split = np.repeat([0, 1], [40, 20])
    data = dataset_from_arrays("same", images, np.zeros(60, int), ["a", "b"], split)
    with pytest.raises(InputError, match="second one"):
        trainer(tiny.recipe(), data, tmp_path)


def test_the_temperature_lies_in_the_checkpoint(run: Path) -> None:
    note = checkpoint.read(run / "model.safetensors")[1]
    assert note["temperature"] > 0 and note["temperature"] != 1.0


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 5), (1, 10)])
def test_a_one_cycle_of_few_steps(epochs: int, steps: int) -> None:
    training = tiny.recipe(**{"training.epochs": epochs}).training
    model = torch.nn.Linear(2, 2)
    optimizer = optimise.optimizer(model, training)
    schedule = optimise.Schedule(optimizer, training, steps)
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert all(0 < rate <= training.learning_rate for rate in rates)
