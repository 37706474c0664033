"""The precision proof: what is stored and computed, held to budgets, of each precision as it is meant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import onnx
import pytest

from convcut_trt import gates
from convcut_trt.backends.base import BuildOptions, Layer
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.gates.proof import Proof, check_proof, prove
from convcut_trt.precision.typed import Form, Typed, to_typed
from tests import block

FC = block.MULTIPLY_ADDS["fc1"]
FORMS = {
    "fp32": Form("fp32"),
    "fp16": Form("fp16"),
    "bf16": Form("bf16"),
    "int8": Form("int8", "conv", "pw", "fp16"),
}


@cache
def typed(form: Form) -> Typed:
    """A drawn network of one block, typed. Not to be changed."""
    return to_typed(block.network(), form, block.ranges(block.network()))


def proof_of(what: Typed, folder: Path, *layers: Layer) -> Proof:
    path = folder / "typed.onnx"
    onnx.save(what.model, path)
    return prove(what, path, layers)


def layer(dtype: str, multiply_adds: int, name: str = "layer") -> Layer:
    return Layer(name, "Conv", dtype, multiply_adds)


@pytest.mark.parametrize("precision", FORMS)
def test_a_typed_graph_stores_what_was_asked(precision: str, tmp_path: Path) -> None:
    proof = proof_of(typed(FORMS[precision]), tmp_path, layer(precision, 2 * FC))
    assert proof.asked == precision
    assert proof.stored_asked == 1
    assert proof.computed_asked == 1
    assert proof.rest == ""
    found = check_proof(proof, False, gates.budgets(precision))
    assert [(gate.name, gate.verdict) for gate in found] == (
        [("stored", "pass"), ("computed", "pass")] if precision != "fp32" else []
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_graph_left_in_fp32_stores_nothing_of_it(precision: str, tmp_path: Path) -> None:
    form = FORMS[precision]
    left = Typed(form, block.network(), typed(form).places)
    for on_cpu in (True, False):
        proof = proof_of(left, tmp_path, layer("fp32", 100))
        stored = check_proof(proof, on_cpu, gates.budgets(precision))[0]
        assert (stored.name, stored.value, stored.verdict) == ("stored", 0, "fail")
    assert dict(proof.stored) == {"fp32": 1.0}


def test_the_share_of_int8_is_of_the_placement(tmp_path: Path) -> None:
    """A stem in FP16, however large, is not what the placement promised."""
    what = typed(FORMS["int8"])
    layers = [layer("int8", FC), layer("fp16", FC, "fc2"), layer("fp16", 100 * FC, "stem")]
    proof = proof_of(what, tmp_path, *layers)
    assert proof.computed_asked == 0.5
    assert proof.text == (
        "100% of the placement's weights stored and 50% of its multiply-adds computed in int8, the rest fp16"
    )
    stored, computed = check_proof(proof, False, gates.budgets("int8"))
    assert (stored.verdict, computed.verdict) == ("pass", "fail")
    assert "stem in fp16, fc2 in fp16" in computed.detail


def test_what_onnxruntime_does_with_each_form(tmp_path: Path) -> None:
    """FP16 is computed in FP32 on a CPU, which is allowed; INT8 that is not, has to be a matrix product."""
    verdicts = {}
    for mlp in ("conv", "linear"):
        for precision, rest in (("fp16", ""), ("int8", "fp32")):
            form = Form(precision, mlp, "pw" if rest else "", rest)
            path = tmp_path / "typed.onnx"
            onnx.save(typed(form).model, path)
            layers = OnnxRuntime().build(path, BuildOptions()).layers
            proof = prove(typed(form), path, layers)
            found = check_proof(proof, True, gates.budgets(precision))
            verdicts[precision, mlp] = tuple(gate.verdict for gate in found)
    assert verdicts == {
        ("fp16", "conv"): ("pass", "not run"),
        ("fp16", "linear"): ("pass", "not run"),
        ("int8", "conv"): ("pass", "fail"),
        ("int8", "linear"): ("pass", "pass"),
    }


@pytest.mark.parametrize(
    ("stored", "computed", "on_cpu", "verdicts"),
    [
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 1.0}, False, ("pass", "pass")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 0.5, "fp32": 0.5}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp32": 1.0}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp32": 1.0}, True, ("pass", "not run")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 1.0}, True, ("pass", "pass")),
        ({"fp16": 0.9, "fp32": 0.1}, {"fp32": 1.0}, True, ("fail", "not run")),
        ({}, {"fp32": 1.0}, True, ("fail", "not run")),
    ],
)
@pytest.mark.parametrize("asked", ["fp16", "bf16"])
def test_what_is_stored_and_what_is_computed(
    asked: str,
    stored: Mapping[str, float],
    computed: Mapping[str, float],
    on_cpu: bool,
    verdicts: tuple[str, str],
) -> None:
    stored = {name.replace("fp16", asked): share for name, share in stored.items()}
    computed = {name.replace("fp16", asked): share for name, share in computed.items()}
    shares = stored.get(asked, 0.0), computed.get(asked, 0.0)
    proof = Proof(asked, stored, computed, *shares, rest="")
    found = check_proof(proof, on_cpu, gates.budgets(asked))
    assert tuple(gate.verdict for gate in found) == verdicts


@pytest.mark.parametrize(
    ("stored", "computed", "on_cpu", "verdicts"),
    [
        (1.0, 1.0, True, ("pass", "pass")),
        (1.0, 0.81, False, ("pass", "pass")),
        (1.0, 0.5, False, ("pass", "fail")),
        (1.0, 0.5, True, ("pass", "fail")),  # unlike 16 bits, a CPU can do it
        (0.5, 1.0, True, ("fail", "pass")),
        (0.0, 0.0, True, ("fail", "fail")),
    ],
)
def test_int8_is_held_to_both_on_a_cpu_too(
    stored: float, computed: float, on_cpu: bool, verdicts: tuple[str, str]
) -> None:
    proof = Proof("int8", {"int8": 0.6, "fp32": 0.4}, {"fp32": 1.0}, stored, computed, rest="fc1")
    found = check_proof(proof, on_cpu, gates.budgets("int8"))
    assert tuple(gate.verdict for gate in found) == verdicts


def test_the_shares_are_told_in_words() -> None:
    proof = Proof(
        "fp16", {"fp16": 0.97, "fp32": 0.03}, {"fp32": 1.0}, 0.97, 0.0, rest="stem in fp32"
    )
    assert proof.text == "fp16 stored, fp32 computed"
    stored, computed = check_proof(proof, True, gates.budgets("fp16"))
    assert "fp16 97.0%, fp32 3.0%" in stored.detail
    assert "fp32 100.0%" in computed.detail
    assert "computes fp16 in fp32" in computed.detail
    refused = check_proof(proof, False, gates.budgets("fp16"))[1]
    assert "stem in fp32" in refused.detail  # what to look at
