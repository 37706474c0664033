"""Inputs of the kernels, drawn anew for every run, and what is expected of a tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.turns import Wrong
from convcut_trt.frames import Layout
from convcut_trt.kernels.tail import Attention, Projection, Tail, features

KERNEL_ERROR = 1e-5
"""What the tail kernel may be off: see ``Expected.error``."""

Map = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Boxes = NDArray[np.float64]


def random_tail(
    random: np.random.Generator,
    channels: int,
    side: int,
    units: int,
    attention: Attention,
    classes: int,
) -> Tail:
    """A tail with parameters of the sizes that training leaves."""

    def normal(*shape: int) -> Map:
        return random.normal(size=shape).astype(np.float32)

    projection = None
    if units:
        weight = normal(units, channels) / np.float32(channels**0.5)
        scale = np.float32(1) + normal(units) / np.float32(4)
        projection = Projection(weight, normal(units), scale, normal(units))
    width = units or channels
    score = float(np.float32((channels if attention == "spatial" else width) ** -0.5))
    head = normal(classes, width) / np.float32(width**0.5)
    return Tail((channels, side, side), attention, score, projection, head, normal(classes), 0.7)


def random_map(random: np.random.Generator, tail: Tail, faces: int) -> Map:
    """A map as a ReLU leaves it, float32 [N, C, H, W]."""
    values = random.normal(0.3, 1.5, (faces, *tail.map_shape))
    return np.maximum(values, 0).astype(np.float32)


class Expected:
    """What ``kernels.tail.twin`` answers on a map, in float64."""

    def __init__(self, tail: Tail, map: Map) -> None:
        self._temperature = tail.temperature
        seen = features(tail, map)
        self._logits = seen @ tail.head_weight.T.astype(np.float64) + tail.head_bias
        terms = np.abs(seen) @ np.abs(tail.head_weight.T) + np.abs(tail.head_bias)
        self._scale = float(terms.max())

    def error(self, logits: Map, probabilities: Map, budget: float) -> float:
        """The largest error of the logits, of the largest sum of a logit's terms, or of the probabilities.

        The probabilities are held against the softmax of these logits, which T below 1 sharpens.

        Raises:
            Wrong: It is over the budget, or a value is no number.
        """
        sharp = logits.astype(np.float64) / self._temperature
        powers = np.exp(sharp - sharp.max(axis=1, keepdims=True))
        softmax = powers / powers.sum(axis=1, keepdims=True)
        errors = np.abs(logits - self._logits) / self._scale, np.abs(probabilities - softmax)
        largest = float(np.max(errors))  # NaN where one of them is
        if not largest <= budget:
            raise Wrong(f"an error of {largest:.3g} where {budget:.0e} is allowed")
        return largest


def random_boxes(random: np.random.Generator, layout: Layout, count: int) -> Boxes:
    """Faces of a ninth to four ninths of the frame's height, 120 to 480 pixels of 1080.

    Returns:
        float64 [N, 4]: x, y, width, height, even, so that slices of a tensor can cut them.
    """
    sides = 2 * random.integers(layout.height // 18, 2 * layout.height // 9 + 1, count)
    left = [2 * random.integers(0, (layout.width - side) // 2 + 1) for side in sides]
    top = [2 * random.integers(0, (layout.height - side) // 2 + 1) for side in sides]
    return np.stack([left, top, sides, sides], axis=1).astype(np.float64)
