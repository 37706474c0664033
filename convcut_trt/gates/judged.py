"""The faces that engines are judged by: those given, with labels where they have some, else the 256 in the zoo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcut_trt.datasets.labelled import Dataset
from convcut_trt.errors import InputError
from convcut_trt.home import GATE_PICTURES
from convcut_trt.preprocess import resize
from convcut_trt.spec import ModelSpec


@dataclass(frozen=True)
class Judged:
    """Faces for the gates.

    Attributes:
        faces: uint8 [N, S, S, 3], resized by the model's rule.
        labels: int64 [N], positions in the spec's classes; None without labels.
        source: Where they come from, for the manifest.

    Raises:
        InputError: No faces, not of this shape and type, or another number of labels.
    """

    faces: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    source: str

    def __post_init__(self) -> None:
        if not len(self.faces):
            raise InputError(
                "there are no faces to hold the engine to: give some, or leave --data out"
            )
        if self.faces.dtype != np.uint8 or self.faces.ndim != 4 or self.faces.shape[3] != 3:
            raise InputError(
                f"faces for the gates are uint8 [N, S, S, 3], these are {self.faces.dtype} "
                f"{list(self.faces.shape)}"
            )
        if self.labels is not None and len(self.labels) != len(self.faces):
            raise InputError(
                f"{len(self.faces)} faces and {len(self.labels)} labels: give one for each"
            )


def bundled(size: int, count: int | None = None) -> Judged:
    """The pictures of the zoo, the first ``count`` of its 256: synthetic, without labels."""
    with np.load(GATE_PICTURES, allow_pickle=False) as file:
        pictures = file["pictures"][:count]
    faces = np.stack([resize(picture, size) for picture in pictures])
    return Judged(faces, None, f"{len(faces)} bundled pictures")


def from_dataset(dataset: Dataset, spec: ModelSpec, count: int | None = None) -> Judged:
    """Labelled faces that the model was not trained on.

    Those of test and validation that are not in an earlier split, pixel for pixel; of data without either, all.

    Args:
        dataset: Labelled faces; classes that the model does not know are left out.
        spec: Of the model.
        count: Take this many, evenly spread over them.

    Raises:
        InputError: No labelled face of one of the model's classes.
    """
    parts = [dataset.subset(split, clean=True) for split in ("test", "validation")]
    rows, of = np.concatenate(parts), "clean test and validation"
    if not len(rows):
        rows, of = dataset.subset("train"), "all"
    codes = {name: code for code, name in enumerate(spec.classes)}
    lookup = np.array([codes.get(name, -1) for name in dataset.classes], dtype=np.int64)
    labels = lookup[dataset.labels[rows]]
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    if not len(rows):
        raise InputError(
            f"{dataset.name} has no labelled face of the classes of {spec.name} ({', '.join(spec.classes)}): give "
            "data with these class names"
        )
    if count is not None and count < len(rows):
        chosen = np.linspace(0, len(rows) - 1, count).round().astype(np.intp)
        rows, labels = rows[chosen], labels[chosen]
    faces = np.stack([resize(dataset.image(int(row)), spec.size) for row in rows])
    return Judged(faces, labels, f"{len(faces)} faces of {dataset.name} ({of})")
