"""From a ``convcut_trt.datasets.Dataset`` to torch batches, with augmentation keyed by (seed, epoch, image)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convcut_trt.datasets import Dataset, dataset_from_arrays, open_dataset
from convcut_trt.preprocess import resize
from export.recipe import Augmentation, Input
from export.synthetic import CLASSES, render_set

# flip, rotation, scale, shift x, shift y, brightness, contrast, and whether, where and how large to erase
_DRAWS = 12

DATA_HELP = "FERPlus (npz, CSV, PNG folders), RAF-DB, class folders, or synthetic[:N] for N rendered training faces"
_SYNTHETIC = re.compile(r"synthetic(?::(\d+))?")


def open_faces(source: str, *, skip_corrupt: bool = False) -> Dataset:
    """Opens what ``--data`` names: a file or folder of ``open_dataset``, or ``synthetic`` or ``synthetic:4000``.

    ``synthetic:N`` renders N faces of 96 px to train on (default 4,000), and an eighth of it, but at least
    eight, for validation and for the test each: other people, from seeds of their own. ``skip_corrupt`` leaves
    out pictures that cannot be read.

    Raises:
        InputError: Whatever is wrong with the data, with the fix.
    """
    match = _SYNTHETIC.fullmatch(source)
    if match is None:
        return open_dataset(source, skip_corrupt=skip_corrupt)
    count = int(match[1] or 4000)
    held_out = max(count // 8, len(CLASSES))
    sizes = (count, held_out, held_out)
    rendered = [render_set(size, seed) for seed, size in enumerate(sizes)]
    images, labels = (np.concatenate(parts) for parts in zip(*rendered, strict=True))
    return dataset_from_arrays(source, images, labels, CLASSES, np.repeat(np.arange(3), sizes))


def hold_out(dataset: Dataset) -> Dataset:
    """The data itself where it has a validation split; else a tenth of the training split becomes it, and says so.

    The same pictures are held out each time: see ``Dataset.with_validation``.

    Raises:
        InputError: There are too few training pictures to hold some out.
    """
    if len(dataset.subset("validation")):
        return dataset
    dataset = dataset.with_validation()
    count = len(dataset.subset("validation"))
    print(
        f"{dataset.name} has no validation split: {count} of its training pictures are held out",
        file=sys.stderr,
    )
    return dataset


@dataclass(frozen=True)
class Split:
    """Pixels uint8 [N, channels, S, S] of one split, and its targets float32 [N, classes], rows summing to 1."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)


def load_split(
    dataset: Dataset, indices: NDArray[np.int64], targets: NDArray[np.float32], input: Input
) -> Split:
    """Decodes and resizes the pictures of ``indices`` by the spec's rule; grey where ``input`` has one channel."""
    channels = len(input.mean)
    # Filled in place: 25,000 faces of 224 px are 3.8 GB, once.
    images = torch.empty((len(indices), channels, input.size, input.size), dtype=torch.uint8)
    for image, index in zip(images, indices, strict=True):
        pixels = resize(dataset.image(int(index)), input.size, grey=channels == 1)
        image.copy_(torch.tensor(pixels).permute(2, 0, 1))
    return Split(images, torch.from_numpy(targets))


def normalise(images: Tensor, input: Input) -> Tensor:
    """Maps uint8 [N, C, S, S] to float32: (x / 255 - mean) / std."""
    mean = torch.tensor(input.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(input.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 8) | stream]))


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which an epoch visits ``count`` images."""
    return _generator(seed, epoch, 0).permutation(count)


def draws(seed: int, epoch: int, count: int) -> NDArray[np.float32]:
    """Uniform numbers in [-1, 1), one row an image: which process or batch asks does not matter."""
    return _generator(seed, epoch, 1).random((count, _DRAWS), dtype=np.float32) * 2 - 1


def augment(images: Tensor, rows: Tensor, options: Augmentation, size: int) -> Tensor:
    """Flips, rotates, scales, shifts, erases, and changes brightness and contrast of normalised images.

    Args:
        images: float32 [N, C, S, S].
        rows: float32 [N, 12] from ``draws``.
        options: Widths of the distributions.
        size: Side in pixels of what is returned, [N, C, size, size].
    """
    mirror = torch.where(rows[:, 0] < 0, -1.0, 1.0) if options.flip else torch.ones_like(rows[:, 0])
    angle, zoom = rows[:, 1] * options.rotation, 1 + rows[:, 2] * options.scale
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift = rows[:, 3:5] * options.shift * 2  # grid coordinates span -1 ... 1
    matrix = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1),
            torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [*images.shape[:2], size, size], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain = 1 + rows[:, 6, None, None, None] * options.contrast
    images = images * gain + rows[:, 5, None, None, None] * options.brightness
    return images * _kept(rows, options.erase, size) if options.erase else images


def _kept(rows: Tensor, longest: float, size: int) -> Tensor:
    """[N, 1, size, size]: 0 inside the rectangle of those that get one, and so the mean of a normalised image."""
    where = (torch.arange(size, device=rows.device) + 0.5) / size * 2 - 1
    near = (where - rows[:, 8:10, None]).abs() < (rows[:, 10:12, None] + 1) / 2 * longest
    inside = (near[:, 0, :, None] & near[:, 1, None, :]) & (rows[:, 7] < 0)[:, None, None]
    return (~inside).unsqueeze(1).to(rows.dtype)


def augmented(
    split: Split,
    input: Input,
    options: Augmentation,
    *,
    seed: int,
    epoch: int,
    resolution: int,
    device: torch.device | None = None,
) -> Callable[[Tensor], Tensor]:
    """An epoch's pictures by their positions: int64 [M] -> normalised, augmented float32 [M, C, side, side]."""
    rows = torch.from_numpy(draws(seed, epoch, len(split))).to(device)

    def pictures(chosen: Tensor) -> Tensor:
        images = normalise(split.images[chosen].to(device), input)
        return augment(images, rows[chosen.to(device)], options, resolution)

    return pictures
