"""What a gate is: budgets that users change within reason, verdicts, and the table that shows them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from convcut_trt import gates
from convcut_trt.errors import InputError
from convcut_trt.gates import Gate
from convcut_trt.precision.typed import PRECISIONS


def test_every_precision_has_budgets() -> None:
    assert tuple(gates.BUDGETS) == PRECISIONS
    for precision in PRECISIONS:
        assert gates.budgets(precision) == gates.BUDGETS[precision]


def test_a_budget_never_grows_towards_more_bits() -> None:
    wide = {"agreement", "stored", "computed", "largest_activation"}
    for more, fewer in zip(PRECISIONS, PRECISIONS[1:], strict=False):
        for key in gates.BUDGETS[more].keys() - wide:
            assert gates.BUDGETS[more][key] <= gates.BUDGETS[fewer][key], (more, fewer, key)


def test_budgets_are_the_users_to_change() -> None:
    assert gates.budgets("fp16", {"witnesses": 0.5})["witnesses"] == 0.5
    assert gates.BUDGETS["fp16"]["witnesses"] == 3e-3
    both = {"loss_median": 0.5, "loss_p99": 0.6}
    assert gates.budgets("fp32", both) == {**gates.BUDGETS["fp32"], **both}
    assert gates.budgets("fp32", {"largest_activation": 1e9})["largest_activation"] == 1e9
    # As far as they go: the whole of a share, and a median that is the 99th percentile.
    assert gates.budgets("int8", {"agreement": 1.0})["agreement"] == 1
    assert gates.budgets("int8", {"loss_median": 0.08})["loss_median"] == 0.08


@pytest.mark.parametrize(
    ("precision", "changes", "words"),
    [
        ("fp32", {"stored": 0.5}, "--budget stored is not known for fp32: choose from wit"),
        ("fp32", {"accuracy_loss": 0.5}, "not known for fp32"),
        ("int8", {"witness": 0.5}, "not known for int8: choose from witnesses, loss_median, loss_"),
        ("fp16", {"witnesses": 0.0}, "give a positive number"),
        ("fp16", {"witnesses": -1.0}, "give a positive number"),
        ("bf16", {"witnesses": float("nan")}, "give a positive number"),
        ("int8", {"loss_p99": float("inf")}, "give a positive number"),
        ("int8", {"agreement": 98.0}, "give a share, at most 1"),
        ("fp16", {"accuracy_loss": 1.5}, "give a share, at most 1"),
        ("int8", {"loss_median": 0.2}, "loss_median=0.2 and loss_p99=0.08 contradict"),
        ("fp16", {"fidelity_p99": 1e-3}, "fidelity_median=0.003 and fidelity_p99=0.001 contradict"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(
    precision: str, changes: Mapping[str, float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        gates.budgets(precision, changes)


@pytest.mark.parametrize(
    ("value", "most", "least"),
    [
        (0.4, "pass", "fail"),
        (0.5, "pass", "pass"),
        (0.6, "fail", "pass"),
        (float("nan"), "fail", "fail"),
        (float("inf"), "fail", "pass"),
    ],
)
def test_a_budget_is_within_itself_and_nan_is_in_none(value: float, most: str, least: str) -> None:
    assert gates.at_most("a", value, 0.5, "").verdict == most
    assert gates.at_least("a", value, 0.5, "").verdict == least


def test_a_gate_says_what_was_measured_and_what_was_allowed() -> None:
    assert gates.at_most("a", 0.4, 0.5, "of 300") == Gate("a", 0.4, 0.5, "pass", "of 300")
    assert gates.at_least("b", 0.4, 0.5, "of 30") == Gate("b", 0.4, 0.5, "fail", "of 30")


def test_only_what_failed_has_failed() -> None:
    verdicts = ("pass", "fail", "not shown", "not run")
    found = [Gate(verdict, None, None, verdict) for verdict in verdicts]
    assert [gate.name for gate in gates.failed(found)] == ["fail"]


def test_the_table_has_a_line_for_every_gate_and_straight_columns() -> None:
    found = [
        Gate("finite", 0.0, 0.0, "pass", "values that are not finite"),
        Gate("computed", None, None, "not run"),
        Gate("accuracy", -0.00123456, -0.003, "not shown", "of 300"),
    ]
    assert gates.table(found).splitlines() == [
        "gate      measured  budget  verdict",
        "finite    0         0       pass       values that are not finite",
        "computed  -         -       not run",
        "accuracy  -0.00123  -0.003  not shown  of 300",
    ]
