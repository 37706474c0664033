"""The verb ``ablate``: the paper's Tables 2 and 3, and what the order of the test set does, with several seeds.

    convcut-trt ablate runs/conv-cut-mini/model.safetensors --data ferplus.npz -o runs/ablation

The trunk of the checkpoint is frozen and its features are computed once; each row trains, for each seed, what
stands behind the trunk, from random weights and by the recipe of the checkpoint. ``--end-to-end`` trains whole
networks instead. ``ablation.json`` is written after each of them, and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convcut_trt.arguments import count
from convcut_trt.errors import InputError
from convcut_trt.fields import canonical, read_json, write_file, write_json
from export import checkpoint
from export.ablation_rows import Ablation
from export.ablation_tables import differences, markdown, summary
from export.data import DATA_HELP
from export.recipe import parse
from export.run_folder import environment
from export.train import faces

SCHEMA = 1
REPORT, TABLES = "ablation.json", "ablation.md"


def ablate(
    ablation: Ablation, seeds: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Runs what is missing of all rows, writes the report after each, and returns it.

    Raises:
        InputError: The folder holds another ablation.
        ConvcutError: Whatever stops a training.
    """
    path = ablation.directory / REPORT
    report = _report(ablation, path)
    skipped = {row.name: ablation.refused(row) for row in ablation.tables.rows}
    report["skipped"] = {name: why for name, why in skipped.items() if why}
    for name, why in report["skipped"].items():
        say(f"{name} is left out: {why}")
    wanted = [
        (row, seed)
        for seed in range(seeds)
        for row in ablation.tables.rows
        if not skipped[row.name]
    ]
    done = {(result["row"], result["seed"]) for result in report["results"]}
    missing = [(row, seed) for row, seed in wanted if (row.name, seed) not in done]
    started = time.monotonic()
    for number, (row, seed) in enumerate(missing):
        result = ablation.run(row, seed)
        report["results"].append(result)
        report["seconds"] = round(report["seconds"] + result["seconds"], 1)
        _write(ablation, report, seeds, path)
        shutil.rmtree(ablation.folder(row, seed), ignore_errors=True)
        left = (time.monotonic() - started) / (number + 1) * (len(missing) - number - 1)
        say(
            f"[{number + 1}/{len(missing)}] {row.name}, seed {seed}: clean {result['clean']['accuracy']:.2%}, "
            f"about {left / 60:.0f} minutes left"
        )
    _write(ablation, report, seeds, path)
    return report


def _report(ablation: Ablation, path: Path) -> dict[str, Any]:
    """The report to go on with: the folder's, or an empty one."""
    identity = ablation.identity()
    if path.exists():
        fix = "choose another folder with -o"
        fields = read_json(path, SCHEMA, InputError, fix)
        if canonical(fields.get("identity", dict)) != canonical(identity):
            found = fields.get("identity", dict)
            other = ", ".join(key for key in identity if found.get(key) != identity[key])
            raise InputError(f"{path} is an ablation with another {other}: {fix}")
        fields.get("results", list), fields.get("seconds", float)
        return fields.values
    note, test = ablation.note, ablation.test
    progress = note["progress"]
    stages = parse(note["recipe"], str(ablation.path)).stages
    return {
        "schema": SCHEMA,
        "identity": identity,
        "checkpoint": {
            "file": str(ablation.path),
            "recipe": note["recipe"],
            "data": note["data"],
            "origin": note["origin"],
            "training_images": note["training_images"],
            "epochs": sum(stage.epochs for stage in stages),
            "best_epoch": progress["best_epoch"],
            "validation_accuracy": progress["best_accuracy"],
        },
        "data": {
            "name": ablation.dataset.name,
            "train": len(ablation.dataset.subset("train", kind=ablation.plan.training.targets)),
            "validation": len(ablation.dataset.subset("validation")),
            "official": len(test.labels),
            "clean": int(test.clean.sum()),
        },
        **environment(ablation.fabric),
        "results": [],
        "seconds": 0.0,
    }


def _write(ablation: Ablation, report: dict[str, Any], seeds: int, path: Path) -> None:
    results = [result for result in report["results"] if result["seed"] < seeds]
    report["summary"] = summary(results, ablation.tables)
    report["differences"] = differences(report)
    write_json(path, report)
    write_file(path.with_name(TABLES), markdown(report).encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``ablate``."""
    parser = argparse.ArgumentParser(
        prog="convcut-trt ablate",
        description="Repeat the paper's ablations behind the frozen trunk of a checkpoint.",
        epilog="example: convcut-trt ablate runs/conv-cut-mini/model.safetensors --data ferplus.npz",
    )
    parser.add_argument("checkpoint", type=Path, help="model.safetensors of a run")
    parser.add_argument("--data", required=True, help=DATA_HELP)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the report; one that was begun is gone on with (default: ablation beside the checkpoint)",
    )
    parser.add_argument(
        "--seeds", type=count, default=5, help="trainings of each row (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs", type=count, help="of each stage of the recipe (default: the recipe's)"
    )
    parser.add_argument(
        "--end-to-end",
        action="store_true",
        help="train whole networks by the recipe, trunk included: for GPUs",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    options = parser.parse_args(arguments)
    directory = options.output or options.checkpoint.parent / "ablation"
    # The checkpoint first: a mistake in its name shall not wait for the data.
    checkpoint.read(options.checkpoint)
    ablation = Ablation(
        options.checkpoint,
        faces(options.data, skip_corrupt=False),
        directory,
        epochs=options.epochs,
        end_to_end=options.end_to_end,
    )
    checkpoint.make_folder(directory)
    report = ablate(ablation, options.seeds, lambda text: print(text, file=sys.stderr))
    print(json.dumps(report) if options.json else markdown(report))
    return 0
