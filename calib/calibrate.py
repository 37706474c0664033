"""The verb ``calibrate``: faces and a model -> ``NAME.ranges.json``, all that INT8 needs, with nobody's faces.

``convcut-trt calibrate models/mine.onnx --data faces`` writes it beside the model;
``convcut-trt calibrate models/mine.onnx --data faces --check models/mine.ranges.json`` says whether the
pictures it was made from are still there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcut_trt
from calib.pick import Choice, in_evaluation, pick
from calib.ranges import quantisable
from calib.stability import ALLOWED, TOLERANCE, Stability, measure
from convcut_trt import seam
from convcut_trt.arguments import add_model
from convcut_trt.datasets import Dataset, open_dataset
from convcut_trt.errors import GateFailed, InputError
from convcut_trt.gates import Step
from convcut_trt.home import Model, find_model
from convcut_trt.network import read_onnx
from convcut_trt.optional import load
from convcut_trt.preprocess import resize
from convcut_trt.progress import Progress
from convcut_trt.ranges import METHODS, SCHEMA, Ranges

onnxruntime = load("onnxruntime", "ort")

IMAGES = 512


def calibrate(
    model: Model, dataset: Dataset, choice: Choice, method: str, step: Step
) -> tuple[Ranges, Stability]:
    """The ranges of a model over chosen pictures, and whether they are enough.

    Args:
        model: An exported model.
        dataset: Where the pictures come from.
        choice: Of ``pick``.
        method: One of ``convcut_trt.ranges.METHODS``.
        step: Called as ``step(phase, done, total)``.

    Raises:
        InputError: The model is damaged, or a picture cannot be read.
    """
    one, other = choice.halves()
    halves = _faces(dataset, one, model.spec.size), _faces(dataset, other, model.spec.size)
    tensors, stability = measure(read_onnx(model.onnx), halves, method, step)
    ranges = Ranges(
        schema=SCHEMA,
        name=model.spec.name,
        onnx_sha256=model.spec.onnx_sha256,
        method=method,
        tensors=tensors,
        images=tuple(sorted(choice.hashes)),
        balance=choice.balance,
        stability={**asdict(stability), "tolerance": TOLERANCE, "allowed": ALLOWED},
        provenance={
            "convcut_trt": convcut_trt.__version__,
            "onnxruntime": onnxruntime.__version__,
            "data": dataset.name,
            "seed": choice.seed,
            "left_out": dict(choice.left_out),
        },
    )
    return ranges, stability


def check(ranges: Ranges, model: Model, dataset: Dataset) -> None:
    """Makes sure that ranges belong to a model, and that their pictures are training pictures of a data set.

    Raises:
        InputError: They do not, or pictures are gone, changed, or are used for evaluation.
    """
    ranges.check(model.spec.onnx_sha256)
    for name in quantisable(seam.split(read_onnx(model.onnx))[0]):
        ranges.amax(name)
    rows = {value: row for row, value in enumerate(dataset.hashes())}
    gone = [value for value in ranges.images if value not in rows]
    if gone:
        raise InputError(
            f"{len(gone)} of the {len(ranges.images)} pictures that the ranges of {ranges.name} were made from are "
            f"gone from {dataset.name} or were changed (the first is {gone[0][:12]}): give the data they were made "
            "from, or calibrate again"
        )
    evaluated = in_evaluation(dataset)
    judged = [value for value in ranges.images if evaluated[rows[value]]]
    if judged:
        raise InputError(
            f"{len(judged)} of the {len(ranges.images)} pictures that the ranges of {ranges.name} were made from "
            f"are also in validation or test of {dataset.name}, where engines are judged: calibrate again with it"
        )


def _faces(dataset: Dataset, rows: NDArray[np.intp], size: int) -> NDArray[np.uint8]:
    return np.stack([resize(dataset.image(int(row)), size) for row in rows])


def _larger(choice: Choice) -> int | None:
    """How many pictures to try when these were too few; None where the data has no more."""
    most = sum(choice.available.values())
    return min(2 * len(choice), most) if len(choice) < most else None


def _text(choice: Choice, dataset: Dataset, stability: Stability) -> str:
    lines = [f"{len(choice)} training pictures of {dataset.name}, seed {choice.seed}"]
    width = max(map(len, choice.balance))
    for name, count in choice.balance.items():
        note = "  all there are" if name in choice.short else ""
        lines.append(f"  {name:{width}} {count:6,} of {choice.available[name]:,}{note}")
    left_out = (f"{count:,} {reason}" for reason, count in choice.left_out.items() if count)
    lines.append(f"left out: {', '.join(left_out) or 'none'}")
    return "\n".join([*lines, str(stability)])


def _too_small(choice: Choice, method: str, larger: int | None) -> str:
    way = "give more pictures" if larger is None else f"try --images {larger}"
    if method != "percentile":
        way += ", or --method percentile, which a single picture hardly moves"
    return (
        f"the ranges of {len(choice)} pictures are not stable, more than {ALLOWED:.0%} of them differ by more than "
        f"{TOLERANCE:.0%} between the halves, so nothing was written: {way}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The verb ``calibrate``."""
    options = _parser().parse_args(arguments)
    if options.data is None:
        raise InputError(
            "calibration needs faces, and nothing stands in for them: give --data FACES, "
            "or build with the ranges that come with the model"
        )
    model = find_model(options.model)
    if options.check is not None:
        ranges = Ranges.read(options.check)
        check(ranges, model, open_dataset(options.data))
        report: dict[str, Any] = {"ranges": str(options.check), "images": len(ranges.images)}
        said = f"{options.check} fits {model.onnx.name}, and its {len(ranges.images)} pictures are all there"
        print(json.dumps(report) if options.json else said)
        return 0
    output = options.output or model.onnx.with_suffix(".ranges.json")
    if not output.parent.is_dir():
        raise InputError(f"the folder {output.parent} does not exist: make it, or choose another")
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file in it, {output / 'NAME.ranges.json'}")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise InputError(f"{output.parent} cannot be written to: choose another folder with -o")
    dataset = open_dataset(options.data)
    choice = pick(dataset, model.spec.classes, options.images, options.seed)
    with Progress(quiet=options.json) as progress:
        ranges, stability = calibrate(model, dataset, choice, options.method, progress)
    larger = None if stability.stable else _larger(choice)
    if stability.stable:
        ranges.write(output)
    if options.json:
        report = {
            "ranges": str(output) if stability.stable else None,
            "method": options.method,
            "images": len(choice),
            "asked": options.images,
            "balance": choice.balance,
            "short": choice.short,
            "left_out": choice.left_out,
            "stable": stability.stable,
            "stability": ranges.stability,
            "try_images": larger,
        }
        print(json.dumps(report))
    else:
        print(_text(choice, dataset, stability))
    if not stability.stable:
        raise GateFailed(_too_small(choice, options.method, larger))
    if not options.json:
        print(
            f"\nbuild with   convcut-trt build {options.model} --precision int8 --ranges {output}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convcut-trt calibrate",
        description="Find the ranges that INT8 needs, over faces of the training split.",
        epilog="example: convcut-trt calibrate models/mine.onnx --data ferplus.npz --images 512",
    )
    add_model(parser)
    parser.add_argument(
        "--data", metavar="FACES", help="FERPlus (npz, CSV, PNG folders), RAF-DB or class folders"
    )
    parser.add_argument(
        "--images", type=int, default=IMAGES, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="percentile", help="default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: NAME.ranges.json beside it"
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RANGES",
        help="only check that these ranges fit the model, and that their pictures are in the data",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser
