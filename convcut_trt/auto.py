"""``--precision auto``, and whether INT8 is worth it: engines built, judged, and timed against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from convcut_trt.backends.base import Backend
from convcut_trt.candidate import Built, Candidate, Workshop, build_only, make
from convcut_trt.errors import BuildError, InputError
from convcut_trt.gates import BUDGETS
from convcut_trt.measuring.measure import FASTER, Timings
from convcut_trt.measuring.versus import LEAST, Contender, Versus
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.precision.typed import Form, form_of

SECONDS_EACH = 0.25  # of calls of an engine in each opening


@dataclass(frozen=True)
class Choice:
    """What ``auto`` chose.

    Attributes:
        kept: The fastest that passed; None where none did.
        verdicts: A line for each precision.
        failed: Those that did not pass, the most precise first.
    """

    kept: Candidate | None
    verdicts: tuple[str, ...]
    failed: tuple[Candidate, ...]


def choose(workshop: Workshop, mlp: str | None) -> Choice:
    """Builds fp16, bf16 where it is computed, and every INT8 placement; keeps the fastest that passes.

    Where the engines cannot run nothing is timed, and the most precise of them is kept: fp16.
    """
    tried, left_out = forms(workshop.backend, mlp, has_ranges=workshop.ranges is not None)
    verdicts = {name: f"not built: {why}" for name, why in left_out.items()}
    passed: dict[str, Candidate] = {}
    failed: list[Candidate] = []
    for form in tried:
        try:
            candidate = make(workshop, form)
        except (BuildError, InputError) as error:
            # A network may lack what a placement quantises; anything else is the user's to mend.
            if isinstance(error, InputError) and not form.placement:
                raise
            verdicts[str(form)] = f"not built: {error}"
            continue
        if candidate.failed:
            failed.append(candidate)
            verdicts[str(form)] = f"failed at {', '.join(gate.name for gate in candidate.failed)}"
        else:
            passed[str(form)] = candidate
    if not passed:
        return Choice(None, tuple(_lines(verdicts)), tuple(failed))
    kept = next(iter(passed))
    if not workshop.runs_here:
        verdicts.update(dict.fromkeys(passed, "within budget, not measured: no such device"))
    else:
        timings = time_engines(workshop, passed)
        kept = fastest(timings, passed)
        baselines = _baselines(workshop, passed)
        for name in passed:
            verdicts[name] = verdict(name, timings, baselines)
    verdicts[kept] = f"kept, {verdicts[kept]}"
    return Choice(passed[kept], tuple(_lines(verdicts)), tuple(failed))


def compare(workshop: Workshop, candidate: Candidate) -> tuple[str, ...]:
    """Says of an INT8 engine whether it is worth it here: its time against the precisions without INT8."""
    name = str(candidate.form)
    if not workshop.runs_here:
        return (f"{name}: not measured: no such device",)
    engines: dict[str, Built] = {name: candidate}
    for precision in _plain(workshop.backend):
        form = form_of(precision, workshop.backend.on_cpu, None, None)
        engines[precision] = build_only(workshop, form)
    timings = time_engines(workshop, engines)
    return (f"{name}: {verdict(name, timings, _plain(workshop.backend))}",)


def _plain(backend: Backend) -> tuple[str, ...]:
    """What INT8 has to beat: on a CPU fp16 is stored and fp32 computed, so the casts count against fp16."""
    return ("fp16", "fp32") if backend.on_cpu else ("fp16",)


def forms(
    backend: Backend, mlp: str | None, *, has_ranges: bool
) -> tuple[list[Form], dict[str, str]]:
    """What ``auto`` tries, the most precise first, and why it leaves others out."""
    tried = [form_of(precision, backend.on_cpu, None, mlp) for precision in _plain(backend)]
    left_out = {}
    if reason := backend.refuses("bf16"):
        left_out["bf16"] = reason
    else:
        tried.append(form_of("bf16", backend.on_cpu, None, mlp))
    if has_ranges:
        tried += [form_of("int8", backend.on_cpu, placement, mlp) for placement in PLACEMENTS]
    else:
        left_out["int8"] = "the model has no ranges, `convcut-trt calibrate` makes them"
    return tried, left_out


def time_engines(workshop: Workshop, engines: Mapping[str, Built]) -> list[Timings]:
    """Compares engines, opened anew several times, at the usual batch, then at the smallest.

    Raises:
        GateFailed: One answers the same faces otherwise than before.
    """
    case = workshop.case
    low, usual, _ = case.batch
    timings = []
    for batch in dict.fromkeys((usual, low)):
        count = len(case.judged.faces)
        rows = [(start + np.arange(batch)) % count for start in (0, count // 2)]
        versus = Versus(
            [
                Contender(
                    name=name,
                    open=partial(built.open, workshop.backend),
                    batches=[case.judged.faces[row] for row in rows],
                    budget=BUDGETS[built.typed.form.precision]["invariance"],
                )
                for name, built in engines.items()
            ],
            SECONDS_EACH * len(engines),
            batch,
        )
        phase = f"timing, batch {batch}"
        for number in range(LEAST):
            case.step(phase, number, LEAST)
            versus.open_again()
        case.step(phase, LEAST, LEAST)
        timings.append(versus.timings)
    return timings


def fastest(timings: Sequence[Timings], names: Iterable[str]) -> str:
    """At the usual batch; the first stays unless another's verdict is ``faster``; on a flagged machine none is."""
    kept, *others = names
    for name in others:
        if timings[0].verdict(name, kept) == FASTER:
            kept = name
    return kept


def _baselines(workshop: Workshop, passed: Mapping[str, Candidate]) -> tuple[str, ...]:
    return tuple(name for name in _plain(workshop.backend) if name in passed)


def verdict(name: str, timings: Sequence[Timings], baselines: Sequence[str]) -> str:
    """For example ``within budget: 1.86 ms, 1.07x fp16 (1.05 to 1.09) at batch 4; ...``; it says why times are
    inconclusive."""
    others = [other for other in baselines if other != name]
    told = [
        ", ".join(
            [f"{timing.milliseconds(name):.2f} ms", *(_times(timing, name, o) for o in others)]
        )
        + f" at batch {timing.batch}"
        + "".join(f", inconclusive: {flag}, {why}" for flag, why in timing.flags.items())
        for timing in timings
    ]
    faster = all(timings[0].verdict(name, other) == FASTER for other in others)
    worth = faster or timings[0].flags or not name.startswith("int8")
    return f"{'within budget' if worth else 'not worth it here'}: {'; '.join(told)}"


def _times(timing: Timings, name: str, other: str) -> str:
    ratio = timing.ratio(name, other)
    return f"{ratio.value:.2f}x {other} ({ratio.low:.2f} to {ratio.high:.2f})"


def _lines(verdicts: Mapping[str, str]) -> list[str]:
    return [f"{name}: {verdict}" for name, verdict in verdicts.items()]
