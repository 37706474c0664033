"""Which expressions an engine confuses more, or less, than its FP32 engine does on the same faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Bench
from bench.sections_latency import COMMAND, name_of, short, whence
from convcut_trt.measuring.results import Accuracy, Measured

_RULE = (
    "Rows: the class of the face. Columns: how many more (+) or fewer (\u2212) of its faces were answered so "
    "than by the first FP32 engine of the same network and bench; a dot is no change. In brackets: the faces of "
    "the class."
)


def confusion(benches: Sequence[Bench]) -> Section:
    """Every engine and peer that answered labelled faces, beside an FP32 engine of its network that did."""
    parts: list[Html] = []
    for bench in benches:
        answered = [one for one in bench.result.measured if one.accuracy is not None]
        names = short([one.subject.name for one in answered])
        found = []
        for one in answered:
            fp32 = next((other for other in answered if _is_reference(other, one)), None)
            if fp32 is None or fp32 is one or one.accuracy is None or fp32.accuracy is None:
                continue
            heading = f"{names[one.subject.name]} against {names[fp32.subject.name]}"
            found += [element("h4", heading), *_change(one.accuracy, fp32.accuracy)]
        if found:
            parts += [element("h3", name_of(bench)), whence(bench), *found]
    title = "What is confused, changed against FP32"
    if not parts:
        return section(
            title, missing("No bench has answered labelled faces in FP32 and more", COMMAND)
        )
    return section(title, element("p", _RULE), *parts)


def _is_reference(other: Measured, one: Measured) -> bool:
    subject = other.subject
    own = subject.kind == "engine" and subject.model == one.subject.model
    return own and subject.asked == "fp32"


def change(one: Accuracy, other: Accuracy) -> NDArray[np.int64] | None:
    """How many more faces of each class (rows) were answered as each class; None where the faces are others."""
    if tuple(one.confusion) != tuple(other.confusion) or one.images != other.images:
        return None
    counts = [np.array(list(of.confusion.values()), np.int64) for of in (one, other)]
    changed: NDArray[np.int64] = counts[0] - counts[1]
    return changed


def _change(one: Accuracy, other: Accuracy) -> list[Html]:
    changed = change(one, other)
    if changed is None:
        return [element("p", "It answered other faces.")]
    if not changed.any():
        return [element("p", f"No count of the {one.images:,} faces differs.")]
    classes = list(one.confusion)
    rows = [
        (f"{name} ({sum(other.confusion[name]):,})", *(_signed(int(count)) for count in row))
        for name, row in zip(classes, changed, strict=True)
    ]
    return [plain_table(("face", *(f"as {name}" for name in classes)), rows)]


def _signed(count: int) -> str:
    return f"{count:+d}".replace("-", "\u2212") if count else "\u00b7"
