"""The typed ONNX of a precision: which graph is built, and what it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convcut_trt.errors import InputError
from convcut_trt.precision.half import in_fp32, to_half
from convcut_trt.precision.int8 import PLACEMENTS, Place, places, to_int8
from convcut_trt.precision.linear import linear

if TYPE_CHECKING:
    import onnx

    from convcut_trt.ranges import Ranges

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MLPS = ("conv", "linear")
DEFAULT_PLACEMENT = "pw"
NO_RANGES = (
    "int8 needs the ranges of the model's activations: give --ranges NAME.ranges.json, or make it with "
    "`convcut-trt calibrate MODEL --data FACES`"
)


@dataclass(frozen=True)
class Form:
    """One way to type a model.

    Attributes:
        precision: One of ``PRECISIONS``.
        mlp: ``conv``: the MLPs as 1x1 convolutions, as exported; ``linear``: as matrix products.
        placement: What INT8 quantises, one of ``int8.PLACEMENTS``; empty without INT8.
        rest: Type of the trunk beside INT8: ``fp16`` or ``fp32``; empty without INT8.
    """

    precision: str
    mlp: str = "conv"
    placement: str = ""
    rest: str = ""

    def __str__(self) -> str:
        """For example ``int8 (fc2)``."""
        return f"{self.precision} ({self.placement})" if self.placement else self.precision


@dataclass(frozen=True)
class Typed:
    """A typed ONNX.

    Attributes:
        form: What it is.
        model: The graph that is built, outputs ``logits``, ``probabilities``, ``map``.
        places: What INT8 quantises of it; empty without INT8.
    """

    form: Form
    model: onnx.ModelProto
    places: tuple[Place, ...] = ()

    def by_rule(self) -> onnx.ModelProto:
        """The same graph in FP32, every result rounded as its type says: what onnxruntime's CPU computes for it."""
        return in_fp32(self.model)


def form_of(precision: str, on_cpu: bool, placement: str | None, mlp: str | None) -> Form:
    """The form of a request; what was not chosen is what the backend is best served with.

    Args:
        precision: One of ``PRECISIONS``.
        on_cpu: Whether a CPU will compute it. Its INT8 kernels multiply whole matrices, whatever comes behind, but
            convolutions only where the result is quantised at once.
        placement: Of INT8, None for ``DEFAULT_PLACEMENT``.
        mlp: One of ``MLPS`` or None.

    Raises:
        InputError: Something is not known, or does not fit the precision.
    """
    if precision not in PRECISIONS:
        known = ", ".join((*PRECISIONS, "auto"))
        raise InputError(f"precision {precision!r} is not known: choose from {known}")
    if mlp is not None and mlp not in MLPS:
        raise InputError(f"--mlp {mlp!r} is not known: choose from {', '.join(MLPS)}")
    if precision != "int8":
        if placement is not None:
            raise InputError(
                f"--placement says what INT8 quantises, and {precision} quantises nothing: leave it out"
            )
        return Form(precision, mlp or "conv")
    if placement is not None and placement not in PLACEMENTS:
        raise InputError(
            f"--placement {placement!r} is not known: choose from {', '.join(PLACEMENTS)}"
        )
    chosen = placement or DEFAULT_PLACEMENT
    if on_cpu:
        return Form(precision, mlp or "linear", chosen, "fp32")
    return Form(precision, mlp or "conv", chosen, "fp16")


def to_typed(model: onnx.ModelProto, form: Form, ranges: Ranges | None) -> Typed:
    """Types a model.

    Args:
        model: ``NAME.onnx``. It is not changed.
        form: What to make of it.
        ranges: Of this model; INT8 needs them.

    Raises:
        InputError: As ``to_half``, ``to_int8`` and ``linear``; INT8 without ranges.
    """
    source = linear(model) if form.mlp == "linear" else model
    if form.precision == "fp32":
        return Typed(form, source)
    if form.precision != "int8":
        return Typed(form, to_half(source, form.precision))
    if ranges is None:
        raise InputError(NO_RANGES)
    chosen = places(source, form.placement)
    return Typed(form, to_int8(source, ranges, form.placement, form.rest), chosen)
