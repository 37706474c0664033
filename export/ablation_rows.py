"""One ablation: the rows train what stands behind a checkpoint's trunk, or whole networks, and are measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from convcut_trt.datasets import Dataset
from convcut_trt.errors import InputError
from convcut_trt.fields import sha256
from export import checkpoint
from export.ablation_tables import Row, Tables
from export.batch_order import BATCH, visits
from export.data import Split, load_split
from export.features import Features, cached
from export.metrics import figures
from export.model import ConvCut
from export.recipe import Recipe, parse
from export.run_folder import MODEL, STATE
from export.to_onnx import trained
from export.trainer import Trainer


@dataclass(frozen=True)
class HeldOut:
    """The test faces: the split, int64 labels [N], and which of the N are clean."""

    split: Split
    labels: NDArray[np.int64]
    clean: NDArray[np.bool_]


class Ablation:
    """What all rows of one ablation share.

    Args:
        path: ``model.safetensors`` of a run.
        dataset: With the classes of the checkpoint, and all three splits.
        directory: Where the report goes, and what is being trained.
        epochs: Of each stage; the default is the recipe's.
        end_to_end: Train whole networks, not only what stands behind the checkpoint's trunk.

    Raises:
        InputError: Not a checkpoint of ours, or data that does not fit it.
    """

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        directory: Path,
        *,
        epochs: int | None = None,
        end_to_end: bool = False,
    ) -> None:
        self.model, own, self.note = trained(path)
        if set(self.note["classes"]) != set(dataset.classes):
            raise InputError(
                f"{path} tells {', '.join(self.note['classes'])} apart, {dataset.name} is labelled "
                f"{', '.join(dataset.classes)}: give data with the classes of the checkpoint"
            )
        self.path, self.dataset, self.directory = path, dataset, directory
        self.end_to_end = end_to_end
        changes: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
        if not end_to_end:
            changes |= {"frozen_trunk": True, "resolution": ()}
        self.plan = _staged(own, changes)
        self.tables = Tables.around(own.network.attention, own.network.detail)
        self.fabric = Fabric(accelerator="auto", devices=1, precision=own.training.precision)
        self.fabric.launch()

    @cached_property
    def test(self) -> HeldOut:
        """The test faces.

        Raises:
            InputError: There are none.
        """
        positions = self.dataset.subset("test")
        clean = np.isin(positions, self.dataset.subset("test", clean=True))
        if not clean.any():
            raise InputError(
                f"{self.dataset.name} has no test faces of its own: an ablation is measured on a test split"
            )
        targets = self.dataset.targets("majority")[positions]
        split = load_split(self.dataset, positions, targets, self.plan.input)
        return HeldOut(split, self.dataset.labels[positions], clean)

    def identity(self) -> dict[str, Any]:
        """What rows of one report have in common; a report with another one is not gone on with."""
        data = hashlib.sha256("".join(self.dataset.hashes()).encode())
        for array in (self.dataset.labels, self.dataset.shares, self.dataset.split):
            data.update(np.ascontiguousarray(array).tobytes())
        return {
            "checkpoint": sha256(self.path),
            "data": data.hexdigest(),
            "recipe": self.plan.model_dump(mode="json"),
            "end_to_end": self.end_to_end,
        }

    def recipe(self, row: Row, seed: int) -> Recipe:
        """The recipe of one row."""
        values = self.plan.model_dump(mode="json")
        values["network"] |= {"attention": row.attention, "detail": row.detail, "ablation": True}
        return _staged(parse(values, f"the recipe of {row.name}"), {"seed": seed})

    def refused(self, row: Row) -> str:
        """Why a row cannot be built; empty where it can."""
        try:
            self.recipe(row, 0).build(len(self.dataset.classes))
        except InputError as error:
            return str(error)
        return ""

    def folder(self, row: Row, seed: int) -> Path:
        """Where a row is trained."""
        return self.directory / f"{row.name}-seed{seed}"

    def run(self, row: Row, seed: int) -> dict[str, Any]:
        """Trains one row with one seed and measures it; goes on where it was interrupted.

        Raises:
            ConvcutError: Whatever stops a training.
        """
        folder = self.folder(row, seed)
        checkpoint.make_folder(folder)
        plan, started = self.recipe(row, seed), time.monotonic()
        trainer = Trainer(
            plan,
            self.dataset,
            folder,
            self.fabric,
            start=None if self.end_to_end else self._frozen,
            cache=self._cache(folder),
        )
        if (folder / STATE).exists():
            trainer.resume()
        else:
            trainer.run()
        model, _, note = trained(folder / MODEL)
        model.to(memory_format=torch.channels_last).to(self.fabric.device)
        features = cached(model.trunk, self.test.split, plan.input, folder=self._cache(folder))
        progress = trainer.progress
        behind = [p for name, p in model.named_parameters() if not name.startswith("trunk.")]
        result = {
            "row": row.name,
            "attention": row.attention,
            "detail": [list(layer) for layer in row.detail],
            "positions": model.detail.sizes[-1] ** 2,
            "parameters_behind_trunk": sum(parameter.numel() for parameter in behind),
            "seed": seed,
            "epochs": len(progress.history),
            "best_epoch": progress.best_epoch,
            "validation_accuracy": progress.best_accuracy,
            **measured(model, features, self.test, seed),
            "seconds": round(time.monotonic() - started, 1),
            "seconds_per_epoch": float(np.median([e["seconds"] for e in progress.history])),
            "device": note["machine"]["device"],
        }
        if trainer.material.features is not None:
            result["cache"] = _ratio(trainer.material.features[0], result["seconds_per_epoch"])
        return result

    def _frozen(self, network: ConvCut, _: tuple[str, ...]) -> dict[str, Any]:
        network.trunk.load_state_dict(self.model.trunk.state_dict())
        return {"trunk_of": self.path.name, "sha256": sha256(self.path)}

    def _cache(self, folder: Path) -> Path | None:
        # The features of a trunk that no other row shares go with the row.
        return None if self.plan.training.frozen_trunk else folder / "features"


def _staged(plan: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with the same changes in each stage."""
    values = plan.model_dump(mode="json")
    for stage in ("training", "second_stage"):
        if values[stage] is not None:
            values[stage] |= changes
    return parse(values, f"the recipe {plan.name}")


