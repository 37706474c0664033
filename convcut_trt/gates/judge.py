"""All gates of one engine, in the order in which they are shown: what ``build`` and ``verify`` hold it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.base import Session
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.gates import Gate, Step, accuracy, parity
from convcut_trt.gates.answers import F32, Reference, answers, reference
from convcut_trt.gates.judged import Judged
from convcut_trt.home import Model
from convcut_trt.precision.typed import Typed
from convcut_trt.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Case:
    """What engines of one model are judged by; the reference is computed once for all of them.

    Attributes:
        model: The model.
        original: Its ``NAME.onnx``.
        judged: The faces.
        batch: Smallest, usual and largest batch.
        step: Called as ``step(phase, done, total)``.
    """

    model: Model
    original: onnx.ModelProto
    judged: Judged
    batch: tuple[int, int, int]
    step: Step

    @cached_property
    def wanted(self) -> Reference:
        """What ``NAME.onnx`` answers."""
        return reference(self.original, self.judged.faces, self.step)


@dataclass(frozen=True)
class Judgement:
    """How an engine did.

    Attributes:
        gates: In the order in which they are shown.
        worst: Positions of the faces whose maps lost most, the worst first.
    """

    gates: list[Gate]
    worst: NDArray[np.intp]


def judge(
    case: Case, typed: Typed, session: Session | None, limits: Mapping[str, float], reason: str
) -> Judgement:
    """Runs every gate but the precision proof.

    Args:
        case: Model and faces.
        typed: What the engine was built from; onnxruntime's CPU computes it by its rule, as it is written.
        session: The open engine; None where it cannot run here, and its typed ONNX stands in.
        limits: Budgets.
        reason: Why there is no session.
    """
    with as_written(typed) as stand_in:
        by_rule = answers(
            stand_in, case.judged.faces, case.batch, "typed graph as written", case.step
        )
        fidelity = [Gate("fidelity", None, None, "not run", reason)]
        values: Mapping[str, F32] = by_rule
        if session is not None:
            values = answers(session, case.judged.faces, case.batch, "engine", case.step)
            fidelity = parity.check_fidelity(values, by_rule, limits)
        runs = stand_in if session is None else session
        wanted = case.wanted.answers
        spec = case.model.spec
        results = [
            parity.check_witnesses(
                runs, spec, case.model.folder, case.batch, limits["witnesses"], case.step
            ),
            *parity.check_loss(by_rule, wanted, limits),
            *fidelity,
            parity.check_flips(values, wanted, limits["flip_margin"]),
            parity.check_agreement(values, wanted, limits["agreement"]),
            *accuracy.check_labelled(
                values["probabilities"],
                wanted["probabilities"],
                case.judged.labels,
                spec.classes,
                limits,
            ),
            parity.check_invariance(
                runs, case.judged.faces, case.batch, limits["invariance"], case.step
            ),
            *parity.check_finite(values, case.wanted.largest, limits["largest_activation"]),
        ]
        lost = parity.relative_errors(by_rule["map"], wanted["map"])
        return Judgement(results, np.argsort(-np.nan_to_num(lost, nan=np.inf), kind="stable"))


@contextmanager
def as_written(typed: Typed) -> Iterator[Session]:
    """Opens a typed ONNX on onnxruntime's CPU, to be computed by its rule and with no operation fused."""
    with scratch_folder() as folder:
        path = folder / "typed.onnx"
        path.write_bytes(typed.by_rule().SerializeToString())
        with OnnxRuntime().open(path, optimise=False) as session:
            yield session
