"""What the black bars of ``hri_face_detect``'s aligned faces do to the bundled model's answers.

    python -m bench.aligned --data ferplus.npz

Aligned faces are square; beside a detector's box that is higher than wide they are black. Here validation faces get
such bars, as for boxes of 7:8, 3:4 and 2:3, and are answered as they are and by their inner square. Writes
``aligned.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.about import about
from bench.detectors import accuracy, choose
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.datasets import open_dataset
from convcut_trt.fields import write_json
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.preprocess import resize

RESULT = Path(__file__).parent / "results" / "aligned.json"
BARS = {"7:8": 1 / 16, "3:4": 1 / 8, "2:3": 1 / 6}
"""Width over height of the box, and each bar's share of the side."""
COUNT = 1500
_BATCH = 64

Pixels = NDArray[np.uint8]


def barred(faces: Pixels, share: float) -> Pixels:
    """Faces uint8 [N, S, S, 3] with a black bar on the left and on the right."""
    width = round(faces.shape[2] * share)
    result = faces.copy()
    result[:, :, :width] = result[:, :, faces.shape[2] - width :] = 0
    return result


def inner(faces: Pixels, share: float) -> Pixels:
    """What is left of the same faces when the square between the bars is cut out, of the same size."""
    size = faces.shape[1]
    edge = round(size * share)
    box = (edge, edge, size - edge, size - edge)
    return np.stack([resize(face, size, box=box) for face in faces])


def main(given: Sequence[str] | None = None) -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m bench.aligned")
    parser.add_argument("--data", type=Path, required=True, metavar="FACES")
    options = parser.parse_args(given)
    model = find_model(DEFAULT_MODEL)
    dataset = open_dataset(options.data, classes=model.spec.classes)
    rows = choose(dataset, COUNT)
    faces = np.stack([model.spec.face(dataset.image(int(row))) for row in rows])
    with OnnxRuntime().open(model.onnx) as session:

        def answered(pictures: Pixels) -> dict[str, object]:
            parts = [pictures[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
            answers = [session.run(part)["probabilities"].argmax(axis=1) for part in parts]
            return accuracy(np.concatenate(answers) == dataset.labels[rows])

        boxes = {
            box: {"bars": answered(barred(faces, share)), "inner": answered(inner(faces, share))}
            for box, share in BARS.items()
        }
        report = {
            "schema": 1,
            **about(["python -m bench.aligned --data FACES"]),
            "data": f"{dataset.name}, validation",
            "model": model.spec.name,
            "plain": answered(faces),
            "boxes": boxes,
        }
    write_json(RESULT, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main, as_json=False))