def _ratio(features: Features, epoch: float) -> dict[str, float]:
    """What the cache saves: an epoch that computes the trunk costs one view more than one that reads it."""
    view = features.seconds / len(features.stored)
    epoch = max(epoch, 0.05)  # noted to a tenth of a second
    return {
        "bytes": float(sum(view.nbytes for view in features.stored)),
        "seconds_per_view": round(view, 2),
        "recomputing_over_cached": round((view + epoch) / epoch, 1),
    }


@torch.inference_mode()
def measured(model: ConvCut, features: Features, test: HeldOut, seed: int) -> dict[str, Any]:
    """Figures of a model, each face on its own, and in batches of 32 clean faces sorted by class and shuffled.

    Returns:
        ``official`` and ``clean`` (single faces), ``orders`` (clean), and ``order_difference``: the most that an
        order changes a probability.
    """
    clean = np.flatnonzero(test.clean)
    labels = test.labels[clean]
    single = _answers(model, features, np.arange(len(test.labels)), 1)
    given = {
        name: _answers(model, features, clean[visit], BATCH)[clean]
        for name, visit in visits(labels, seed).items()
    }
    return {
        "official": figures(single, test.labels),
        "clean": figures(single[clean], labels),
        "orders": {name: figures(answers, labels) for name, answers in given.items()},
        "order_difference": max(
            float(np.abs(answers - single[clean]).max()) for answers in given.values()
        ),
    }


def _answers(
    model: ConvCut, features: Features, visit: NDArray[np.int64], batch: int
) -> NDArray[np.float32]:
    """Probabilities [N, K] by position in the split, computed in this order and batches; NaN for the others."""
    classes = model.tail.head.out_features
    answers = np.full((len(features.stored[0]), classes), np.nan, np.float32)
    for chosen in torch.from_numpy(visit).split(batch):  # type: ignore[no-untyped-call]
        logits: Tensor = model.from_features(features.batch(0, chosen))
        answers[chosen.numpy()] = logits.softmax(dim=1).cpu().numpy()
    return answers
