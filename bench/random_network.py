"""A recipe's network with random weights: times do not depend on what they are."""

from __future__ import annotations

from pathlib import Path

import torch

from convcut_trt.datasets.ferplus import CLASSES
from convcut_trt.home import Model, find_model
from export import checkpoint, recipe
from export.to_onnx import export


def random_model(name: str, folder: Path) -> Model:
    """Exports the network of the recipe ``name`` into a folder.

    Biases are random too: equal ones would become one constant that several layers share, which hinders fusion as
    no trained network does.

    Raises:
        InputError: No such recipe.
    """
    plan = recipe.read(name)
    torch.manual_seed(0)
    network = plan.build(len(CLASSES))
    with torch.no_grad():
        for part, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.01 * torch.randn_like(parameter))
            if part.endswith("gamma"):  # else no block does anything
                parameter.fill_(0.2)
    note = {
        "schema": checkpoint.SCHEMA,
        "recipe": plan.model_dump(mode="json"),
        "classes": list(CLASSES),
        "temperature": 1.0,
        "progress": {"best_epoch": 0, "best_accuracy": 0.0},
    }
    path = folder / "model.safetensors"
    checkpoint.write(path, network.state_dict(), note)
    export(path, folder)
    return find_model(folder / f"{plan.name}.onnx")
