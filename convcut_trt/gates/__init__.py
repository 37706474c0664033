"""What a gate is, what each may measure at most, and how the results are shown.

Loss compares the typed ONNX with ``NAME.onnx``: is this precision acceptable for this network? Fidelity compares
the engine with its own typed ONNX: did the builder do its job? The budgets have two to five times the headroom of
what honest engines measured, and fail what broken ones measured; ``bench/results/gates.md`` has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from convcut_trt.errors import InputError

Step = Callable[[str, int, int], None]

BUDGETS: Mapping[str, Mapping[str, float]] = {
    "fp32": {
        "witnesses": 1e-4,
        "loss_median": 1e-5,
        "loss_p99": 1e-4,
        "fidelity_median": 1e-4,
        "fidelity_p99": 1e-3,
        "flip_margin": 1e-4,
        "agreement": 1.0,
        "invariance": 1e-5,
        "largest_activation": 16384.0,
    },
    "fp16": {
        "witnesses": 3e-3,
        "loss_median": 3e-3,
        "loss_p99": 5e-3,
        "fidelity_median": 3e-3,
        "fidelity_p99": 1e-2,
        "flip_margin": 0.02,
        "agreement": 0.995,
        "accuracy_loss": 0.003,
        "class_loss": 0.02,
        "calibration_drift": 0.005,
        "invariance": 1e-2,
        "largest_activation": 16384.0,
        "stored": 0.95,
        "computed": 0.95,
    },
    "bf16": {
        "witnesses": 3e-2,
        "loss_median": 2e-2,
        "loss_p99": 4e-2,
        "fidelity_median": 1e-2,
        "fidelity_p99": 3e-2,
        "flip_margin": 0.05,
        "agreement": 0.99,
        "accuracy_loss": 0.005,
        "class_loss": 0.02,
        "calibration_drift": 0.01,
        "invariance": 2e-2,
        "largest_activation": 16384.0,
        "stored": 0.95,
        "computed": 0.95,
    },
    "int8": {
        "witnesses": 5e-2,
        "loss_median": 4e-2,
        "loss_p99": 8e-2,
        "fidelity_median": 2e-2,
        "fidelity_p99": 6e-2,
        "flip_margin": 0.1,
        "agreement": 0.98,
        "accuracy_loss": 0.005,
        "class_loss": 0.03,
        "calibration_drift": 0.02,
        "invariance": 2e-2,
        "largest_activation": 16384.0,
        "stored": 0.8,
        "computed": 0.8,
    },
}
"""Precision -> limits. Shares and probabilities are 0 to 1; the two losses of accuracy are shares of the images.

``stored`` and ``computed`` of int8 are shares of what the placement quantises.
"""

_SHARES = {
    "witnesses",
    "flip_margin",
    "agreement",
    "accuracy_loss",
    "class_loss",
    "calibration_drift",
    "invariance",
    "stored",
    "computed",
}
_ORDERED = (("loss_median", "loss_p99"), ("fidelity_median", "fidelity_p99"))


@dataclass(frozen=True)
class Gate:
    """One check.

    Attributes:
        name: Of the check.
        value: What was measured; None where nothing was.
        budget: What was allowed; None where there is no limit.
        verdict: ``pass``; ``fail``; ``not shown``: too few images to tell; ``not run``.
        detail: For people.
    """

    name: str
    value: float | None
    budget: float | None
    verdict: str
    detail: str = ""


def budgets(precision: str, changes: Mapping[str, float] | None = None) -> dict[str, float]:
    """The budgets of a precision, with the user's changes.

    Raises:
        InputError: An unknown key, a value that is no positive number, a share above 1, or two that contradict.
    """
    known = dict(BUDGETS[precision])
    for key, value in (changes or {}).items():
        if key not in known:
            raise InputError(
                f"--budget {key} is not known for {precision}: choose from {', '.join(known)}"
            )
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"--budget {key}={value}: give a positive number")
        if key in _SHARES and value > 1:
            raise InputError(f"--budget {key}={value}: give a share, at most 1")
        known[key] = value
    for median, p99 in _ORDERED:
        if known[median] > known[p99]:
            raise InputError(
                f"--budget {median}={known[median]:g} and {p99}={known[p99]:g} contradict: the median is never "
                "above the 99th percentile, so change both"
            )
    return known


def at_most(name: str, value: float, budget: float, detail: str) -> Gate:
    """A gate that passes up to its budget; NaN fails."""
    return Gate(name, value, budget, "pass" if value <= budget else "fail", detail)


def at_least(name: str, value: float, budget: float, detail: str) -> Gate:
    """A gate that passes from its budget on; NaN fails."""
    return Gate(name, value, budget, "pass" if value >= budget else "fail", detail)


def failed(gates: Iterable[Gate]) -> list[Gate]:
    """Those that failed."""
    return [gate for gate in gates if gate.verdict == "fail"]


def table(gates: Sequence[Gate]) -> str:
    """The gates as text, one a line."""
    rows = [("gate", "measured", "budget", "verdict", "")]
    for gate in gates:
        value = "-" if gate.value is None else f"{gate.value:.3g}"
        budget = "-" if gate.budget is None else f"{gate.budget:.3g}"
        rows.append((gate.name, value, budget, gate.verdict, gate.detail))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]
        ).rstrip()
        for row in rows
    )
