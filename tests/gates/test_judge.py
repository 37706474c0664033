"""All gates of one engine: honest ones pass in every precision and placement, with room, here and by stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.breakages import GRAPHS
from convcut_trt import gates, home
from convcut_trt.backends.base import Session
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.gates import Gate
from convcut_trt.gates.judge import Case, judge
from convcut_trt.gates.judged import Judged, bundled
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.precision.typed import Form, Typed, form_of, to_typed
from convcut_trt.ranges import Ranges
from tests import models

RANGES = Ranges.read(home.ZOO / f"{home.DEFAULT_MODEL}.ranges.json")
ON_GPU = [form_of(kind, False, None, None) for kind in ("fp32", "fp16", "bf16")]
ON_GPU += [form_of("int8", False, placement, None) for placement in PLACEMENTS]
ON_CPU = [form_of(kind, True, None, None) for kind in ("fp32", "fp16")]
ON_CPU += [form_of("int8", True, placement, None) for placement in PLACEMENTS]
WITH_ROOM = ("witnesses", "loss, median", "loss, 99 %", "batch invariance")
FIDELITY = ("fidelity, median", "fidelity, 99 %")


@pytest.fixture(scope="module")
def case() -> Case:
    model = models.zoo()
    judged = bundled(model.spec.size, 24)
    return Case(model, models.network("zoo"), judged, (1, 4, 16), models.quiet)


def typed(form: Form) -> Typed:
    return to_typed(models.network("zoo"), form, RANGES)


@contextmanager
def opened(model: Typed, folder: Path) -> Iterator[Session]:
    path = folder / "engine.onnx"
    path.write_bytes(model.model.SerializeToString())
    with OnnxRuntime().open(path) as session:
        yield session


def judged(case: Case, what: Typed, session: Session | None = None) -> dict[str, Gate]:
    limits = gates.budgets(what.form.precision)
    return {gate.name: gate for gate in judge(case, what, session, limits, "no such device").gates}


def check_room(results: dict[str, Gate], names: tuple[str, ...]) -> None:
    assert {gate.verdict for gate in results.values()} <= {"pass", "not run", "not shown"}, results
    for name in names:
        value, budget = results[name].value, results[name].budget
        assert value is not None
        assert budget is not None
        assert value < budget / 2, results[name]


@pytest.mark.parametrize("form", ON_GPU, ids=str)
def test_an_honest_graph_passes_with_room(case: Case, form: Form) -> None:
    results = judged(case, typed(form))
    check_room(results, WITH_ROOM)
    assert (results["fidelity"].verdict, results["fidelity"].detail) == (
        "not run",
        "no such device",
    )


@pytest.mark.parametrize("form", ON_CPU, ids=str)
def test_an_honest_engine_passes_with_room(case: Case, form: Form, tmp_path: Path) -> None:
    what = typed(form)
    with opened(what, tmp_path) as session:
        results = judged(case, what, session)
    check_room(results, WITH_ROOM + FIDELITY)
    assert "fidelity" not in results


def test_the_gates_come_in_their_order(case: Case) -> None:
    few = replace(case, judged=replace(case.judged, faces=case.judged.faces[:4]))
    common = ["witnesses", "loss, median", "loss, 99 %", "fidelity", "flips", "agreement"]
    labelled = ["accuracy", "classes", "calibration"]
    rest = ["batch invariance", "finite", "largest activation"]
    assert list(judged(few, typed(Form("fp32")))) == common + rest
    found = judged(few, typed(Form("fp16")))
    assert list(found) == common + labelled + rest
    assert {found[name].verdict for name in labelled} == {"not run"}
    assert found["agreement"].verdict == "not shown"


def test_labels_are_used_where_there_are_some(case: Case) -> None:
    given = case.wanted.answers["probabilities"].argmax(axis=1)
    labelled = replace(case, judged=Judged(case.judged.faces, given, "drawn"))
    found = judged(labelled, typed(Form("fp16")))
    assert found["accuracy"].detail.startswith("100.00% to 100.00% of 24")
    assert found["accuracy"].verdict == "not shown"
    assert found["classes"].verdict == "not shown"
    assert found["calibration"].verdict == "pass"


def test_loss_is_the_graphs_and_everything_else_the_engines(case: Case, tmp_path: Path) -> None:
    """A builder that leaves out a block: the graph it was given is not to blame."""
    form = Form("fp16")
    broken = GRAPHS["last block removed"].typed(case.original, form, RANGES)
    with opened(broken, tmp_path) as session:
        found = judged(case, typed(form), session)
    assert {name for name, gate in found.items() if gate.verdict == "fail"} == {
        "witnesses",
        *FIDELITY,
        "flips",
    }


def test_an_engine_may_not_make_up_for_a_broken_graph(case: Case, tmp_path: Path) -> None:
    form = Form("fp16")
    broken = GRAPHS["last block removed"].typed(case.original, form, RANGES)
    with opened(typed(form), tmp_path) as session:
        found = judged(case, broken, session)
    failed = {name for name, gate in found.items() if gate.verdict == "fail"}
    assert failed == {"loss, median", "loss, 99 %", *FIDELITY}


def test_the_reference_is_computed_once(case: Case) -> None:
    told: list[str] = []
    few = replace(
        case,
        judged=replace(case.judged, faces=case.judged.faces[:4]),
        step=lambda phase, done, total: told.append(phase),
    )
    for _ in range(2):
        judged(few, typed(Form("fp32")))
    assert told.count("reference") == 2  # begun and done
    phases = list(dict.fromkeys(told))
    assert phases[:3] == ["typed graph as written", "reference", "witnesses"]
    assert "invariance, alone" in phases


def test_faces_are_answered_in_batches_that_the_profile_allows(case: Case) -> None:
    fixed = replace(case, original=models.of_batch(case.original, 3), batch=(3, 3, 3))
    found = judged(fixed, to_typed(fixed.original, Form("fp16"), None))
    assert {gate.verdict for gate in found.values()} <= {"pass", "not run", "not shown"}
    np.testing.assert_allclose(
        fixed.wanted.answers["map"], case.wanted.answers["map"], rtol=1e-3, atol=1e-4
    )
