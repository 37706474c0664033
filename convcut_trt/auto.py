"""``--precision auto``, and whether INT8 is worth it: engines built, judged, and timed against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from convcut_trt.candidate import Candidate, Workshop, build_only, make
from convcut_trt.errors import BuildError, InputError
from convcut_trt.int8 import PLACEMENTS
from convcut_trt.measure import Timings, paired
from convcut_trt.typed import Form, form_of


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
    verdicts: dict[str, str] = {}
    passed: dict[str, Candidate] = {}
    failed: list[Candidate] = []
    for form in _forms(workshop, mlp, verdicts):
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
        timings = _time(workshop, {name: c.engine_path for name, c in passed.items()})
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
    engines = {name: candidate.engine_path}
    for precision in _plain(workshop):
        form = form_of(precision, workshop.backend.on_cpu, None, None)
        engines[precision] = build_only(workshop, form)
    timings = _time(workshop, engines)
    return (f"{name}: {verdict(name, timings, _plain(workshop))}",)


def _plain(workshop: Workshop) -> tuple[str, ...]:
    """What INT8 has to beat: on a CPU fp16 is stored and fp32 computed, so the casts count against fp16."""
    return ("fp16", "fp32") if workshop.backend.on_cpu else ("fp16",)


def _forms(workshop: Workshop, mlp: str | None, verdicts: dict[str, str]) -> list[Form]:
    """The candidates, the most precise first; why others are none goes into ``verdicts``."""
    on_cpu = workshop.backend.on_cpu
    forms = [form_of(precision, on_cpu, None, mlp) for precision in _plain(workshop)]
    if reason := workshop.backend.refuses("bf16"):
        verdicts["bf16"] = f"not built: {reason}"
    else:
        forms.append(form_of("bf16", on_cpu, None, mlp))
    if workshop.ranges is None:
        verdicts["int8"] = "not built: the model has no ranges, `convcut-trt calibrate` makes them"
    else:
        forms += [form_of("int8", on_cpu, placement, mlp) for placement in PLACEMENTS]
    return forms


def _time(workshop: Workshop, engines: Mapping[str, Path]) -> list[Timings]:
    """Times engines in turns, at the usual batch, then at the smallest."""
    case = workshop.case
    low, usual, _ = case.batch
    timings = []
    with ExitStack() as opened:
        sessions = {
            name: opened.enter_context(workshop.backend.open(path))
            for name, path in engines.items()
        }
        for batch in dict.fromkeys((usual, low)):
            faces = case.judged.faces[[row % len(case.judged.faces) for row in range(batch)]]
            timings.append(paired(sessions, faces, case.step))
    return timings


def fastest(timings: Sequence[Timings], names: Iterable[str]) -> str:
    """At the usual batch; the first stays unless another is shown to be faster."""
    kept, *others = names
    for name in others:
        if timings[0].ratio(name, kept).faster:
            kept = name
    return kept


def _baselines(workshop: Workshop, passed: Mapping[str, Candidate]) -> tuple[str, ...]:
    return tuple(name for name in _plain(workshop) if name in passed)


def verdict(name: str, timings: Sequence[Timings], baselines: Sequence[str]) -> str:
    """For example ``1.07x fp16 (1.05 to 1.09) at batch 4, within budget; ...``."""
    others = [other for other in baselines if other != name]
    told = [
        ", ".join(
            [f"{timing.milliseconds(name):.2f} ms", *(_times(timing, name, o) for o in others)]
        )
        + f" at batch {timing.batch}"
        for timing in timings
    ]
    slower = any(not timings[0].ratio(name, other).faster for other in others)
    head = "not worth it here" if name.startswith("int8") and slower else "within budget"
    return f"{head}: {'; '.join(told)}"


def _times(timing: Timings, name: str, other: str) -> str:
    ratio = timing.ratio(name, other)
    return f"{ratio.value:.2f}x {other} ({ratio.low:.2f} to {ratio.high:.2f})"


def _lines(verdicts: Mapping[str, str]) -> list[str]:
    return [f"{name}: {verdict}" for name, verdict in verdicts.items()]
