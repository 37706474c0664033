"""Networks small enough to train and export within a test."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from export.model import ConvCut
from export.recipe import Recipe, parse

OPTIONS = {
    "depths": [1, 1, 1, 1],
    "dims": [8, 16, 24, 24],
    "patch_size": 2,
    "in_chans": 1,
    "ls_init_value": 0.5,
}
VALUES: Mapping[str, Any] = {
    "name": "tiny",
    "network": {
        "trunk": "convnext_tiny",
        "trunk_options": OPTIONS,
        "cut": "stage2",
        "detail": [[4, 1], [2, 1]],
        "width": 16,
        "attention": "spatial",
    },
    "input": {"size": 32, "mean": [0.5], "std": [0.25]},
    "augmentation": {"rotation": 0.1, "shift": 0.05, "contrast": 0.1},
    "training": {"epochs": 3, "batch": 32, "learning_rate": 1e-3, "ema": 0.9},
}
STEM: dict[str, Any] = {
    "network.trunk_options": OPTIONS | {"patch_size": 4},
    "network.stem": [[6, 2], [8, 2]],
}
COLOUR: dict[str, Any] = {
    "network.trunk_options": OPTIONS | {"in_chans": 3},
    "input.mean": [0.5, 0.4, 0.3],
    "input.std": [0.25, 0.2, 0.3],
}


def values(**changes: Any) -> dict[str, Any]:
    """The tiny recipe's values, with changes by dotted name: ``**{"training.epochs": 1}``."""
    result = copy.deepcopy(dict(VALUES))
    for place, value in changes.items():
        *sections, name = place.split(".")
        section = result
        for part in sections:
            section = section[part]
        section[name] = value
    return result


def recipe(**changes: Any) -> Recipe:
    """The tiny recipe, with changes."""
    return parse(values(**changes), "tiny recipe")


def network(plan: Recipe, classes: int = 8) -> ConvCut:
    """An untrained network in which nothing is trivial: norms, layer scales, running statistics, head."""
    torch.manual_seed(1)
    model = plan.build(classes)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d):
                _shake(module.weight, 1.0)
                _shake(module.bias, 0.0)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                _shake(module.running_mean, 0.1)
                _shake(module.running_var, 1.0)
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                _shake(parameter, 0.5)
            elif parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval()


def _shake(values: Tensor, centre: float) -> None:
    values.copy_(centre + 0.3 * torch.rand_like(values))


def fabric() -> Fabric:
    """A launched Fabric on one CPU."""
    one = Fabric(accelerator="cpu", devices=1)
    one.launch()
    return one
