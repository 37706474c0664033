"""What a stage of training optimises with: optimizer, learning rate schedule, weight average, early stopping."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from export.recipe import Training

_Tensors = tuple[Tensor, ...] | list[Tensor]


def optimizer(model: nn.Module, options: Training) -> Optimizer:
    """Adam or AdamW over what is to be trained.

    Weight decay holds on matrices and kernels only: not on biases, norms, layer scale or the score scale.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = AdamW if options.optimizer == "adamw" else Adam
    return kind(groups, lr=options.learning_rate, fused=True)


class Schedule:
    """The learning rate of a stage; a resumed one is brought to its place by the same calls."""

    def __init__(self, optimizer: Optimizer, options: Training, steps: int) -> None:
        self.per_step: OneCycleLR | None = None
        self.per_epoch: LambdaLR | ReduceLROnPlateau | None = None
        match options.schedule:
            case "one-cycle":
                # torch divides by the warm-up's steps but for the first: at least two of at least three
                total = max(options.epochs * steps, 3)
                self.per_step = OneCycleLR(
                    optimizer,
                    options.learning_rate,
                    total_steps=total,
                    pct_start=max(options.warmup, 2 / total),
                )
            case "plateau":
                self.per_epoch = ReduceLROnPlateau(
                    optimizer, mode="max", factor=0.1, patience=3, min_lr=1e-6
                )
            case "inverse-time":
                self.per_epoch = LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch / 80))
            case "constant":
                pass

    def step(self) -> None:
        """After each optimizer step."""
        if self.per_step is not None:
            self.per_step.step()

    def epoch(self, accuracy: float) -> None:
        """After each epoch, with the validation accuracy it reached."""
        if isinstance(self.per_epoch, ReduceLROnPlateau):
            self.per_epoch.step(accuracy)
        elif self.per_epoch is not None:
            self.per_epoch.step()

    def replay(self, steps: int, accuracies: Sequence[float]) -> None:
        """Repeats what a run had done before it was interrupted."""
        with warnings.catch_warnings():  # of a schedule that steps and an optimizer that does not
            warnings.simplefilter("ignore")
            for _ in range(steps):
                self.step()
            for accuracy in accuracies:
                self.epoch(accuracy)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers that forgets the untrained beginning sooner.

    The decay after n steps is the smaller of ``decay`` and (1 + n) / (10 + n), as in TensorFlow's
    ``ExponentialMovingAverage``.
    """

    def update(averages: _Tensors, currents: _Tensors, count: Tensor | int) -> None:
        number = int(count)
        average = get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))  # type: ignore[no-untyped-call]
        average(averages, currents, count)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def finished(options: Training, accuracies: Sequence[float]) -> bool:
    """Whether a stage is over after epochs that reached these validation accuracies."""
    if len(accuracies) >= options.epochs:
        return True
    best, since = -math.inf, 0
    for accuracy in accuracies:
        better = accuracy > best + options.min_delta
        best, since = (accuracy, 0) if better else (best, since + 1)
    return bool(options.patience) and since >= options.patience


def load_state(optimizer: Optimizer, values: Sequence[dict[str, Tensor]]) -> None:
    """Gives an optimizer the moments of an interrupted run, one mapping a parameter in the order of its groups."""
    state = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state["state"] = {
        number: {key: _laid_out_like(parameter, value) for key, value in moments.items()}
        for number, (parameter, moments) in enumerate(zip(parameters, values, strict=True))
        if moments
    }
    optimizer.load_state_dict(state)


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """The fused optimizer walks through memory and mixes up moments laid out unlike their channels_last weights."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
