"""What a probability is worth: the temperature that sets it right, and the answers that are better withheld."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from convcut_trt.errors import InputError
from convcut_trt.stats import wilson

Floats = NDArray[np.float32]
F64 = NDArray[np.float64]
Labels = NDArray[np.int64]

# Where validation is answered without a mistake the likeliest temperature is 0, which says nothing of other faces.
LOWEST, HIGHEST = 0.25, 4.0
MINIMUM_ANSWERS = 30  # under which a share of right answers is not worth a percentage
_POINTS = 100  # of the curve in a report


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature T in 0.25 ... 4 under which softmax(logits / T) makes the labels likeliest (Guo et al. 2017).

    The labels are the majority's classes, not the shares of the votes: accuracy and calibration error ask how
    often the majority agrees with an answer, and a network trained on shares answers how many of the voters do,
    which is less.

    Args:
        logits: float32 [N, K] on validation.
        labels: int64 [N].

    Raises:
        InputError: No faces, one label a face missing, or logits that are not finite.
    """
    if len(logits) == 0 or len(logits) != len(labels):
        raise InputError(
            f"a temperature needs labelled validation faces: got {len(logits)} answers and {len(labels)} labels"
        )
    if not np.isfinite(logits).all():
        raise InputError("a temperature cannot be fitted to NaN: train with a lower learning rate")
    exact = logits.astype(np.float64)
    own = exact[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(exact * scale, axis=1) - own * scale).mean())

    # Convex in 1 / T, so there is one minimum.
    best = minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
    return float(np.exp(best.x))


@dataclass(frozen=True)
class Curve:
    """Selective accuracy against coverage, one point for each different confidence, from the surest down.

    Attributes:
        threshold: float64 [J], falling: answers at least as sure are given, the others withheld.
        answered: int64 [J], faces that get an answer; the last entry is all faces.
        right: int64 [J], right ones among these answers.
    """

    threshold: F64
    answered: Labels
    right: Labels

    @property
    def coverage(self) -> F64:
        """Share of the faces that get an answer, float64 [J]."""
        return np.asarray(self.answered / self.answered[-1])

    @property
    def accuracy(self) -> F64:
        """Share of right ones among the answers given, float64 [J]."""
        return np.asarray(self.right / self.answered)

    @property
    def area(self) -> float:
        """Mean risk (1 - accuracy) over all coverages, the area under the risk-coverage curve (AURC; Geifman,
        Uziel and El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers")."""
        return float((np.diff(self.coverage, prepend=0.0) * (1 - self.accuracy)).sum())

    def points(self) -> list[dict[str, float]]:
        """The curve at coverages of 1 % ... 100 %, each the first point that reaches it."""
        wanted = np.ceil(self.answered[-1] * np.arange(1, _POINTS + 1) / _POINTS)
        places = np.unique(np.searchsorted(self.answered, wanted))
        return [
            {
                "threshold": float(self.threshold[place]),
                "coverage": float(self.coverage[place]),
                "accuracy": float(self.accuracy[place]),
            }
            for place in places
        ]


def curve(probabilities: Floats, labels: Labels) -> Curve:
    """The curve of answers float32 [M, K] to faces with the labels int64 [M]; their order does not matter."""
    sure = probabilities.max(axis=1).astype(np.float64)
    visit = np.argsort(-sure, kind="stable")
    right = (probabilities.argmax(axis=1) == labels)[visit].cumsum()
    # Equally sure answers are given or withheld together.
    last = np.flatnonzero(np.append(np.diff(sure[visit]) != 0, True))
    return Curve(sure[visit][last], last + 1, right[last])


def choose_threshold(validation: Curve, wanted: float) -> float | None:
    """The lowest threshold whose answers reach an accuracy; 0 where all do, None where no 30 answers do.

    Raises:
        InputError: A wanted accuracy that is no share between 0 and 1.
    """
    check_wanted(wanted)
    reached = (validation.accuracy >= wanted) & (validation.answered >= MINIMUM_ANSWERS)
    if not reached.any():
        return None
    place = int(np.flatnonzero(reached)[-1])
    return 0.0 if place == len(reached) - 1 else float(validation.threshold[place])


def check_wanted(wanted: float) -> None:
    """Refuses an accuracy that is no share between 0 and 1.

    Raises:
        InputError: It is none.
    """
    if not 0 < wanted < 1:
        raise InputError(
            f"--selective {wanted} is no accuracy: give a share between 0 and 1, as 0.9"
        )


def selective(probabilities: Floats, labels: Labels, threshold: float) -> dict[str, Any]:
    """Coverage, and accuracy of the answers given at a threshold, with Wilson's intervals."""
    given = probabilities.max(axis=1) >= threshold
    right = int((probabilities.argmax(axis=1) == labels)[given].sum())
    answered = int(given.sum())
    return {
        "images": len(labels),
        "answered": answered,
        "coverage": answered / len(labels),
        "coverage_interval": list(wilson(answered, len(labels))),
        "accuracy": right / answered if answered else None,
        "accuracy_interval": list(wilson(right, answered)) if answered else None,
    }
