"""One engine in the making: typed, built, judged; published only if it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcut_trt import gates
from convcut_trt.backends.base import Backend, BuildOptions, BuiltEngine, Session
from convcut_trt.gates import Gate
from convcut_trt.gates.judge import Case, judge
from convcut_trt.gates.proof import Proof, check_proof, check_tail, prove_engine
from convcut_trt.precision.typed import Form, Typed, to_typed
from convcut_trt.ranges import Ranges
from convcut_trt.seam import split

NOT_HERE = "the engine itself has not run: no such device here"


@dataclass(frozen=True)
class Workshop:
    """Where the engines of one request are made.

    Attributes:
        case: What they are judged by.
        backend: Who builds them.
        options: For the backend.
        ranges: What INT8 is made from; None where the model has none.
        budgets: The user's changes to the gates' budgets.
        runs_here: Whether this machine can open what the backend builds.
        tail: ``native``: inside the engine; ``kernel``: the engine ends at the map.
        scratch: A folder for files in the making.
    """

    case: Case
    backend: Backend
    options: BuildOptions
    ranges: Ranges | None
    budgets: Mapping[str, float]
    runs_here: bool
    scratch: Path
    tail: str = "native"


@dataclass(frozen=True)
class Built:
    """An engine that was built.

    Attributes:
        typed: What it was built from, whole; an engine that ends at the map was built from its trunk.
        typed_path: The same, as a file.
        engine: What the backend gave back.
        engine_path: The engine, as a file.
        tail: See Workshop.
    """

    typed: Typed
    typed_path: Path
    engine: BuiltEngine
    engine_path: Path
    tail: str

    def open(self, backend: Backend) -> Session:
        """The engine, and the tail kernel behind it where it has one."""
        return backend.open(
            self.engine_path, tail=self.typed_path if self.tail == "kernel" else None
        )


@dataclass(frozen=True)
class Candidate(Built):
    """An engine that was built and judged, and is published nowhere yet.

    Attributes:
        proof: What it stores and computes.
        limits: The budgets it was held to.
        gates: How it did.
        worst: Positions of the faces whose maps lost most, the worst first.
    """

    proof: Proof
    limits: Mapping[str, float]
    gates: tuple[Gate, ...]
    worst: NDArray[np.intp]

    @property
    def form(self) -> Form:
        """How it was typed."""
        return self.typed.form

    @property
    def failed(self) -> list[Gate]:
        """The gates it failed at."""
        return gates.failed(self.gates)


def make(workshop: Workshop, form: Form) -> Candidate:
    """Types, builds and judges.

    Raises:
        InputError: The form is not possible with this model, ranges or backend.
        BuildError: The builder refused or crashed.
    """
    case, backend = workshop.case, workshop.backend
    limits = gates.budgets(form.precision, known_budgets(form.precision, workshop.budgets))
    built = build_only(workshop, form)
    proof = prove_engine(built.typed, built.typed_path, built.engine)
    with built.open(backend) if workshop.runs_here else nullcontext() as session:
        judgement = judge(case, built.typed, session, limits, NOT_HERE)
    results = (
        *judgement.gates,
        check_tail(built.typed),
        *check_proof(proof, backend.on_cpu, limits),
    )
    return Candidate(
        **vars(built), proof=proof, limits=limits, gates=results, worst=judgement.worst
    )


def known_budgets(precision: str, changes: Mapping[str, float]) -> dict[str, float]:
    """Those of the user's changes that a precision has a gate for: ``auto`` takes them for all precisions."""
    return {key: value for key, value in changes.items() if key in gates.BUDGETS[precision]}


def build_only(workshop: Workshop, form: Form) -> Built:
    """Types and builds, for timing.

    Raises:
        InputError, BuildError: As ``make``.
    """
    step = workshop.case.step
    step(f"typed graph, {form}", 0, 1)
    typed = to_typed(workshop.case.original, form, workshop.ranges)
    stem = workshop.scratch / f"{form.precision}-{form.placement}-{form.mlp}-{workshop.tail}"
    typed_path = stem.with_suffix(".onnx")
    typed_path.write_bytes(typed.model.SerializeToString())
    source = typed_path
    if workshop.tail == "kernel":
        source = stem.with_suffix(".trunk.onnx")
        source.write_bytes(split(typed.model)[0].SerializeToString())
    step(f"typed graph, {form}", 1, 1)
    engine = workshop.backend.build(source, workshop.options, step)
    engine_path = typed_path
    if not workshop.backend.on_cpu:
        engine_path = stem.with_suffix(".engine")
        engine_path.write_bytes(engine.engine)
    return Built(typed, typed_path, engine, engine_path, workshop.tail)
