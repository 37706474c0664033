"""The training loop, on Lightning Fabric: seeded, resumable at any step, one process or several.

What is random depends on (seed, epoch, image) or on (seed, epoch, step) alone: several processes, a resumed run
and one that was never stopped see the same pictures in the same order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from convcut_trt.datasets import Dataset
from convcut_trt.errors import ConvcutError, InputError
from export import checkpoint, optimise, weights
from export.calibration import fit_temperature
from export.material import Material
from export.model import ConvCut
from export.recipe import Recipe, Training
from export.run_folder import Progress, RunFolder

SAVE_EVERY = 300.0


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
        self.plan, self.fabric, self.cache, self.save_every = plan, fabric, cache, save_every
        self._check()
        self.classes, self.start = dataset.classes, start
        self.material = Material(plan, dataset, fabric.device)
        identity = {
            "recipe": plan.model_dump(mode="json"),
            "classes": list(self.classes),
            "data": {"name": dataset.name, "sha256": self.material.digest()},
        }
        images = {name: len(split) for name, split in self.material.splits.items()}
        self.folder = RunFolder(directory, fabric, identity, images)
        torch.manual_seed(plan.training.seed)
        self.network = plan.build(len(self.classes)).to(memory_format=torch.channels_last)
        self.network.trunk.requires_grad_(not plan.training.frozen_trunk)
        self.origin: dict[str, Any] = {}
        self.progress = Progress()

    def run(self) -> None:
        """Trains from the beginning to the last epoch of the last stage.

        Raises:
            InputError: The folder holds a run or a model, or another training is at work there.
        """
        with self.folder.held():
            self.folder.check_new()
            self._start()
            self._begin()
            self._train()

    def _start(self) -> None:
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

    def resume(self) -> None:
        """Goes on from the state that a run of this recipe left in the folder, and ends where it would have ended.

        Raises:
            InputError: No state there, or that of another recipe or of other data, or another training is at work.
        """
        with self.folder.held():
            self._restore()
            self._train()

    def _restore(self) -> None:
        tensors, self.progress, self.origin = self.folder.read_state()
        self.network.load_state_dict(checkpoint.unprefixed("model", tensors))
        self._begin()
        self.average.load_state_dict(checkpoint.unprefixed("average", tensors))
        count = sum(len(group["params"]) for group in self.optimizer.param_groups)
        moments = [checkpoint.unprefixed(f"optimizer.{number}", tensors) for number in range(count)]
        optimise.load_state(self.optimizer, moments)
        progress = self.progress
        done = progress.epoch * self.steps + progress.step
        self.schedule.replay(done, progress.accuracies())

    @property
    def options(self) -> Training:
        """The present stage's."""
        return self.plan.stages[self.progress.stage]

    def _check(self) -> None:
        world = self.fabric.world_size
        for stage in self.plan.stages:
            if stage.batch % (world * stage.accumulate):
                raise InputError(
                    f"a batch of {stage.batch} has no {world} x {stage.accumulate} equal parts: change "
                    "training.batch, training.accumulate or --devices"
                )

    def _begin(self) -> None:
        """Sets a stage up: fresh optimizer, schedule and average around the network's present weights."""
        options, fabric = self.options, self.fabric
        if options.dropout is not None:
            self.network.spatial_dropout.p = self.network.tail.dropout.p = options.dropout
        self.network.to(fabric.device)
        self.part: nn.Module = self.network
        if options.frozen_trunk:
            self.part = self.network.behind_trunk()
            with fabric.rank_zero_first():  # the others find what the first has computed
                self.material.freeze(self.network.trunk, self.cache)
        self._refuse_batch_norm()
        self.steps = len(self.material.train) // options.batch
        self.optimizer = optimise.optimizer(self.part, options)
        self.schedule = optimise.Schedule(self.optimizer, options, self.steps)
        self.model, self.prepared = cast("tuple[Any, Any]", fabric.setup(self.part, self.optimizer))
        self.average = optimise.averaged(self.part, options.ema)
        self.average.to(fabric.device)
        self.saved = time.monotonic()

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
            self.network.load_state_dict(self.folder.read_model())
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
        visit = self.material.visit(seen, options)
        side = options.side(progress.epoch, self.plan.input.size)
        inputs = self.material.epoch(seen, side, options.seed)
        part = options.batch // self.fabric.world_size
        self.model.train()
        while progress.step < self.steps:
            first = progress.step * options.batch + self.fabric.global_rank * part
            self._step(inputs, visit[first : first + part])
            progress.step += 1
            bar.update()
            if time.monotonic() - self.saved > self.save_every:
                progress.seconds += time.monotonic() - started
                started = time.monotonic()
                self._write_state()
        progress.seconds += time.monotonic() - started
        if not progress.history:
            self._write_state()  # a model never lies in the folder without the state of its run
        self._record(progress.seconds)

    def _step(self, inputs: Callable[[Tensor], Tensor], chosen: Tensor) -> None:
        options, progress, fabric = self.options, self.progress, self.fabric
        # Dropout draws from torch's generator: keyed by the step, a resumed run draws what this one did.
        key = (options.seed, progress.stage, progress.epoch, progress.step, fabric.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        weights = self.material.balance if options.class_weights == "balanced" else None
        self.prepared.zero_grad()
        total = torch.zeros((), device=fabric.device)
        micros = chosen.chunk(options.accumulate)
        for number, micro in enumerate(micros):
            with fabric.no_backward_sync(self.model, enabled=number + 1 < len(micros)):
                targets = self.material.train.targets[micro].to(fabric.device)
                loss = F.cross_entropy(self.model(inputs(micro)), targets, weight=weights)
                loss = loss / len(micros)
                fabric.backward(loss)
                total += loss.detach()
        norm = fabric.clip_gradients(
            self.model, self.prepared, max_norm=options.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not torch.isfinite(total + norm):
            raise ConvcutError(
                f"the loss is {float(total)}, its gradient {norm} at epoch {progress.epoch}, "
                f"batch {progress.step}: lower the learning rate; {self.folder.directory} keeps the last good "
                "state, if any"
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
            best = self.network.state_dict() | self.average.module.state_dict()
            self.folder.write_model(best, progress, self.origin)
        self._write_state()

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Accuracy of the averaged weights on validation, and the temperature that fits their logits."""
        if not self.fabric.is_global_zero:
            return 0.0, 1.0
        model, material = self.average.module.eval(), self.material
        labels = material.validation.targets.argmax(dim=1)
        parts = torch.arange(len(labels)).split(self.network.faces_at_once(256))  # type: ignore[no-untyped-call]
        logits = torch.cat([model(material.held_out(part)) for part in parts]).cpu()
        right = float((logits.argmax(dim=1) == labels).double().mean())
        return right, fit_temperature(logits.numpy(), labels.numpy())

    def _write_state(self) -> None:
        tensors = checkpoint.prefixed("model", self.network.state_dict())
        tensors |= checkpoint.prefixed("average", self.average.state_dict())
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= checkpoint.prefixed(f"optimizer.{number}", values)
        self.folder.write_state(tensors, self.progress, self.origin)
        self.saved = time.monotonic()

    def _say(self, text: str) -> None:
        if self.fabric.is_global_zero:
            print(text, file=sys.stderr)
