"""How much to cut out around a detector's boxes, and what the way through detector and crop costs in accuracy.

    python -m bench.detectors --data ferplus.npz --yunet face_detection_yunet_2023mar.onnx

Validation faces are enlarged and put into an empty camera frame of 640x480, at random sizes and places. The
picture's side over the longer side of the box that a detector then finds, as the median over the faces, gives the
margin that makes the crop equal to the training picture: ``margin`` of ``faces.yunet.YuNet`` and
``faces.haar.Haar``. Writes ``detectors.json`` and ``detectors.md``, each detector of the OpenCV that is installed;
what another OpenCV has measured stays. No face is written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.about import about, keep
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.datasets import open_dataset
from convcut_trt.datasets.labelled import Dataset
from convcut_trt.errors import InputError
from convcut_trt.faces.detect import Detector, crop_margin
from convcut_trt.faces.haar import Haar
from convcut_trt.faces.yunet import YuNet
from convcut_trt.fields import sha256, write_file
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.optional import load
from convcut_trt.preprocess import crop_box, faces, resize
from convcut_trt.stats import bootstrap, wilson

RESULTS = Path(__file__).parent / "results"
FRAME = (480, 640)  # rows, columns
SIDES = (120, 320)  # of the face in the frame, pixels
COUNT = 1000
SEED = 0
_BATCH = 64

Pixels = NDArray[np.uint8]
F64 = NDArray[np.float64]


@dataclass
class Seen:
    """What a detector made of the scenes; NaN where it found nothing.

    Attributes:
        ratios: The face's side over the longer side of the largest box.
        overlaps: Intersection over union of the square that is cut out and the face.
        crops: uint8 [size, size, 3], what is cut out; zeros where nothing was found.
        several: Scenes with more than one box.
        seconds: Of each call.
    """

    ratios: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    crops: list[Pixels] = field(default_factory=list)
    several: int = 0
    seconds: list[float] = field(default_factory=list)


def scene(picture: Pixels, random: np.random.Generator) -> tuple[Pixels, F64]:
    """A frame of one grey level, the picture's mean, with the picture in it.

    Returns:
        uint8 [480, 640, 3], and the square in it as x, y, width, height.
    """
    side = int(random.integers(SIDES[0], SIDES[1] + 1))
    height, width = picture.shape[:2]
    face = resize(picture, side, box=crop_box(None, width, height))
    frame = np.full((*FRAME, 3), round(float(face.mean())), np.uint8)
    # A twentieth of the frame stays free, so that no box is cut at its edge.
    y, x = (
        int(random.integers(length // 20, length - length // 20 - side + 1)) for length in FRAME
    )
    frame[y : y + side, x : x + side] = face
    return frame, np.array([x, y, side, side], np.float64)


def look(seen: Seen, find: Detector, frame: Pixels, square: F64, size: int, margin: float) -> None:
    """Adds to ``seen`` what the detector makes of one scene."""
    start = time.perf_counter()
    boxes = find(frame)
    seen.seconds.append(time.perf_counter() - start)
    seen.several += len(boxes) > 1
    if not len(boxes):
        seen.ratios.append(np.nan)
        seen.overlaps.append(np.nan)
        seen.crops.append(np.zeros((size, size, 3), np.uint8))
        return
    cut = crop_box(boxes[0].tolist(), FRAME[1], FRAME[0], margin)
    seen.ratios.append(float(square[2] / boxes[0, 2:].max()))
    seen.overlaps.append(overlap(np.array(cut), np.hstack([square[:2], square[:2] + square[2:]])))
    seen.crops.append(faces(frame, boxes[:1], size, margin)[0])


def overlap(one: F64, other: F64) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    inner = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(inner, 0)))
    return shared / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def median(values: F64) -> Callable[[F64], F64]:
    """Medians under the weights [R, N] of ``stats.bootstrap``."""
    order = np.argsort(values)

    def statistic(weights: F64) -> F64:
        reached = np.cumsum(weights[:, order], axis=1)
        middle: F64 = values[order][(reached >= reached[:, -1:] / 2).argmax(axis=1)]
        return middle

    return statistic


def summary(seen: Seen, plain: NDArray[np.bool_], through: NDArray[np.bool_]) -> dict[str, Any]:
    """One detector's figures; accuracies and changes are those of the faces that it found.

    Args:
        seen: Of N scenes.
        plain: bool [N], whether the answer to the picture itself is right.
        through: bool [N], whether that to what was cut out is.
    """
    ratios = np.array(seen.ratios)
    found = np.isfinite(ratios)
    count = int(found.sum())
    if not count:
        return {"found": 0}
    step = through[found].astype(np.float64) - plain[found]
    ratio = ratios[found]
    middle = float(np.median(ratio))
    return {
        "found": count,
        "found_interval": list(wilson(count, len(found))),
        "several_boxes": seen.several,
        "ratio": middle,
        "ratio_interval": bootstrap(median(ratio), count).tolist(),
        "ratio_quartiles": np.quantile(ratio, [0.25, 0.75]).tolist(),
        "margin": max(0.0, (middle - 1) / 2),  # the crop rule only ever adds
        "overlap": float(np.nanmedian(seen.overlaps)),
        "accuracy_plain": accuracy(plain[found]),
        "accuracy_through": accuracy(through[found]),
        "change": float(step.mean()),
        "change_interval": bootstrap(lambda w: w @ step / count, count).tolist(),
        "milliseconds": float(np.median(seen.seconds)) * 1e3,
    }


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """A share of right answers with its 95 % interval."""
    count = int(right.sum())
    return {
        "images": len(right),
        "value": count / len(right),
        "interval": list(wilson(count, len(right))),
    }


def detectors(yunet: Path | None) -> dict[str, Detector]:
    """Those that this OpenCV has.

    Raises:
        InputError: None.
        BackendMissing: No OpenCV.
    """
    found: dict[str, Detector] = {}
    if yunet is not None:
        found["YuNet"] = YuNet(yunet)
    if hasattr(load("cv2", "faces"), "CascadeClassifier"):
        found["Haar"] = Haar()
    if not found:
        raise InputError("this OpenCV has no Haar cascade: name YuNet's file with --yunet")
    return found


def choose(dataset: Dataset, count: int) -> NDArray[np.intp]:
    """Positions of random labelled validation faces without a double in the training split.

    Raises:
        InputError: There are none.
    """
    rows = dataset.subset("validation", clean=True)
    if not len(rows):
        raise InputError(f"{dataset.name} has no labelled validation faces: give data with some")
    return np.random.default_rng(SEED).permutation(rows)[:count]


def measure(data: Path, finders: Mapping[str, Detector], count: int) -> dict[str, dict[str, Any]]:
    """Detector -> its figures, on the bundled model.

    Raises:
        InputError: The data cannot be used.
    """
    model = find_model(DEFAULT_MODEL)
    spec = model.spec
    dataset = open_dataset(data, classes=spec.classes)
    rows = choose(dataset, count)
    random = np.random.default_rng(SEED)
    plain, exact = [], []
    seen = {name: Seen() for name in finders}
    for number, row in enumerate(rows):
        if number % 100 == 0:
            print(f"{number} of {len(rows)} faces", file=sys.stderr)
        picture = dataset.image(int(row))
        frame, square = scene(picture, random)
        plain.append(spec.face(picture))
        exact.append(faces(frame, square[None], spec.size)[0])
        for name, find in finders.items():
            look(seen[name], find, frame, square, spec.size, crop_margin(find, spec.margin))
    labels = dataset.labels[rows]
    with OnnxRuntime().open(model.onnx) as session:

        def right(pictures: Sequence[Pixels]) -> NDArray[np.bool_]:
            batches = (
                np.stack(pictures[start : start + _BATCH])
                for start in range(0, len(pictures), _BATCH)
            )
            answers = [session.run(batch)["probabilities"].argmax(axis=1) for batch in batches]
            same: NDArray[np.bool_] = np.concatenate(answers) == labels
            return same

        known = right(plain)
        everyone = {
            "images": len(rows),
            "data": f"{dataset.name}, validation",
            "model": spec.name,
            "onnx_sha256": spec.onnx_sha256,
            "plain": accuracy(known),
            "exact_square": accuracy(right(exact)),
        }
        return {
            name: {**everyone, **summary(seen[name], known, right(seen[name].crops))}
            | {"margin_used": crop_margin(find, spec.margin)}
            for name, find in finders.items()
        }


def markdown(report: Mapping[str, Any]) -> str:
    """All parts of the result file as one table."""
    lines = [
        "# Face detectors: margins, and accuracy through detector and crop",
        "",
        "Validation faces, enlarged to 120 to 320 pixels, at random places in an empty frame of 640x480. Ratio: "
        "the picture's side over the longer side of the box, the median; margin: half of what it exceeds 1 by, "
        "not below 0. Accuracy is that of the bundled model on the faces that were found: on the picture itself, "
        "and on what the crop rule cuts out with the margin used. Brackets are 95 % intervals. The pictures show "
        "little around a face, so the share found is theirs and not a camera's. The time is that of one call, on a "
        "machine that may have had other work.",
        "",
        "| detector | found | ratio | margin | used | accuracy, picture | through detector | change | ms | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rest = []
    for name, part in sorted(report["parts"].items()):
        cells = [name, f"{part['found']} of {part['images']}", *["-"] * 8]
        if part["found"]:
            plain, through = part["accuracy_plain"], part["accuracy_through"]
            cells[1] += _percent(part["found_interval"])
            cells[2:] = [
                f"{part['ratio']:.3f} [{part['ratio_interval'][0]:.3f}, {part['ratio_interval'][1]:.3f}]",
                f"{part['margin']:.3f}",
                f"{part['margin_used']:.3f}",
                f"{plain['value']:.1%}{_percent(plain['interval'])}",
                f"{through['value']:.1%}{_percent(through['interval'])}",
                f"{part['change'] * 100:+.1f} points{_percent(part['change_interval'])}",
                f"{part['milliseconds']:.0f}",
                part["date"][:10],
            ]
        lines.append(f"| {' | '.join(cells)} |")
        rest.append(
            f"- {name}: {part['data']}, n = {part['images']}; accuracy of `{part['model']}` on all of them "
            f"{part['plain']['value']:.1%}, on the enlarged faces cut out exactly "
            f"{part['exact_square']['value']:.1%}."
        )
    return "\n".join([*lines, "", *rest]) + "\n"


def _percent(interval: Sequence[float]) -> str:
    return f" [{interval[0] * 100:.1f}, {interval[1] * 100:.1f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes both files."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.detectors",
        description="Measure crop margins of the face detectors, and accuracy through detector and crop.",
        epilog="example: python -m bench.detectors --data ferplus.npz --yunet face_detection_yunet_2023mar.onnx",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FACES", help="with validation")
    parser.add_argument("--yunet", type=Path, metavar="FILE", help="YuNet's .onnx; else Haar only")
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help="faces, at random")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count {options.count}: give 1 or more")
    finders = detectors(options.yunet)
    opencv = load("cv2", "faces").__version__
    yunet = "" if options.yunet is None else f" --yunet {options.yunet.name}"
    command = f"python -m bench.detectors --data {options.data.name}{yunet} --count {options.count}"
    options.output.mkdir(parents=True, exist_ok=True)
    for name, found in measure(options.data, finders, options.count).items():
        origin = about([command])
        origin["versions"]["opencv"] = opencv
        if name == "YuNet":
            origin["file"] = {"name": options.yunet.name, "sha256": sha256(options.yunet)}
        part = f"{name}, OpenCV {opencv}"
        whole = keep(options.output / "detectors.json", "CPU", part, {**origin, **found})
        write_file(options.output / "detectors.md", markdown(whole).encode())
    print(options.output / "detectors.md")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
