"""What a run learns from and is validated on: its pictures, or what a frozen trunk makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from convcut_trt.datasets import Dataset
from convcut_trt.errors import InputError
from export.data import Split, augmented, load_split, normalise, order
from export.features import Features, cached
from export.recipe import Recipe, Training


class Material:
    """Training and validation split of one run, and the inputs of the network by their positions in them.

    Args:
        plan: The recipe.
        dataset: With a training and a validation split.
        device: Where inputs and class weights go.

    Raises:
        InputError: Too few pictures for one batch, no validation split, or one class only.
    """

    def __init__(self, plan: Recipe, dataset: Dataset, device: torch.device) -> None:
        self.plan, self.device = plan, device
        targets = plan.training.targets
        rows = dataset.subset("train", kind=targets)
        self.train = load_split(dataset, rows, dataset.targets(targets)[rows], plan.input)
        rows = dataset.subset("validation")
        self.validation = load_split(dataset, rows, dataset.targets("majority")[rows], plan.input)
        self._check(dataset.name)
        weighted = any(stage.class_weights == "balanced" for stage in plan.stages)
        self.balance = torch.from_numpy(dataset.class_weights()).to(device) if weighted else None
        self.features: tuple[Features, Features] | None = None  # training, validation

    def _check(self, name: str) -> None:
        options = self.plan.training
        smallest = min(len(self.train), *(stage.batch for stage in self.plan.stages))
        if any(len(self.train) < stage.batch for stage in self.plan.stages) or not len(
            self.validation
        ):
            raise InputError(
                f"{name} has {len(self.train)} training and {len(self.validation)} validation "
                f"pictures: training needs one batch of {options.batch} and a validation split; "
                f"--set training.batch={max(2, smallest)} makes a batch smaller"
            )
        found = int((self.train.targets.sum(dim=0) > 0).sum())
        if found < 2:
            raise InputError(f"{name} trains one class only: add pictures of a second one")

    def digest(self) -> str:
        """SHA-256 over the pixels and targets that a run sees."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            digest.update(split.images.numpy().data)
            digest.update(split.targets.numpy().data)
        return digest.hexdigest()

    def freeze(self, trunk: nn.Module, folder: Path | None) -> None:
        """From now on inputs are the trunk's features, from the cache where they lie there; see ``cached``."""
        if self.features is not None:
            return
        plan = self.plan
        views = min(plan.training.views, sum(stage.epochs for stage in plan.stages))
        self.features = (
            cached(trunk, self.train, plan.input, plan.augmentation, views=views, folder=folder),
            cached(trunk, self.validation, plan.input, folder=folder),
        )

    def visit(self, seen: int, options: Training) -> Tensor:
        """The order, int64 [N], in which the epoch after ``seen`` others visits the training split."""
        return torch.from_numpy(order(options.seed, seen, len(self.train)))

    def epoch(self, seen: int, side: int, seed: int) -> Callable[[Tensor], Tensor]:
        """The training inputs of the epoch after ``seen`` others, by their positions int64 [M].

        Args:
            seen: Epochs of all stages so far.
            side: Of the pictures, in pixels; the features of a frozen trunk have their own.
            seed: Of the augmentation; the same goes for it.
        """
        features = self.features
        if features is not None:
            return lambda chosen: features[0].batch(seen, chosen)
        pictures = augmented(
            self.train,
            self.plan.input,
            self.plan.augmentation,
            seed=seed,
            epoch=seen,
            resolution=side,
            device=self.device,
        )
        return lambda chosen: pictures(chosen).contiguous(memory_format=torch.channels_last)

    def held_out(self, chosen: Tensor) -> Tensor:
        """The validation inputs at the positions int64 [M], as they are."""
        if self.features is not None:
            return self.features[1].batch(0, chosen)
        return normalise(self.validation.images[chosen].to(self.device), self.plan.input)

    @property
    def splits(self) -> dict[str, Split]:
        """Both by name."""
        return {"training": self.train, "validation": self.validation}
