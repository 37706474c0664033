"""What spinning threads cost: answers are checked before their times count."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from bench import spinning
from convcut_trt.errors import GateFailed
from convcut_trt.measuring.entrants import Work
from convcut_trt.spec import INPUT
from tests.models import zoo

ZOO = zoo()
WORK = Work.read(ZOO.spec, ZOO.folder)


class Session:
    """Stands in for one of onnxruntime that knows the witnesses, and forgets them at a call."""

    def __init__(self, wrong_at: int | None = None) -> None:
        self._wrong_at, self.asked = wrong_at, 0

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[Any]:
        """All outputs, in the order of the graph."""
        self.asked += 1
        number = next(
            n for n, face in enumerate(WORK.faces) if np.array_equal(face[None], inputs[INPUT])
        )
        answer = WORK.wanted[number : number + 1].copy()
        return [None, answer[:, ::-1] if self.asked == self._wrong_at else answer, None]


def test_a_round_times_each_call_and_its_pauses_are_no_part_of_them() -> None:
    session = Session()
    call = spinning.asking(session, "a session", WORK)
    start = time.perf_counter()
    found = spinning.turn(call, 0.01, 5)
    assert time.perf_counter() - start >= 0.05
    assert session.asked == call.calls == 5
    assert 0 < found["p50_ms"] <= found["p90_ms"] < 10
    assert found["cores"] >= 0


def test_a_wrong_answer_ends_it() -> None:
    call = spinning.asking(Session(wrong_at=3), "a session", WORK)
    with pytest.raises(GateFailed, match="a session answered wrong at call 3"):
        spinning.turn(call, 0.0, 5)


def test_onnxruntime_answers_the_witnesses_right() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(ZOO.onnx))
    call = spinning.asking(session, "a session", WORK)
    spinning.turn(call, 0.0, 2 * len(WORK.faces))
    assert 0 < call.worst < 1e-3


def test_what_keeps_a_core_busy_is_gone_afterwards() -> None:
    worked = children()
    with spinning.busy(1):
        time.sleep(0.2)
    assert children() - worked > 0.02
    with spinning.busy(0):  # none
        pass


def children() -> float:
    """Seconds that ended child processes worked."""
    return os.times().children_user
