"""The precision proof: what an engine stores and what it computes in the type that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from convcut_trt import seam
from convcut_trt.backends.base import BuiltEngine, Layer, computed_shares
from convcut_trt.backends.stored import in_words, stored_shares
from convcut_trt.gates import Gate, at_least, at_most
from convcut_trt.precision import int8
from convcut_trt.precision.typed import Typed

_CASTS = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class Proof:
    """Shares of an engine.

    Attributes:
        asked: The precision.
        stored: Type -> share of the trunk's weight bytes. The tail is FP32 in every precision, and a small
            network's is no small part.
        computed: Type -> share of the multiply-adds.
        stored_asked: What is stored as asked: of the trunk, or of what the INT8 placement quantises.
        computed_asked: What is computed as asked, of the same.
        rest: The largest layers that are not computed as asked, for people.
    """

    asked: str
    stored: Mapping[str, float]
    computed: Mapping[str, float]
    stored_asked: float
    computed_asked: float
    rest: str

    @property
    def text(self) -> str:
        """For example ``fp16 stored, fp32 computed``."""
        if self.asked == "int8":
            return (
                f"{self.stored_asked:.0%} of the placement's weights stored and {self.computed_asked:.0%} of its "
                f"multiply-adds computed in int8, the rest {self._rest_type}"
            )
        return in_words(self.stored, self.computed)

    @property
    def _rest_type(self) -> str:
        return next((name for name in self.computed if name != "int8"), "too")


def prove(typed: Typed, typed_path: Path, layers: Iterable[Layer]) -> Proof:
    """Reads the shares from the typed ONNX and from an engine's own report of its layers.

    Args:
        typed: What was built.
        typed_path: The same as a file.
        layers: ``BuiltEngine.layers``.
    """
    layers = tuple(layers)
    stored = stored_shares(typed_path, seam.TAIL_PREFIX)
    computed = computed_shares(layers)
    asked = typed.form.precision
    if asked == "int8":
        stored_asked = int8.stored_share(typed.model, typed.places)
        computed_asked = int8.computed_share(layers, typed.places)
    else:
        stored_asked, computed_asked = stored.get(asked, 0.0), computed.get(asked, 0.0)
    others = sorted(
        (layer for layer in layers if layer.multiply_adds and layer.dtype != asked),
        key=lambda layer: -layer.multiply_adds,
    )
    rest = ", ".join(f"{layer.name} in {layer.dtype}" for layer in others[:3])
    return Proof(asked, stored, computed, stored_asked, computed_asked, rest)


def prove_engine(typed: Typed, typed_path: Path, engine: BuiltEngine) -> Proof:
    """The proof of an engine that was just built.

    The strongly typed network is what the builder is held to, the plan what it made of it: the lesser counts.
    """
    reports = (engine.layers, *(() if engine.plan is None else (engine.plan,)))
    proofs = (prove(typed, typed_path, report) for report in reports)
    return min(proofs, key=lambda proof: proof.computed_asked)


def check_proof(proof: Proof, on_cpu: bool, limits: Mapping[str, float]) -> list[Gate]:
    """Holds the shares to their budgets; FP32 has none.

    A CPU stores 16 bits and computes FP32 (onnxruntime: 26 of 26 measured): there only what is stored is held.
    """
    if "stored" not in limits:
        return []
    kind, share = proof.asked, proof.computed_asked
    stored = f"{_shares(proof.stored)} of weight bytes"
    computed = f"{_shares(proof.computed)} of multiply-adds"
    if kind == "int8":
        stored = f"of the placement's weights; {stored}"
        computed = f"of the placement's multiply-adds; {computed}"
    held = at_least("stored", proof.stored_asked, limits["stored"], stored)
    if on_cpu and kind != "int8" and share < limits["computed"]:
        detail = f"{computed}: a CPU computes {kind} in fp32"
        return [held, Gate("computed", share, None, "not run", detail)]
    if share < limits["computed"] and proof.rest:
        computed += f"; {proof.rest}"
    return [held, at_least("computed", share, limits["computed"], computed)]


def check_tail(typed: Typed) -> Gate:
    """The tail stays FP32 in every precision: no Q/DQ, no cast, no constant of another float type."""
    import onnx

    tail = seam.split(typed.model)[1].graph
    others = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8}
    found = [node.name for node in tail.node if node.op_type in _CASTS]
    found += [tensor.name for tensor in tail.initializer if tensor.data_type in others]
    return at_most(
        "tail in fp32", float(len(found)), 0.0, found[0] if found else "casts and Q/DQ in it"
    )


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())
