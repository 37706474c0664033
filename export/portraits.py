"""Whose faces a figure may show: rendered ones, one in the public domain, or the user's own; nobody else's.

The terms of FERPlus, FER2013 and RAF-DB forbid to publish their faces, so that these are refused by name, and by
their looks where they come in class folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convcut_trt.datasets import Dataset, open_dataset
from convcut_trt.errors import InputError
from export import synthetic, witnesses

SYNTHETIC = "synthetic"
_SEED = (
    40_020  # of the rendered person: upright, well lit, and far from the seeds that training uses
)
_NEVER = ("ferplus", "fer2013", "raf-db", "rafdb")
_RAFDB = re.compile(r"(train|test)_\d{4,5}(_aligned)?\.(jpg|png)", re.IGNORECASE)

Pixels = NDArray[np.uint8]


class Portrait(NamedTuple):
    """A face to draw: a name for it, the class to ask about, None for whichever is answered, and the pixels."""

    name: str
    label: int | None
    pixels: Pixels


def portraits(classes: Sequence[str], source: str = SYNTHETIC) -> list[Portrait]:
    """The faces to draw, at most one of a class.

    Args:
        classes: The expressions of a model.
        source: ``synthetic``: one person with every expression that the renderer knows, and one portrait in
            the public domain. Else a folder of the user's own pictures in class folders, the first of each.

    Raises:
        InputError: No such folder, no class of the model in it, or faces that are never drawn.
    """
    if source != SYNTHETIC:
        return _own(classes, source)
    rendered = [
        Portrait(name, label, synthetic.render(synthetic.CLASSES.index(name), _SEED, 224))
        for label, name in enumerate(classes)
        if name in synthetic.CLASSES
    ]
    astronaut = witnesses.portrait()
    x, y, width, height = map(int, astronaut.box)
    left = x + (width - height) // 2
    crop = astronaut.pixels[y : y + height, left : left + height]
    return [*rendered, Portrait(astronaut.name, None, crop)]


def _own(classes: Sequence[str], source: str) -> list[Portrait]:
    dataset = open_dataset(source)
    if dataset.name.casefold().startswith(_NEVER):
        raise InputError(
            f"faces of {dataset.name} are never drawn, its terms forbid it: give --data for the statistics, and "
            f"--faces {SYNTHETIC} or a folder of your own pictures"
        )
    first: dict[str, int] = {}
    for row in dataset.subset("train").tolist():
        first.setdefault(dataset.classes[dataset.labels[row]], row)
    shown = [(name, label, first[name]) for label, name in enumerate(classes) if name in first]
    if not shown:
        raise InputError(
            f"{source} has pictures of {', '.join(dataset.classes)} and the model tells {', '.join(classes)} "
            "apart: name the folders by classes of the model"
        )
    return [Portrait(name, label, _checked(dataset, row)) for name, label, row in shown]


def _checked(dataset: Dataset, row: int) -> Pixels:
    """Class folders made of FER2013, FERPlus or RAF-DB have another name but the same faces."""
    pixels, file = dataset.image(row), dataset.image_name(row)
    grey = pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())
    if (grey and pixels.shape[:2] == (48, 48)) or _RAFDB.fullmatch(Path(file).name):
        raise InputError(
            f"{file} looks like a face of FER2013, FERPlus or RAF-DB (grey 48x48 pixels, or such a file name), "
            "and those are never drawn: give larger pictures of people who agreed"
        )
    return pixels
