"""Accuracy under distortions of the pictures, each at five severities, in the spirit of ImageNet-C (Hendrycks and
Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations").

Their figures are relative to AlexNet's; these are relative to the model's own accuracy on the same faces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from convcut_trt.datasets import Dataset
from convcut_trt.stats import wilson
from export.classifier import Classifier, Picture, predict

Generator = np.random.Generator


def _occlude(picture: Picture, share: float, draws: Generator) -> Picture:
    height, width = picture.shape[:2]
    side = round(share * min(height, width))
    down, right, level = draws.random(3)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    result = picture.copy()
    result[top : top + side, left : left + side] = int(level * 256)
    return result


def _blur(picture: Picture, share: float, draws: Generator) -> Picture:
    deviation = share * min(picture.shape[:2])
    return _bytes(ndimage.gaussian_filter(picture.astype(np.float32), deviation, axes=(0, 1)))


def _add_noise(picture: Picture, deviation: float, draws: Generator) -> Picture:
    noise = draws.standard_normal(picture.shape, dtype=np.float32)
    return _bytes(picture + np.float32(255 * deviation) * noise)


def _darken(picture: Picture, exposure: float, draws: Generator) -> Picture:
    return _bytes(draws.poisson(picture * exposure))


def _rotate(picture: Picture, degrees: float, draws: Generator) -> Picture:
    sign = 1 if draws.random() < 0.5 else -1
    turned = ndimage.rotate(picture, sign * degrees, reshape=False, order=1, mode="nearest")
    return np.asarray(turned)


def _shrink(picture: Picture, side: float, draws: Generator) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, side / min(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _bytes(values: NDArray[Any]) -> Picture:
    result: Picture = np.rint(values).clip(0, 255).astype(np.uint8)
    return result


@dataclass(frozen=True)
class Distortion:
    """One kind of distortion.

    Attributes:
        parameter: What a severity is, with its unit.
        severities: Five, from mild to severe.
        apply: (picture uint8 [H, W] or [H, W, 3], severity, generator) to a picture of the same shape.
    """

    parameter: str
    severities: tuple[float, float, float, float, float]
    apply: Callable[[Picture, float, Generator], Picture]


# A picture is one face: what depends on its size is a share of its shorter side.
DISTORTIONS: Mapping[str, Distortion] = {
    "occlusion": Distortion(
        "a square of one grey level, place and level at random; its side, as a share of the picture's",
        (0.2, 0.3, 0.4, 0.5, 0.6),
        _occlude,
    ),
    "blur": Distortion(
        "Gaussian; standard deviation, as a share of the side (0.01 is half a pixel of 48)",
        (0.01, 0.02, 0.03, 0.045, 0.06),
        _blur,
    ),
    "noise": Distortion(
        "Gaussian, each pixel and channel; standard deviation, white is 1 (0.1 is the severest of CIFAR-10-C)",
        (0.02, 0.04, 0.06, 0.08, 0.1),
        _add_noise,
    ),
    "low light": Distortion(
        "exposure, 1 is the picture's own; with shot noise, Poisson with one photon a grey level",
        (0.6, 0.4, 0.25, 0.15, 0.08),
        _darken,
    ),
    "rotation": Distortion(
        "degrees to either side at random, about the middle; corners repeat the border",
        (10, 20, 30, 45, 60),
        _rotate,
    ),
    "low resolution": Distortion(
        "side of the face in pixels: box filter down, bilinear up again",
        (32, 24, 16, 12, 8),
        _shrink,
    ),
}


def distort(picture: Picture, kind: str, severity: float, row: int) -> Picture:
    """A distorted copy of a picture; what is random is keyed by (kind, row), the same at every severity.

    Args:
        picture: uint8 [H, W] or [H, W, 3].
        kind: Key of ``DISTORTIONS``.
        severity: In the unit of this kind.
        row: Position of the picture in its data set.
    """
    draws = np.random.default_rng([list(DISTORTIONS).index(kind), row])
    return DISTORTIONS[kind].apply(picture, severity, draws)


def robustness(
    model: Classifier, dataset: Dataset, rows: NDArray[np.intp], accuracy: float
) -> dict[str, Any]:
    """Accuracy on the labelled images ``rows`` under every distortion and severity, with Wilson's intervals.

    Args:
        model: Under test.
        dataset: Labelled faces.
        rows: Positions in it.
        accuracy: On the undistorted images; means are also given as a share of it.

    Raises:
        InputError: As ``predict``.
    """
    labels = dataset.labels[rows]
    kinds: dict[str, dict[str, Any]] = {}
    total = sum(len(entry.severities) for entry in DISTORTIONS.values()) * len(rows)
    with tqdm(total=total, unit="face", file=sys.stderr) as bar:
        for kind, entry in DISTORTIONS.items():
            bar.set_description_str(f"robustness, {kind}")
            right = []
            for severity in entry.severities:
                answers = predict(model, dataset, rows, bar=bar, change=_changer(kind, severity))
                right.append(int((answers.probabilities.argmax(axis=1) == labels).sum()))
            mean = sum(right) / len(right) / len(rows)
            kinds[kind] = {
                "parameter": entry.parameter,
                "severities": list(entry.severities),
                "accuracy": [count / len(rows) for count in right],
                "accuracy_interval": [list(wilson(count, len(rows))) for count in right],
                "mean": mean,
                "retained": mean / accuracy if accuracy else None,
            }
    mean = sum(entry["mean"] for entry in kinds.values()) / len(kinds)
    return {
        "images": len(rows),
        "accuracy": accuracy,
        "mean": mean,
        "retained": mean / accuracy if accuracy else None,
        "kinds": kinds,
    }


def _changer(kind: str, severity: float) -> Callable[[Picture, int], Picture]:
    return lambda picture, row: distort(picture, kind, severity, row)
