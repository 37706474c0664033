"""Which operations do which layers: fused, split, unknown ones; and what is held against what."""

from __future__ import annotations

import numpy as np
import pytest

from bench.attribution import Attribution, Group, attribute, compared, roof, strangers
from convcut_trt.backends import trt_inspect
from convcut_trt.backends.trt_plan import Operation
from convcut_trt.measuring.roofline import LayerEstimate
from convcut_trt.measuring.work import Work

WORK = [
    Work("stem", "stem", "fp16", 10, 4, 4, 4, riders=("to half", "bias")),
    Work("dw", "depthwise", "fp16", 10, 4, 4, 4),
    Work("norm", "norm", "fp16", 0, 4, 4, 4),
    Work("fc1", "gemm", "fp16", 10, 4, 4, 4, riders=("gelu",)),
    Work("fc2", "gemm", "fp16", 10, 4, 4, 4),
]


def operation(name: str, *covers: str) -> Operation:
    return Operation(name, "kgen", "fp16", covers)


@pytest.mark.parametrize(
    ("operations", "groups", "unknown", "absent"),
    [
        pytest.param(
            [("a", "stem"), ("b", "dw"), ("c", "norm"), ("d", "fc1"), ("e", "fc2")],
            [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)],
            (),
            (),
            id="each its own",
        ),
        pytest.param(
            [("a", "to half", "stem"), ("b", "bias"), ("c", "dw", "norm"), ("d", "fc1", "fc2")],
            [("ab", 0), ("c", 1, 2), ("d", 3, 4)],
            (),
            (),
            id="split and fused",
        ),
        pytest.param(
            # the second half of fc1 runs with fc2, so that neither can be told apart
            [("a", "stem"), ("b", "dw", "norm"), ("c", "fc1"), ("d", "gelu", "fc2")],
            [("a", 0), ("b", 1, 2), ("cd", 3, 4)],
            (),
            (),
            id="across layers",
        ),
        pytest.param(
            [("a", "stem"), ("x",), ("b", "dw"), ("y", "view"), ("d", "fc1", "fc2")],
            [("a", 0), ("b", 1), ("d", 3, 4)],
            ("x", "y"),
            (2,),
            id="strangers, and a layer that none covers",
        ),
        pytest.param([("x",)], [], ("x",), (0, 1, 2, 3, 4), id="nothing known"),
        pytest.param([], [], (), (0, 1, 2, 3, 4), id="nothing told"),
    ],
)
def test_what_hangs_together_is_a_group(
    operations: list[tuple[str, ...]],
    groups: list[tuple[str | int, ...]],
    unknown: tuple[str, ...],
    absent: tuple[int, ...],
) -> None:
    reported = [operation(*names) for names in operations]
    found = attribute([names[0] for names in operations], reported, WORK)
    wanted = tuple(Group(tuple(str(group[0])), group[1:]) for group in groups)  # type: ignore[arg-type]
    assert found == Attribution(wanted, unknown, absent)


def test_names_that_a_report_does_not_have_and_those_it_has_twice() -> None:
    reported = [operation("a", "stem"), operation("a", "dw"), operation("never told", "norm")]
    found = attribute(["a", "not reported"], reported, WORK[:3])
    assert found == Attribution((Group(("a",), (0, 1)),), ("not reported",), (2,))


def test_a_fused_operation_of_an_inspectors_report_is_read() -> None:
    report = """{"Layers": [{"Name": "__myl_FcGelu_3", "LayerType": "kgen", "Inputs": [], "Outputs": [],
        "Metadata": "[ONNX Layer: fc1]\\u001e[ONNX Layer: gelu]\\u001f[ONNX Layer: fc2]"}]}"""
    found = attribute(["__myl_FcGelu_3"], trt_inspect.operations(report) or (), WORK)
    assert found.groups == (Group(("__myl_FcGelu_3",), (3, 4)),)


def estimate(at: int, compute: float, memory: float, overhead: float) -> LayerEstimate:
    return LayerEstimate(WORK[at], compute, memory, overhead, overhead + max(compute, memory))


def test_a_group_is_the_median_of_its_sum_beside_the_sum_of_its_layers() -> None:
    found = Attribution((Group(("a", "b"), (0,)), Group(("c",), (1, 2))), ("x",), (3,))
    times = {
        "a": np.array([0.010, 0.030, 0.020]),
        "b": np.array([0.030, 0.010, 0.080]),
        "c": np.array([0.001, 0.001, 0.001]),
        "x": np.array([0.030, 0.010, 0.020]),
    }
    estimates = [estimate(0, 10, 4, 2), estimate(1, 1, 3, 2), estimate(2, 1, 2, 5)]
    estimates.append(estimate(3, 1, 7, 0))
    result = compared(times, found, estimates)
    (row,) = result["groups"]  # 1 us of 71 is below 2 %
    assert row["layers"] == ["stem"] and row["operations"] == ["a", "b"]
    assert row["measured_us"] == pytest.approx(40)  # of 40, 40 and 100
    assert row["share"] == pytest.approx(40 / 71, rel=1e-3)
    assert row["estimate_us"] == 12 and row["factor"] == pytest.approx(40 / 12, rel=1e-3)
    assert (row["roof"], row["limited_by"], row["of_roof"]) == ("compute", "compute", 0.25)
    assert result["layer_factor"] == row["factor"]
    assert result["small"] == {"groups": 1, "measured_us": 1.0, "estimate_us": 12.0}
    assert result["absent"] == [{"layer": "fc1", "estimate_us": 7.0}]
    assert strangers(times, found) == [{"operation": "x", "measured_us": 20.0}]


def test_without_a_group_there_is_no_factor() -> None:
    result = compared({"x": np.ones(3)}, Attribution((), ("x",), (0,)), [estimate(0, 1, 1, 1)])
    assert result["groups"] == [] and result["layer_factor"] is None


def test_what_limits_most_of_the_estimate_limits_a_group() -> None:
    of = [estimate(0, 1, 2, 9), estimate(1, 1, 2, 9), estimate(2, 3, 15, 1)]
    found = roof(of, 40.0)
    assert found == {"limited_by": "overhead", "roof": "memory", "of_roof": pytest.approx(19 / 40)}
