"""Is a calibration set large enough? Its two halves have to tell the same ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from calib.ranges import Calibrator, Range
from convcut_trt.gates import Step

TOLERANCE = 0.10
ALLOWED = 0.05


@dataclass(frozen=True)
class Stability:
    """How far the ranges of two halves of a set are apart.

    Attributes:
        halves: How many pictures each half has.
        tensors: How many tensors were compared.
        differing: How many of them differ by more than ``TOLERANCE``.
        worst: The tensor that differs most.
        difference: By how much, as a share of the larger of the two.
    """

    halves: tuple[int, int]
    tensors: int
    differing: int
    worst: str
    difference: float

    @property
    def stable(self) -> bool:
        """Whether at most ``ALLOWED`` of the tensors differ."""
        return self.differing <= ALLOWED * self.tensors

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.differing} of {self.tensors} ranges differ by more than {TOLERANCE:.0%} between halves of "
            f"{self.halves[0]} and {self.halves[1]} pictures; at most {self.difference:.1%}, at {self.worst}"
        )


def measure(
    model: onnx.ModelProto,
    halves: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    method: str,
    step: Step,
) -> tuple[dict[str, Range], Stability]:
    """The ranges over all pictures, and how far those of the halves are apart.

    Args:
        model: FP32, as for ``Calibrator``.
        halves: Pictures uint8 [N, S, S, 3] of both halves.
        method: One of ``convcut_trt.ranges.METHODS``.
        step: Called as ``step(phase, done, total)``.

    Raises:
        InputError: A tensor is not finite, or nothing but zero.
    """
    first, second = Calibrator(model, method), Calibrator(model, method)
    first.collect(halves[0], "ranges of one half", step)
    one = first.ranges()
    second.collect(halves[1], "ranges of the other half", step)
    other = second.ranges()
    first.collect(halves[1], "ranges of both halves", step)
    return first.ranges(), compare(one, other, (len(halves[0]), len(halves[1])))


def compare(
    one: Mapping[str, Range], other: Mapping[str, Range], halves: tuple[int, int]
) -> Stability:
    """Compares the largest magnitude of each tensor: symmetric INT8 uses nothing else."""
    apart = {}
    for name in one:
        a, b = (max(map(abs, ranges[name])) for ranges in (one, other))
        apart[name] = abs(a - b) / max(a, b)
    worst = max(apart, key=lambda name: apart[name])
    return Stability(
        halves=halves,
        tensors=len(apart),
        differing=sum(difference > TOLERANCE for difference in apart.values()),
        worst=worst,
        difference=round(apart[worst], 4),
    )
