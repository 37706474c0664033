"""The verb ``train``: a recipe and faces to ``model.safetensors``, ``state.safetensors`` and ``run.json``.

``model.safetensors`` holds the averaged weights of the best validation epoch, with the recipe and the temperature
that fits validation; ``state.safetensors`` is what ``--resume`` goes on from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.fabric import Fabric

from convcut_trt.datasets import Dataset
from convcut_trt.errors import InputError
from export import checkpoint, fine_tuning, recipe
from export.data import DATA_HELP, hold_out, open_faces
from export.run_folder import NOTE, STATE
from export.trainer import SAVE_EVERY, Trainer


def faces(source: str, *, skip_corrupt: bool) -> Dataset:
    """Opens the data; where it has no validation split, a tenth of the training split becomes it.

    Raises:
        InputError: Whatever is wrong with the data, with the fix.
    """
    dataset = open_faces(source, skip_corrupt=skip_corrupt)
    if dataset.skipped:
        print(f"{len(dataset.skipped)} pictures cannot be read and are left out", file=sys.stderr)
    return hold_out(dataset)


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``train``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt train",
        description="Train a model by a recipe, or fine-tune one to your own pictures and classes.",
        epilog="examples: convcut-trt train conv-cut-mini --data ferplus.npz -o runs/conv-cut-mini; "
        "convcut-trt train --init conv-cut-mini --data my-faces/ -o runs/mine",
    )
    parser.add_argument(
        "recipe", nargs="?", help="name of a recipe in export/recipes, or a .toml file"
    )
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--init",
        metavar="CHECKPOINT",
        help="begin with these weights: a model.safetensors, or conv-cut-mini; its recipe is the default",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, as in --set training.epochs=5",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the folder's run stopped"
    )
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="leave out pictures that cannot be read"
    )
    parser.add_argument(
        "--save-every",
        type=float,
        default=SAVE_EVERY,
        metavar="SECONDS",
        help="keep a state to resume from within long epochs (default: %(default)g)",
    )
    parser.add_argument("--devices", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--json", action="store_true", help="print run.json on stdout at the end")
    options = parser.parse_args(arguments)
    initial = None if options.init is None else fine_tuning.find(options.init)
    if options.recipe is not None:
        plan = recipe.read(options.recipe, options.set)
    elif initial is not None:
        own = fine_tuning.recipe(initial).model_dump(mode="json", exclude_none=True)
        plan = recipe.parse(recipe.changed(own, options.set), f"the recipe of {initial}")
    else:
        raise InputError("what shall be trained? Give a recipe, or a checkpoint with --init")
    if options.devices < 1:
        raise InputError(f"--devices {options.devices} is no number of processes: give 1 or more")
    # Every process of a launch comes through here, and the first may have begun to write.
    fabric = Fabric(
        accelerator="auto",
        devices=options.devices,
        strategy="ddp" if options.devices > 1 else "auto",
        precision=plan.training.precision,
    )
    if fabric.is_global_zero:
        checkpoint.make_folder(options.output)
        if (options.output / STATE).exists() and not options.resume:
            raise InputError(
                f"{options.output} holds a run: go on with --resume, or choose another folder"
            )
    fabric.launch()
    trainer = Trainer(
        plan,
        faces(options.data, skip_corrupt=options.skip_corrupt),
        options.output,
        fabric,
        start=None if initial is None else fine_tuning.start(initial),
        save_every=options.save_every,
    )
    if options.resume:
        trainer.resume()
    else:
        trainer.run()
    if fabric.is_global_zero:
        note = (options.output / NOTE).read_text()
        best = f"best validation accuracy {trainer.progress.best_accuracy:.2%}"
        print(note if options.json else best)
    return 0
