"""The sentence that says why an engine failed."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from convcut_trt.candidate import Candidate
from convcut_trt.gates import Gate, failure
from convcut_trt.gates.judge import Case
from tests import models

CASE = cast(
    Case,
    SimpleNamespace(
        original=None,
        judged=SimpleNamespace(faces=np.zeros((20, 4, 4, 3), np.uint8)),
        model=models.zoo(),
        step=models.quiet,
    ),
)


def candidate(*failed: str, asked: str = "fp16", mlp: str = "conv") -> Candidate:
    gates = [Gate(name, 1.0, 0.5, "fail") for name in failed]
    made = SimpleNamespace(
        gates=(*gates, Gate("finite", 0.0, 0.0, "pass")),
        failed=gates,
        form=SimpleNamespace(mlp=mlp),
        limits={"loss_median": 1e-3},
        proof=SimpleNamespace(asked=asked, text="fp32 stored, fp32 computed", rest="12 in fp32"),
        typed=SimpleNamespace(by_rule=lambda: None),
        worst=np.arange(20),
    )
    return cast(Candidate, made)


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (["fidelity, median", "witnesses"], "the typed graph answers as it should and the engine"),
        (["witnesses"], "conv-cut-mini.onnx itself answers otherwise than the trained model"),
        (["witnesses", "batch invariance"], "mixes the faces of a batch"),
        (["largest activation"], "--budget largest_activation=VALUE"),
        (["loss, median", "witnesses"], "small errors everywhere decide"),
    ],
)
def test_where_no_tensor_parts_the_gates_tell(
    failed: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure, "first_parting", lambda *arguments: None)
    assert said in failure.likeliest_cause(CASE, candidate(*failed))


def test_where_a_tensor_parts_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def parts(original: object, typed: object, faces: np.ndarray, limit: float) -> str:
        asked.extend((len(faces), limit))
        return "at fc1"

    monkeypatch.setattr(failure, "first_parting", parts)
    assert failure.likeliest_cause(CASE, candidate("loss, median", "fidelity, median")) == "at fc1"
    assert asked == [8, 1e-3]  # the eight worst faces, by the budget of the loss


@pytest.mark.parametrize(
    ("failed", "form", "said"),
    [
        (["stored", "computed"], {}, "the graph is not typed as asked: fp32 stored"),
        (["computed"], {}, "did not follow the graph's types: 12 in fp32"),
        (["computed"], {"asked": "int8"}, "12 in fp32; a CPU multiplies .* --mlp linear"),
        (["computed"], {"asked": "int8", "mlp": "linear"}, "12 in fp32$"),
    ],
)
def test_what_is_not_in_the_precision_needs_no_search(
    failed: list[str], form: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure, "first_parting", None)
    assert re.search(said, failure.likeliest_cause(CASE, candidate(*failed, **form)))
