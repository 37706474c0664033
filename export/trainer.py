"""The training loop, on Lightning Fabric: seeded, resumable at any step, one process or several.

What is random depends on (seed, epoch, image) or on (seed, epoch, step) alone: several processes, a resumed run
and one that was never stopped see the same pictures in the same order.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

import convcut_trt
from convcut_trt.datasets import Dataset
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import write_json
from export import checkpoint, optimise, weights
from export.calibration import fit_temperature
from export.data import Split, augmented, load_split, normalise, order
from export.features import Features, cached
from export.model import ConvCut
from export.recipe import Recipe, Training

MODEL, STATE, NOTE = "model.safetensors", "state.safetensors", "run.json"
SAVE_EVERY = 300.0


@dataclass
class Progress:
    """What a run has reached; kept in its checkpoints. ``epoch`` counts within the stage, ``step`` within it."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_epoch: int = -1
    best_accuracy: float = -1.0
    temperature: float = 1.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def accuracies(self) -> list[float]:
        """Validation accuracies of the present stage."""
        return [e["validation_accuracy"] for e in self.history if e["stage"] == self.stage]


class Behind(nn.Module):
    """What is trained where the trunk is frozen: everything behind it, under the names it has in the network."""

    def __init__(self, network: ConvCut) -> None:
        super().__init__()
        self.detail, self.spatial_dropout, self.tail = (
            network.detail,
            network.spatial_dropout,
            network.tail,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps features of the trunk [N, C, H, W] to logits [N, classes]."""
        return cast(Tensor, self.tail(self.spatial_dropout(self.detail(x))))


class Trainer:
    """One model being trained by one recipe on one data set.

    Args:
        plan: The recipe.
        dataset: With a training and a validation split.
        directory: Where model, state and note go.
        fabric: Launched.
        start: Loads the weights to begin with into the network, in place of the recipe's; returns a note of them.
        cache: Folder for the features of a frozen trunk; the default is the user's.
        save_every: Seconds between two states within an epoch; each epoch ends with one anyhow.
    """

    def __init__(
        self,
        plan: Recipe,
        dataset: Dataset,
        directory: Path,
        fabric: Fabric,
        *,
        start: Callable[[ConvCut, tuple[str, ...]], dict[str, Any]] | None = None,
        cache: Path | None = None,
        save_every: float = SAVE_EVERY,
    ) -> None:
        self.plan, self.directory, self.fabric = plan, directory, fabric
        options = plan.training
        rows = dataset.subset("train", kind=options.targets)
        self.train = load_split(dataset, rows, dataset.targets(options.targets)[rows], plan.input)
        rows = dataset.subset("validation")
        self.validation = load_split(dataset, rows, dataset.targets("majority")[rows], plan.input)
        self.classes = dataset.classes
        self._check(dataset)
        balance = torch.from_numpy(dataset.class_weights()) if self._weighted() else None
        self.balance = None if balance is None else balance.to(fabric.device)
        self.data = {"name": dataset.name, "sha256": _digest(self.train, self.validation)}
        torch.manual_seed(options.seed)
        self.network = plan.build(len(self.classes)).to(memory_format=torch.channels_last)
        self.network.trunk.requires_grad_(not options.frozen_trunk)
        self.start, self.cache, self.save_every = start, cache, save_every
        self.origin: dict[str, Any] = {}
        self.features: tuple[Features, Features] | None = None  # training, validation
        self.progress = Progress()

    def run(self) -> None:
        """Trains from the beginning to the last epoch of the last stage."""
        network = self.plan.network
        if self.start is not None:
            self.origin = self.start(self.network, self.classes)
        elif network.weights:
            dropped = weights.load_trunk(
                self.network.trunk, network.weights, network.trunk, network.trunk_options
            )
            self._say(weights.summary(network.weights, dropped))
            self.origin = {"weights": network.weights}
        elif self.plan.training.frozen_trunk:
            raise InputError(
                "frozen_trunk needs network.weights or --init: a random trunk sees nothing"
            )
        self._begin()
        self._train()

    def resume(self) -> None:
        """Goes on from the state that a run of this recipe left in the folder, and ends where it would have ended.

        Raises:
            InputError: No state there, or that of another recipe or of other data.
        """
        tensors, note = checkpoint.read(self.directory / STATE)
        own = self._note()
        for key in ("recipe", "classes", "data"):
            if note.get(key) != own[key]:
                raise InputError(
                    f"{self.directory} holds a run with another {key}: choose another folder with -o"
                )
        self.network.load_state_dict(checkpoint.unprefixed("model", tensors))
        self.origin, self.progress = note["origin"], Progress(**note["progress"])
        self._begin()
        self.average.load_state_dict(checkpoint.unprefixed("average", tensors))
        count = sum(len(group["params"]) for group in self.optimizer.param_groups)
        moments = [checkpoint.unprefixed(f"optimizer.{number}", tensors) for number in range(count)]
        optimise.load_state(self.optimizer, moments)
        progress = self.progress
        done = progress.epoch * self.steps + progress.step
        self.schedule.replay(done, progress.accuracies())
        self._train()

    @property
    def options(self) -> Training:
        """The present stage's."""
        return self.plan.stages[self.progress.stage]

    def _check(self, dataset: Dataset) -> None:
        options, world = self.plan.training, self.fabric.world_size
        smallest = min(len(self.train), *(stage.batch for stage in self.plan.stages))
        if any(len(self.train) < stage.batch for stage in self.plan.stages) or not len(
            self.validation
        ):
            raise InputError(
                f"{dataset.name} has {len(self.train)} training and {len(self.validation)} validation "
                f"pictures: training needs one batch of {options.batch} and a validation split; "
                f"--set training.batch={max(2, smallest)} makes a batch smaller"
            )
        found = int((self.train.targets.sum(dim=0) > 0).sum())
        if found < 2:
            raise InputError(f"{dataset.name} trains one class only: add pictures of a second one")
        for stage in self.plan.stages:
            if stage.batch % (world * stage.accumulate):
                raise InputError(
                    f"a batch of {stage.batch} has no {world} x {stage.accumulate} equal parts: change "
                    "training.batch, training.accumulate or --devices"
                )

    def _weighted(self) -> bool:
        return any(stage.class_weights == "balanced" for stage in self.plan.stages)

    def _begin(self) -> None:
        """Sets a stage up: fresh optimizer, schedule and average around the network's present weights."""
        options, fabric = self.options, self.fabric
        if options.dropout is not None:
            self.network.spatial_dropout.p = self.network.tail.dropout.p = options.dropout
        self.network.to(fabric.device)
        if options.frozen_trunk and self.features is None:
            epochs = sum(stage.epochs for stage in self.plan.stages)
            self.features = self._cached(min(options.views, epochs))
        self.part: nn.Module = Behind(self.network) if options.frozen_trunk else self.network
        self._refuse_batch_norm()
        self.steps = len(self.train) // options.batch
        self.optimizer = optimise.optimizer(self.part, options)
        self.schedule = optimise.Schedule(self.optimizer, options, self.steps)
        self.model, self.prepared = cast("tuple[Any, Any]", fabric.setup(self.part, self.optimizer))
        self.average = optimise.averaged(self.part, options.ema)
        self.average.to(fabric.device)
        self.saved = time.monotonic()

    def _cached(self, views: int) -> tuple[Features, Features]:
        plan, trunk = self.plan, self.network.trunk
        with self.fabric.rank_zero_first():  # the others find what the first has computed
            training = cached(
                trunk, self.train, plan.input, plan.augmentation, views=views, folder=self.cache
            )
            return training, cached(trunk, self.validation, plan.input, folder=self.cache)

    def _refuse_batch_norm(self) -> None:
        norms = [
            name for name, module in self.part.named_modules() if isinstance(module, _BatchNorm)
        ]
        if norms and self.fabric.world_size > 1:
            raise InputError(
                f"{norms[0]} is a BatchNorm, and each of {self.fabric.world_size} processes would normalise by its "
                "own share of the batch: train with --devices 1, or without stem and projection"
            )

    def _train(self) -> None:
        progress = self.progress
        while True:
            if not optimise.finished(self.options, progress.accuracies()):
                self._stage()
            if progress.stage + 1 == len(self.plan.stages):
                return
            self.fabric.barrier()  # the first process may still be writing
            best, _ = checkpoint.read(self.directory / MODEL)
            self.network.load_state_dict(best)
            progress.stage, progress.epoch = progress.stage + 1, 0
            self._begin()

    def _stage(self) -> None:
        options, progress = self.options, self.progress
        done = progress.epoch * self.steps + progress.step
        with tqdm(
            total=options.epochs * self.steps,
            initial=done,
            unit="step",
            file=sys.stderr,
            desc=f"{self.plan.name}, stage {progress.stage + 1}",
            mininterval=2,
            disable=not self.fabric.is_global_zero,
        ) as bar:
            while not optimise.finished(options, progress.accuracies()):
                self._epoch(bar)
                bar.set_postfix_str(
                    f"validation {progress.history[-1]['validation_accuracy']:.2%}, "
                    f"best {progress.best_accuracy:.2%}"
                )

    def _epoch(self, bar: tqdm[Any]) -> None:
        options, progress = self.options, self.progress
        started, seen = time.monotonic(), len(progress.history)
        visit = torch.from_numpy(order(options.seed, seen, len(self.train)))
        pictures = self._pictures(seen)
        part = options.batch // self.fabric.world_size
        self.model.train()
        while progress.step < self.steps:
            first = progress.step * options.batch + self.fabric.global_rank * part
            self._step(pictures, visit[first : first + part])
            progress.step += 1
            bar.update()
            if time.monotonic() - self.saved > self.save_every:
                progress.seconds += time.monotonic() - started
                started = time.monotonic()
                self._write_state()
        progress.seconds += time.monotonic() - started
        self._record(progress.seconds)

    def _pictures(self, seen: int) -> Callable[[Tensor], Tensor]:
        """The inputs of an epoch by their positions: augmented pictures, or what a frozen trunk made of them."""
        options, features = self.options, self.features
        if features is not None:
            return lambda chosen: features[0].batch(seen, chosen)
        pictures = augmented(
            self.train,
            self.plan.input,
            self.plan.augmentation,
            seed=options.seed,
            epoch=seen,
            resolution=options.side(self.progress.epoch, self.plan.input.size),
            device=self.fabric.device,
        )
        return lambda chosen: pictures(chosen).contiguous(memory_format=torch.channels_last)

    def _step(self, pictures: Callable[[Tensor], Tensor], chosen: Tensor) -> None:
        options, progress, fabric = self.options, self.progress, self.fabric
        # Dropout draws from torch's generator: keyed by the step, a resumed run draws what this one did.
        key = (options.seed, progress.stage, progress.epoch, progress.step, fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        weights = self.balance if options.class_weights == "balanced" else None
        self.prepared.zero_grad()
        total = torch.zeros((), device=fabric.device)
        micros = chosen.chunk(options.accumulate)
        for number, micro in enumerate(micros):
            with fabric.no_backward_sync(self.model, enabled=number + 1 < len(micros)):
                targets = self.train.targets[micro].to(fabric.device)
                loss = F.cross_entropy(self.model(pictures(micro)), targets, weight=weights)
                loss = loss / len(micros)
                fabric.backward(loss)
                total += loss.detach()
        norm = fabric.clip_gradients(
            self.model, self.prepared, max_norm=options.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not torch.isfinite(total + norm):
            raise ConvcutError(
                f"the loss is {float(total)}, its gradient {norm} at epoch {progress.epoch}, batch "
                f"{progress.step}: lower the learning rate; {self.directory} keeps the last good state, if any"
            )
        self.prepared.step()
        self.schedule.step()
        self.average.update_parameters(self.part)
        progress.loss += float(total)

    def _record(self, seconds: float) -> None:
        """Ends an epoch: validates the averaged weights, keeps the best, saves the state."""
        progress = self.progress
        reached, temperature = self.fabric.broadcast(self._validate())
        self.schedule.epoch(reached)
        images = self.steps * self.options.batch
        progress.history.append(
            {
                "stage": progress.stage,
                "epoch": progress.epoch,
                "loss": round(progress.loss / self.steps, 5),
                "validation_accuracy": reached,
                "seconds": round(seconds, 1),
                "images_per_second": round(images / seconds, 1),
            }
        )
        progress.epoch, progress.step, progress.loss, progress.seconds = (
            progress.epoch + 1,
            0,
            0.0,
            0.0,
        )
        if reached > progress.best_accuracy:
            progress.best_accuracy, progress.best_epoch = reached, len(progress.history) - 1
            progress.temperature = temperature
            self._write(MODEL, self.network.state_dict() | self.average.module.state_dict())
        self._write_state()

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Accuracy of the averaged weights on validation, and the temperature that fits their logits."""
        if not self.fabric.is_global_zero:
            return 0.0, 1.0
        model, validation, features = self.average.module.eval(), self.validation, self.features
        parts = torch.arange(len(validation)).split(256)  # type: ignore[no-untyped-call]
        device = self.fabric.device
        logits = torch.cat(
            [
                model(
                    normalise(validation.images[part].to(device), self.plan.input)
                    if features is None
                    else features[1].batch(0, part)
                )
                for part in parts
            ]
        ).cpu()
        labels = validation.targets.argmax(dim=1)
        right = float((logits.argmax(dim=1) == labels).double().mean())
        return right, fit_temperature(logits.numpy(), labels.numpy())

    def _write_state(self) -> None:
        tensors = checkpoint.prefixed("model", self.network.state_dict())
        tensors |= checkpoint.prefixed("average", self.average.state_dict())
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= checkpoint.prefixed(f"optimizer.{number}", values)
        self._write(STATE, tensors)
        if self.fabric.is_global_zero:
            write_json(self.directory / NOTE, self._note())
        self.saved = time.monotonic()

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        if self.fabric.is_global_zero:
            checkpoint.write(self.directory / name, tensors, self._note())

    def _say(self, text: str) -> None:
        if self.fabric.is_global_zero:
            print(text, file=sys.stderr)

    def _note(self) -> dict[str, Any]:
        return {
            "schema": checkpoint.SCHEMA,
            "recipe": self.plan.model_dump(mode="json"),
            "classes": list(self.classes),
            "data": self.data,
            "training_images": len(self.train),
            "validation_images": len(self.validation),
            "origin": self.origin,
            "temperature": self.progress.temperature,
            "progress": asdict(self.progress),
            "command": sys.argv,
            "versions": {
                "convcut-trt": convcut_trt.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "machine": {
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "processes": self.fabric.world_size,
                "device": torch.cuda.get_device_name()
                if self.fabric.device.type == "cuda"
                else str(self.fabric.device),
            },
        }


def _digest(*splits: Split) -> str:
    """SHA-256 over the pixels and targets that a run sees."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(split.images.numpy().data)
        digest.update(split.targets.numpy().data)
    return digest.hexdigest()
