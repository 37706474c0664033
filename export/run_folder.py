"""The folder of a run: the best model, the state to go on from, and a note of what made them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

import convcut_trt
from convcut_trt.alone import alone
from convcut_trt.errors import InputError
from convcut_trt.fields import write_json
from export import checkpoint

MODEL, STATE, NOTE = "model.safetensors", "state.safetensors", "run.json"


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


def environment(fabric: Fabric) -> dict[str, dict[str, Any]]:
    """What a report says of the software and the machine that it was made with."""
    device = fabric.device
    return {
        "versions": {
            "convcut-trt": convcut_trt.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": fabric.world_size,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else str(device),
        },
    }


class RunFolder:
    """Where one run is kept. Of several processes only the first writes.

    Args:
        directory: It exists.
        fabric: Launched.
        identity: What a run that is gone on with must have in common with this one, ready for JSON.
        images: How many pictures each split has.
    """

    def __init__(
        self,
        directory: Path,
        fabric: Fabric,
        identity: Mapping[str, Any],
        images: Mapping[str, int],
    ) -> None:
        self.directory, self.fabric = directory, fabric
        self.identity, self.images = identity, images

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other training out of the folder.

        Raises:
            InputError: Another one is at work there.
        """
        if not self.fabric.is_global_zero:
            yield
            return
        busy = f"another training writes to {self.directory}: wait for it, or choose another folder with -o"
        with alone(self.directory, busy):
            yield

    def check_new(self) -> None:
        """Makes sure that a new run overwrites no other one, nor a model without its state.

        Raises:
            InputError: The folder holds one.
        """
        if not self.fabric.is_global_zero:
            return
        if (self.directory / STATE).exists():
            raise InputError(
                f"{self.directory} holds a run: go on with --resume, or choose another folder"
            )
        if (self.directory / MODEL).exists():
            raise InputError(
                f"{self.directory} holds a {MODEL} without the {STATE} to go on from: choose another folder with -o"
            )

    def write_model(
        self, tensors: dict[str, Tensor], progress: Progress, origin: Mapping[str, Any]
    ) -> None:
        """Writes the model.

        Raises:
            InputError: The disk is full, or the folder cannot be written to.
        """
        if self.fabric.is_global_zero:
            checkpoint.write(self.directory / MODEL, tensors, self._note(progress, origin))

    def write_state(
        self, tensors: dict[str, Tensor], progress: Progress, origin: Mapping[str, Any]
    ) -> None:
        """Writes the note by itself for people and programs, then the state: a finished run has both.

        Raises:
            InputError: The disk is full, or the folder cannot be written to.
        """
        if self.fabric.is_global_zero:
            note = self._note(progress, origin)
            write_json(self.directory / NOTE, note)
            checkpoint.write(self.directory / STATE, tensors, note)

    def read_model(self) -> dict[str, Tensor]:
        """The best weights so far, by their names in the network.

        Raises:
            InputError: There are none.
        """
        return checkpoint.read(self.directory / MODEL)[0]

    def read_state(self) -> tuple[dict[str, Tensor], Progress, dict[str, Any]]:
        """What ``write_state`` was given.

        Raises:
            InputError: No state there, or that of another recipe, of other classes or of other data.
        """
        tensors, note = checkpoint.read(self.directory / STATE)
        for key, value in self.identity.items():
            if note.get(key) != value:
                raise InputError(
                    f"{self.directory} holds a run with another {key}: choose another folder with -o"
                )
        return tensors, Progress(**note["progress"]), note["origin"]

    def _note(self, progress: Progress, origin: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "schema": checkpoint.SCHEMA,
            **self.identity,
            **{f"{split}_images": count for split, count in self.images.items()},
            "origin": origin,
            "temperature": progress.temperature,
            "progress": asdict(progress),
            "command": sys.argv,
            **environment(self.fabric),
        }
