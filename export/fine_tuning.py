"""Fine-tuning: a trained network goes on with a user's own classes and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from convcut_trt.errors import InputError
from convcut_trt.fields import sha256
from export import checkpoint
from export.model import ConvCut
from export.recipe import RECIPES, Recipe, Training, parse

# A tenth of the learning rate from scratch, and batches that a few hundred pictures fill.
TRAINING = Training(
    epochs=20, batch=32, learning_rate=5e-4, ema=0.99, targets="majority", class_weights="balanced"
)
_HEAD = ("tail.head.weight", "tail.head.bias")


def find(name: str) -> Path:
    """A checkpoint by path, or by the name of one that lies beside its recipe.

    Raises:
        InputError: There is none.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        path = RECIPES / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in RECIPES.glob("*.safetensors"))) or "none"
        raise InputError(
            f"there is no checkpoint {name!r}: give the model.safetensors of a run, or one of those beside the "
            f"recipes: {known}"
        )
    return path


def recipe(path: Path) -> Recipe:
    """The recipe of a checkpoint with its training replaced by ``TRAINING``.

    Raises:
        InputError: Not a checkpoint of ours.
    """
    _, note = checkpoint.read(path)
    plan = parse(note["recipe"], f"the recipe inside {path}")
    return plan.model_copy(update={"training": TRAINING, "second_stage": None})


def start(path: Path) -> Callable[[ConvCut, tuple[str, ...]], dict[str, Any]]:
    """What loads a checkpoint into a network of its shape; classes of the same name keep their row of the head.

    The returned function takes the network and its classes, and returns a note of where its weights are from.
    It raises an InputError where the network differs in more than its classes.
    """

    def load(network: ConvCut, classes: tuple[str, ...]) -> dict[str, Any]:
        tensors, note = checkpoint.read(path)
        known = list(note["classes"])
        own = network.state_dict()
        strange = sorted(
            name
            for name in tensors.keys() | own.keys()
            if name not in _HEAD
            and (name not in own or name not in tensors or own[name].shape != tensors[name].shape)
        )
        if strange:
            raise InputError(
                f"{path} is of another network than the recipe's ({strange[0]} differs): leave the recipe out to "
                "take the checkpoint's own"
            )
        kept = [name for name in classes if name in known]
        for name in _HEAD:
            rows = own[name].clone()
            for label in kept:
                rows[classes.index(label)] = tensors[name][known.index(label)]
            tensors[name] = rows
        with torch.no_grad():
            network.load_state_dict(tensors)
        return {"init": path.name, "sha256": sha256(path), "kept_classes": kept}

    return load
