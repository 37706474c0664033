"""Each way to break a network, a typed graph or an export is seen by the gates that are there for it.

Where the rounding of a precision hides what a breakage does, an empty set says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from bench.breakages import EXPORTS, GRAPHS
from bench.gate_table import judge_engine, judge_typed, typed_answers
from convcut_trt import home
from convcut_trt.errors import InputError
from convcut_trt.gates import Gate
from convcut_trt.gates.answers import F32
from convcut_trt.gates.judge import Case
from convcut_trt.gates.judged import bundled
from convcut_trt.precision.typed import PRECISIONS, form_of, to_typed
from convcut_trt.ranges import Ranges
from tests import models

RANGES = Ranges.read(home.ZOO / f"{home.DEFAULT_MODEL}.ranges.json")
FACES = 16
Results = dict[str, Gate]
Seen = Mapping[str, Set[str]]


def every(*names: str, **others: Set[str]) -> Seen:
    """The same gates in every precision, but for the others."""
    return {**dict.fromkeys(PRECISIONS, set(names)), **others}


FEATURES = ("loss", "fidelity", "witnesses")
NOTHING: Set[str] = set()

SEEN: Mapping[str, Seen] = {
    "other weights": every(*FEATURES, "flips"),
    "first block removed": every(*FEATURES, "flips"),
    "last block removed": every(*FEATURES),
    "ReLU for GELU": every(*FEATURES),
    "dead channel": every(*FEATURES),
    "epsilon 1e-3": every(
        fp32=set(FEATURES), fp16={"loss", "witnesses"}, bf16=NOTHING, int8=NOTHING
    ),
    "one pixel of shift": every(*FEATURES),
    "colours swapped": every(*FEATURES, int8={"loss", "fidelity"}),
    "not normalised": every(*FEATURES, "flips"),
    "NaN": every(*FEATURES, "finite", "batch invariance"),
    "neighbours": every(*FEATURES, "batch invariance"),
    "attention over the batch": every("witnesses", "batch invariance"),
    "ranges of other tensors": {"int8": {"loss", "fidelity"}},
    "ranges four times as wide": {"int8": {"loss", "fidelity"}},
    "ranges a quarter as wide": {"int8": set(FEATURES)},
    "Q/DQ on the tail": every("tail in fp32", fp32={"tail in fp32", "witnesses"}),
    "left in FP32": {"fp16": {"stored"}, "bf16": {"stored"}, "int8": {"stored"}},
}
"""Of ``GRAPHS``: the gates that have to fail, ``loss`` for the graph that is built, ``fidelity`` for an engine."""

SEEN_OF_EXPORTS: Mapping[str, Seen] = {
    **{name: every("witnesses") for name in EXPORTS},
    "epsilon 1e-3": every("witnesses", bf16=NOTHING, int8=NOTHING),
    "NaN": every("witnesses", "loss", "finite", "largest activation", "batch invariance"),
    "neighbours": every("witnesses", "batch invariance"),
    "attention over the batch": every("witnesses", "batch invariance"),
    "FP16 overflow": {
        "fp32": {"largest activation"},
        "bf16": {"largest activation"},
        "fp16": {"largest activation", "finite", "loss", "witnesses"},
        "int8": {"largest activation", "finite", "loss", "witnesses"},
    },
}
"""Of ``EXPORTS``: what compares with ``NAME.onnx`` sees nothing, as that is broken too."""


@dataclass(frozen=True)
class Bench:
    """Judges what is broken, each once."""

    case: Case
    scratch: Path
    known: dict[tuple[str, ...], Results] = field(default_factory=dict)
    answers: dict[str, Mapping[str, F32]] = field(default_factory=dict)

    def graph(self, name: str, precision: str) -> Results:
        """All gates where a broken graph is built from a sound network, or an engine computes it."""

        def judged() -> list[Gate]:
            form = form_of(precision, False, None, None)
            if precision not in self.answers:
                sound = to_typed(self.case.original, form, RANGES)
                self.answers[precision] = typed_answers(self.case, sound)
            typed = GRAPHS[name].typed(self.case.original, form, RANGES)
            engine = judge_engine(self.case, typed, self.answers[precision])
            return [*judge_typed(self.case, typed, self.scratch), *engine]

        return self._once(("graph", name, precision), judged)

    def export(self, name: str, precision: str) -> Results:
        """All gates where ``NAME.onnx`` or the preprocessing is broken, and the build is sound."""

        def judged() -> list[Gate]:
            bad = EXPORTS[name](self.case)
            typed = to_typed(bad.original, form_of(precision, False, None, None), RANGES)
            return judge_typed(bad, typed, self.scratch)

        return self._once(("export", name, precision), judged)

    def _once(self, key: tuple[str, ...], judged: Callable[[], list[Gate]]) -> Results:
        if key not in self.known:
            self.known[key] = {gate.name: gate for gate in judged()}
        return self.known[key]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    model = models.zoo()
    judged = bundled(model.spec.size, FACES)
    case = Case(model, models.network("zoo"), judged, (1, 4, 8), models.quiet)
    return Bench(case, tmp_path_factory.mktemp("broken"))


def failed(results: Results) -> dict[str, tuple[float | None, float | None]]:
    """What failed, with its value and its budget; median and 99 % of one comparison as one."""
    return {
        gate.name.partition(",")[0]: (gate.value, gate.budget)
        for gate in results.values()
        if gate.verdict == "fail"
    }


def cases(expected: Mapping[str, Seen], fast: Set[str]) -> list[object]:
    """Breakage x precision, those marked slow that show what FP16 or INT8 shows too, or are not in ``fast``."""

    def repeats(name: str, precision: str) -> bool:
        alike = precision == "fp32" and expected[name]["fp32"] == expected[name].get("fp16")
        return alike or precision == "bf16" or name not in fast

    return [
        pytest.param(name, precision, marks=[pytest.mark.slow] if repeats(name, precision) else [])
        for name, seen in expected.items()
        for precision in seen
    ]


def test_every_breakage_has_its_gates() -> None:
    assert SEEN.keys() == GRAPHS.keys()
    assert SEEN_OF_EXPORTS.keys() == EXPORTS.keys()
    for name, breakage in GRAPHS.items():
        assert set(SEEN[name]) == set(breakage.precisions)


@pytest.mark.parametrize(("name", "precision"), cases(SEEN, SEEN.keys()))
def test_what_is_built_wrong_is_seen(bench: Bench, name: str, precision: str) -> None:
    results, expected = bench.graph(name, precision), SEEN[name][precision]
    found = failed(results)
    assert expected <= found.keys(), found
    if not expected:
        assert not found, "it is seen now: say so in SEEN"


FAST = {
    "colours swapped",
    "not normalised",
    "NaN",
    "resized by cubic splines",
    "resized without averaging",
    "FP16 overflow",
}


@pytest.mark.parametrize(("name", "precision"), cases(SEEN_OF_EXPORTS, FAST))
def test_what_is_exported_wrong_is_seen(bench: Bench, name: str, precision: str) -> None:
    results, expected = bench.export(name, precision), SEEN_OF_EXPORTS[name][precision]
    found = failed(results)
    assert expected <= found.keys(), found
    if not expected:
        assert not found, "it is seen now: say so in SEEN_OF_EXPORTS"
    if "loss" not in expected and name not in ("neighbours", "attention over the batch"):
        # NAME.onnx is as broken as the graph that was made from it.
        assert found.keys() == expected, found


def test_a_nan_does_not_hide_from_any_gate(bench: Bench) -> None:
    for results in (bench.graph("NaN", "fp16"), bench.export("NaN", "fp16")):
        for name in ("witnesses", "loss, median", "loss, 99 %", "batch invariance", "finite"):
            assert results[name].verdict == "fail"


def test_an_activation_beyond_fp16_is_named(bench: Bench) -> None:
    gate = bench.export("FP16 overflow", "fp16")["largest activation"]
    assert (gate.value or 0) > 65504
    name = models.convolutions(models.network("zoo"))[-3].output[0]
    assert gate.detail == f"of FP32, at {name}" or "Relu" in gate.detail
    # In FP32 the network is what it was: only its activations are larger.
    sound, scaled = bench.case, EXPORTS["FP16 overflow"](bench.case)
    np.testing.assert_allclose(
        scaled.wanted.answers["probabilities"], sound.wanted.answers["probabilities"], atol=1e-6
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_graph_left_in_fp32_answers_well_and_is_refused(bench: Bench, precision: str) -> None:
    results = bench.graph("left in FP32", precision)
    # The engine of a graph in FP32 departs from the typed graph by what that rounds, within its budget.
    assert failed(results).keys() == {"stored"}
    assert results["stored"].value == 0


def test_ranges_of_another_model_are_refused_before_anything_is_built() -> None:
    other = replace(RANGES, onnx_sha256="0" * 64)
    with pytest.raises(InputError, match="give the ranges of this model"):
        other.check(models.zoo().spec.onnx_sha256)
    RANGES.check(models.zoo().spec.onnx_sha256)
