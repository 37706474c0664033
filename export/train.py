"""The training loop, on Lightning Fabric: seeded, resumable, chosen on validation only.

``convcut-trt train RECIPE --data FACES -o DIR`` writes into DIR: ``model.safetensors`` (the averaged weights
of the best validation epoch, with the recipe), ``state.safetensors`` (to resume from) and ``run.json``.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import convcut_trt
from convcut_trt.datasets import Dataset
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import write_json
from export import checkpoint, recipe, weights
from export.data import DATA_HELP, Split, batches, load_split, normalise, open_faces
from export.recipe import Input, Recipe


@dataclass
class Progress:
    """What a run has reached; kept in its checkpoints."""

    epoch: int = 0
    best_epoch: int = -1
    best_accuracy: float = -1.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@torch.inference_mode()
def predict(model: nn.Module, split: Split, input: Input, batch: int = 256) -> Tensor:
    """Probabilities [N, classes] of a split, on the device of the model."""
    model.eval()
    device = next(model.parameters()).device
    parts = [
        model(normalise(images.to(device), input)).softmax(dim=1)
        for images in split.images.split(batch)  # type: ignore[no-untyped-call]
    ]
    return torch.cat(parts).cpu()


def accuracy(probabilities: Tensor, targets: Tensor) -> float:
    """Share of rows whose largest probability is at the largest target."""
    return float((probabilities.argmax(dim=1) == targets.argmax(dim=1)).float().mean())


class Trainer:
    """One model being trained by one recipe on one data set."""

    def __init__(self, plan: Recipe, dataset: Dataset, directory: Path, fabric: Fabric) -> None:
        self.plan, self.directory, self.fabric = plan, directory, fabric
        options = plan.training
        rows = dataset.subset("train", kind=options.targets)
        self.train = load_split(dataset, rows, dataset.targets(options.targets)[rows], plan.input)
        rows = dataset.subset("validation")
        self.validation = load_split(dataset, rows, dataset.targets("majority")[rows], plan.input)
        if len(self.train) < options.batch or not len(self.validation):
            raise InputError(
                f"{dataset.name} has {len(self.train)} training and {len(self.validation)} validation "
                f"pictures: training needs one batch of {options.batch} and a validation split"
            )
        self.classes = dataset.classes
        self.progress = Progress()
        torch.manual_seed(options.seed)
        model = plan.build(len(self.classes)).to(memory_format=torch.channels_last)
        model.trunk.requires_grad_(not options.frozen_trunk)
        averaging = get_ema_multi_avg_fn(options.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
        self.steps = len(self.train) // options.batch
        optimizer = AdamW(
            _groups(model, options.weight_decay), lr=options.learning_rate, fused=True
        )
        self.schedule = OneCycleLR(
            optimizer,
            options.learning_rate,
            total_steps=options.epochs * self.steps,
            pct_start=options.warmup,
        )
        self.bare, self.optimizer = model, cast(Optimizer, optimizer)
        self.model, self.prepared = cast(
            "tuple[nn.Module, Optimizer]", fabric.setup(model, optimizer)
        )
        self.average.to(fabric.device)

    def run(self) -> None:
        """Trains to the last epoch of the recipe, saving after each."""
        options, network = self.plan.training, self.plan.network
        if network.weights and not self.progress.epoch:
            dropped = weights.load_trunk(
                self.bare.trunk, network.weights, network.trunk, network.trunk_options
            )
            print(weights.summary(network.weights, dropped), file=sys.stderr)
        remaining = (options.epochs - self.progress.epoch) * self.steps
        with tqdm(
            total=remaining, unit="step", file=sys.stderr, desc=self.plan.name, mininterval=2
        ) as bar:
            while self.progress.epoch < options.epochs:
                started = time.monotonic()
                loss = self._epoch(bar)
                reached = accuracy(
                    predict(self.average, self.validation, self.plan.input), self.validation.targets
                )
                seconds = time.monotonic() - started
                self._record(loss, reached, seconds)
                bar.set_postfix_str(
                    f"validation {reached:.2%}, best {self.progress.best_accuracy:.2%}"
                )

    def _epoch(self, bar: tqdm[Any]) -> float:
        options, epoch = self.plan.training, self.progress.epoch
        total = 0.0
        self.model.train()
        # A frozen trunk gives the features it will give when deployed: without stochastic depth.
        self.bare.trunk.train(not options.frozen_trunk)
        stream = batches(
            self.train,
            self.plan.input,
            self.plan.augmentation,
            seed=options.seed,
            epoch=epoch,
            size=options.batch,
        )
        for step, (images, targets) in enumerate(stream):
            # Dropout draws from torch's generator: keyed by the step, a resumed run draws what this one did.
            torch.manual_seed((options.seed << 40) | (epoch << 20) | step)
            images = images.to(self.fabric.device, memory_format=torch.channels_last)
            loss = F.cross_entropy(self.model(images), targets.to(self.fabric.device))
            self.prepared.zero_grad()
            self.fabric.backward(loss)
            norm = self.fabric.clip_gradients(
                self.model, self.prepared, max_norm=options.clip_norm, error_if_nonfinite=False
            )
            if norm is None or not torch.isfinite(loss + norm):
                raise ConvcutError(
                    f"the loss is {float(loss.detach())}, its gradient {norm} at epoch {epoch}, batch {step}: "
                    f"lower the learning rate; {self.directory} keeps the state of the last finished epoch, if any"
                )
            self.prepared.step()
            self.schedule.step()
            self.average.update_parameters(self.bare)
            total += float(loss.detach())
            bar.update()
        return total / self.steps

    def _record(self, loss: float, reached: float, seconds: float) -> None:
        progress = self.progress
        progress.seconds += seconds
        progress.history.append(
            {
                "epoch": progress.epoch,
                "loss": round(loss, 5),
                "validation_accuracy": round(reached, 5),
                "seconds": round(seconds, 1),
                "images_per_second": round(self.steps * self.plan.training.batch / seconds, 1),
            }
        )
        if reached > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = reached, progress.epoch
            self._write_model()
        progress.epoch += 1
        self._write_state()

    def _write_model(self) -> None:
        tensors = self.average.module.state_dict()
        checkpoint.write(self.directory / "model.safetensors", tensors, self._note())

    def _write_state(self) -> None:
        tensors = checkpoint.prefixed("model", self.bare.state_dict())
        tensors |= checkpoint.prefixed("average", self.average.state_dict())
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= checkpoint.prefixed(f"optimizer.{number}", values)
        checkpoint.write(self.directory / "state.safetensors", tensors, self._note())
        write_json(self.directory / "run.json", self._note())

    def resume(self) -> None:
        """Takes up the state that the last finished epoch of this recipe left in the folder.

        Raises:
            InputError: No state there, or that of another recipe or of other data.
        """
        tensors, note = checkpoint.read(self.directory / "state.safetensors")
        own = self._note()
        for key in ("recipe", "classes", "training_images"):
            if note.get(key) != own[key]:
                raise InputError(
                    f"{self.directory} holds a run with another {key.replace('_', ' ')}: choose another folder "
                    "with -o"
                )
        self.bare.load_state_dict(checkpoint.unprefixed("model", tensors))
        self.average.load_state_dict(checkpoint.unprefixed("average", tensors))
        state = self.optimizer.state_dict()
        groups = self.optimizer.param_groups
        state["state"] = {
            number: {
                key: _laid_out_like(parameter, value)
                for key, value in checkpoint.unprefixed(f"optimizer.{number}", tensors).items()
            }
            for number, parameter in enumerate(p for group in groups for p in group["params"])
        }
        self.optimizer.load_state_dict(state)
        self.progress = Progress(**note["progress"])
        with warnings.catch_warnings():  # of a schedule that steps and an optimizer that does not
            warnings.simplefilter("ignore")
            for _ in range(self.progress.epoch * self.steps):
                self.schedule.step()

    def _note(self) -> dict[str, Any]:
        return {
            "schema": checkpoint.SCHEMA,
            "recipe": self.plan.model_dump(mode="json"),
            "classes": list(self.classes),
            "training_images": len(self.train),
            "validation_images": len(self.validation),
            "progress": asdict(self.progress),
            "versions": {
                "convcut-trt": convcut_trt.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "machine": {
                "processor": platform.machine(),
                "threads": torch.get_num_threads(),
                "device": str(self.fabric.device),
            },
        }


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """The fused optimizer walks through memory and mixes up moments laid out unlike their channels_last weights."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels only: not on biases, norms, layer scale or the score scale."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``train``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt train",
        description="Train a model by a recipe.",
        epilog="example: convcut-trt train conv-cut-mini --data ferplus.npz -o runs/conv-cut-mini",
    )
    parser.add_argument("recipe", help="name of a recipe in export/recipes, or a .toml file")
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the folder's run stopped"
    )
    parser.add_argument("--json", action="store_true", help="print run.json on stdout at the end")
    options = parser.parse_args(arguments)
    plan = recipe.read(options.recipe)
    checkpoint.make_folder(options.output)
    state = options.output / "state.safetensors"
    if state.exists() and not options.resume:
        raise InputError(
            f"{options.output} holds a run: go on with --resume, or choose another folder"
        )
    dataset = open_faces(options.data)
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.launch()
    trainer = Trainer(plan, dataset, options.output, fabric)
    if options.resume:
        trainer.resume()
    trainer.run()
    note = (options.output / "run.json").read_text()
    print(
        note if options.json else f"best validation accuracy {trainer.progress.best_accuracy:.2%}"
    )
    return 0
