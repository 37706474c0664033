"""Results of benches, made by hand: what reports are tested with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from convcut_trt.home import find_model
from convcut_trt.measuring.clocks import State
from convcut_trt.measuring.conditions import Conditions
from convcut_trt.measuring.distribution import Distribution
from convcut_trt.measuring.measure import Ratio
from convcut_trt.measuring.provenance import Machine
from convcut_trt.measuring.results import (
    IDLE,
    ON_GPU,
    STEADY,
    Accuracy,
    Compared,
    Measured,
    Memory,
    Result,
    Series,
    Subject,
)

MODEL, OTHER = "conv-cut-mini", "mine"
BATCHES = (1, 4, 16)
CPU = Machine("A CPU", "A CPU", 2, 2**33, None, None, None, None, None, None, "Linux x86_64")
H200 = replace(CPU, device="NVIDIA H200", gpu="NVIDIA H200", compute_capability="9.0")
MOMENT = Conditions(at_s=1.0, cores=2, cpu_mhz=2500.0, own_s=0.5)
GATES: tuple[dict[str, Any], ...] = (
    {"name": "witnesses", "value": 1e-4, "budget": 1e-3, "verdict": "pass", "detail": ""},
    {
        "name": "agreement",
        "value": 0.992,
        "budget": 0.98,
        "verdict": "pass",
        "detail": "254 of 256 labels",
    },
    {"name": "accuracy", "value": None, "budget": 0.5, "verdict": "not shown", "detail": "few"},
)


def subject(asked: str, flavour: str = "onnxruntime", **changes: Any) -> Subject:
    """An engine of the bundled model."""
    placement = "pw" if asked == "int8" else ""
    return replace(
        Subject(
            name=f"{MODEL}.{asked}.{flavour}",
            kind="engine",
            model=MODEL,
            flavour=flavour,
            asked=asked,
            precision=f"{asked} stored",
            stored={asked: 1.0},
            computed={asked: 1.0},
            batch=BATCHES,
            placement=placement,
            mlp="conv",
            tail="native",
            target="",
            operations=39,
            sha256={"onnx": find_model(MODEL).spec.onnx_sha256},
            versions={},
            gates=GATES,
            verified_on="a CPU",
            judged_on="256 pictures",
            date="2026-01-01T00:00:00+00:00",
        ),
        **changes,
    )


def times(milliseconds: float, calls: int = 2000) -> Distribution:
    """Around a median."""
    random = np.random.default_rng(round(milliseconds * 1000))
    return Distribution.of(milliseconds * random.lognormal(0, 0.1, calls))


def measured(
    of: Subject, milliseconds: float, right: float | None = None, way: str = STEADY
) -> Measured:
    """An engine at every batch, and after idle; ``right`` of 1,000 labelled faces."""
    series = [Series(way, batch, True, times(milliseconds * batch)) for batch in BATCHES]
    if way != ON_GPU:
        series.append(Series(IDLE, 1, False, times(milliseconds * 2, 90)))
    accuracy = None
    if right is not None:
        good = round(500 * right)
        confusion = {"happiness": [good, 500 - good], "sadness": [500 - good, good]}
        accuracy = Accuracy("faces", 1000, right, right - 0.02, right + 0.02, confusion)
    return Measured(
        subject=of,
        open_ms=40.0,
        first_ms=5.0,
        difference=1e-4,
        series=tuple(series),
        not_measured={"on the GPU": "it computes on the CPU"},
        memory=Memory(10**8, 10**7, 2 * 10**8, None),
        energy=None,
        accuracy=accuracy,
        before=MOMENT,
        after=MOMENT,
        flags={},
    )


def in_mode(one: Measured, mode: str | None) -> Measured:
    """The same, measured on a GPU in a power mode."""
    return replace(one, before=replace(MOMENT, gpu=State(power_mode=mode, source="sysfs")))


def compared(one: Subject, other: Subject, ratio: float, **changes: Any) -> Compared:
    """Twelve openings whose ratios lie closely around one."""
    logs = np.log(ratio) + np.linspace(-0.01, 0.01, 12)
    found = Ratio.of(logs)
    return replace(
        Compared(
            name=one.name,
            other=other.name,
            batch=1,
            openings=12,
            seconds=5.0,
            ratio=found.value,
            low=found.low,
            high=found.high,
            verdict=found.verdict,
            log_ratios=tuple(map(float, logs)),
            name_ms=(1.0,) * 12,
            other_ms=(ratio,) * 12,
            before=MOMENT,
            after=MOMENT,
            flags={},
        ),
        **changes,
    )


def result(
    found: Sequence[Measured], pairs: Sequence[Compared] = (), machine: Machine = CPU
) -> Result:
    """A bench of these."""
    return Result(
        command="convcut-trt bench somewhere",
        date="2026-01-02T00:00:00+00:00",
        commit="0123456789abcdef0123-dirty",
        versions={"python": "3.11"},
        machine=machine,
        complete=True,
        measured=tuple(found),
        compared=tuple(pairs),
    )


FP32, FP16, INT8 = (subject(asked) for asked in ("fp32", "fp16", "int8"))
PEER = subject(
    "fp32", name="torch fp32", kind="peer", flavour="torch", precision="fp32 on 2 threads", gates=()
)


def usual() -> Result:
    """Three engines and a peer on a CPU: INT8 twice as fast as FP32, FP16 slower, the peer the same."""
    found = [measured(FP32, 4, 0.85), measured(FP16, 5, 0.85), measured(INT8, 2, 0.84)]
    pairs = [
        compared(FP32, FP16, 1.25),
        compared(FP32, INT8, 0.5),
        compared(FP32, PEER, 1.0),
        compared(FP16, INT8, 0.4),
        compared(INT8, PEER, 2.0, verdict="inconclusive", flags={"busy": "others took 40%"}),
    ]
    return result([*found, measured(PEER, 4)], pairs)


def cell(asked: str, flavour: str, mlp: str, model: str = MODEL) -> Subject:
    """An engine of a sweep, which has the name of its cell."""
    name = ".".join((model, asked, *(("pw",) if asked == "int8" else ()), flavour, mlp))
    return subject(asked, flavour, name=name, model=model, mlp=mlp)


def sweep() -> Result:
    """Two networks: of the one 16 engines, of the other two.

    Each is compared with the first of its network, at every batch: INT8 is 3 times as fast at batch 4 and twice at
    the others, everything else as fast.
    """
    axes = ("fp32", "fp16", "bf16", "int8"), ("onnxruntime", "openvino"), ("conv", "linear")
    first, *rest = (cell(*axis) for axis in product(*axes))
    own, other = (cell(asked, "onnxruntime", "conv", OTHER) for asked in ("fp32", "int8"))
    against = [*((one, first) for one in rest), (other, own)]
    pairs = [
        compared(one, opponent, _gain(one, batch), batch=batch)
        for one, opponent in against
        for batch in BATCHES
    ]
    shares = {"fp32": 0.85, "fp16": 0.85, "bf16": 0.84, "int8": 0.83}
    found = [measured(one, 4 / _gain(one, 1), shares[one.asked]) for one in (first, *rest)]
    found += [measured(own, 8, 0.6), measured(other, 4, 0.5)]
    return replace(result(found, pairs), command="convcut-trt bench --sweep")


def _gain(of: Subject, batch: int) -> float:
    if of.asked != "int8":
        return 1.0
    return 3.0 if batch == 4 else 2.0
