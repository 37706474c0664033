"""The evidence behind the gates' budgets: how much room honest engines have, and which gates see what is broken.

    python -m bench.gate_table --data ferplus.npz -o bench/results

writes ``gates.json`` and ``gates.md``. Honest forms are judged on the faces of ``--data``, or on the 256 bundled
pictures; broken ones on the first 32 of those, as their typed ONNX by its rule.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import convcut_trt
from bench.breakages import EXPORTS, GRAPHS, Breakage
from convcut_trt import gates, home
from convcut_trt.backends.base import BuildOptions
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.candidate import Workshop, make
from convcut_trt.datasets import open_dataset
from convcut_trt.fields import write_file, write_json
from convcut_trt.gates import Gate, judged, parity
from convcut_trt.gates.answers import F32, answers
from convcut_trt.gates.judge import Case, as_written, judge
from convcut_trt.gates.proof import check_proof, check_tail, prove
from convcut_trt.guard import guarded
from convcut_trt.network import read_model
from convcut_trt.optional import load
from convcut_trt.precision.int8 import PLACEMENTS
from convcut_trt.precision.typed import PRECISIONS, Form, Typed, form_of, to_typed
from convcut_trt.ranges import Ranges

onnxruntime = load("onnxruntime", "ort")

SCHEMA = 1
BATCH = (1, 8, 16)
BROKEN_FACES = 32
STAND_IN, ENGINE = "typed ONNX by its rule", "onnxruntime's CPU"
RESULTS = Path(__file__).parent / "results"
_REASON = "no device"
_SHARES = ("agreement", "stored", "computed")  # gates that pass from their budget on


def forms(precision: str) -> list[tuple[Form, str]]:
    """What is judged of a precision, and what computes it: every INT8 placement, engines where a CPU has any."""
    placements = PLACEMENTS if precision == "int8" else (None,)
    found = []
    for placement in placements:
        found.append((form_of(precision, False, placement, None), STAND_IN))
        if OnnxRuntime().refuses(precision) is None:
            found.append((form_of(precision, True, placement, None), ENGINE))
    return found


def judge_form(workshop: Workshop, form: Form, computed_by: str) -> list[Gate]:
    """All gates of an honest form; of a stand-in, what it computes is not known."""
    if computed_by == ENGINE:
        return list(make(workshop, form).gates)
    typed = to_typed(workshop.case.original, form, workshop.ranges)
    return judge_typed(workshop.case, typed, workshop.scratch)


def judge_typed(case: Case, typed: Typed, scratch: Path) -> list[Gate]:
    """All gates of a typed ONNX that stands in for its engine, but what it computes."""
    limits = gates.budgets(typed.form.precision)
    path = scratch / "typed.onnx"
    path.write_bytes(typed.model.SerializeToString())
    stored = check_proof(prove(typed, path, ()), True, limits)[:1]
    return [*judge(case, typed, None, limits, _REASON).gates, check_tail(typed), *stored]


def judge_engine(case: Case, engine: Typed, sound: Mapping[str, F32]) -> list[Gate]:
    """Fidelity of an engine that computes another graph than the one it was built from, which answers ``sound``."""
    given = typed_answers(case, engine)
    return parity.check_fidelity(given, sound, gates.budgets(engine.form.precision))


def typed_answers(case: Case, typed: Typed) -> dict[str, F32]:
    """What a typed ONNX answers on the faces of a case, computed by its rule."""
    with as_written(typed) as session:
        return answers(session, case.judged.faces, case.batch, "typed", case.step)


def headroom(gate: Gate) -> float | None:
    """How many times what was measured fits into the budget; None where nothing was lost, or nothing is allowed."""
    if gate.value is None or not gate.budget:
        return None
    used, allowed = abs(min(gate.value, 0.0)), abs(gate.budget)
    if gate.budget > 0:
        used, allowed = gate.value, gate.budget
    if gate.name in _SHARES:
        used, allowed = 1 - gate.value, 1 - gate.budget
    return allowed / used if used > 0 else None


def worst(judgements: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Gate -> the judgement with the least headroom, over the forms of a precision."""
    found: dict[str, Any] = {}
    for judgement in judgements:
        for gate in judgement["gates"]:
            if gate["value"] is None:
                continue
            entry = {
                "measured": gate["value"],
                "budget": gate["budget"],
                "headroom": gate["headroom"],
                "verdict": gate["verdict"],
                "form": judgement["form"],
                "computed_by": judgement["computed_by"],
            }
            former = found.setdefault(gate["name"], entry)
            room = [
                np.inf if each["headroom"] is None else each["headroom"] for each in (former, entry)
            ]
            if room[1] < room[0]:
                found[gate["name"]] = entry
    return found


def honest(workshop: Workshop) -> dict[str, Any]:
    """Every form of every precision on the faces of the workshop."""
    found = {}
    for precision in PRECISIONS:
        judgements = []
        for form, computed_by in forms(precision):
            workshop.case.step(f"honest {form}, {computed_by}", 0, 1)
            results = judge_form(workshop, form, computed_by)
            judgements.append(
                {
                    "form": str(form),
                    "computed_by": computed_by,
                    "gates": [{**asdict(gate), "headroom": headroom(gate)} for gate in results],
                }
            )
        found[precision] = {"gates": worst(judgements), "forms": judgements}
    return found


def broken_graphs(case: Case, ranges: Ranges, scratch: Path) -> dict[str, dict[str, list[str]]]:
    """Breakage -> precision -> the gates that fail, where what is built, or the engine, is broken."""
    sound: dict[str, Mapping[str, F32]] = {}
    for precision in PRECISIONS:
        form = form_of(precision, False, None, None)
        sound[precision] = typed_answers(case, to_typed(case.original, form, ranges))

    found = {}
    for name, breakage in GRAPHS.items():

        def results(form: Form, breakage: Breakage = breakage) -> list[Gate]:
            typed = breakage.typed(case.original, form, ranges)
            engine = judge_engine(case, typed, sound[form.precision])
            return [*judge_typed(case, typed, scratch), *engine]

        found[name] = _failed(breakage.precisions, results, case, name)
    return found


def broken_exports(case: Case, ranges: Ranges, scratch: Path) -> dict[str, dict[str, list[str]]]:
    """Breakage -> precision -> the gates that fail, where ``NAME.onnx`` itself or the preprocessing is broken."""
    found = {}
    for name, export in EXPORTS.items():
        bad = export(case)

        def results(form: Form, bad: Case = bad) -> list[Gate]:
            return judge_typed(bad, to_typed(bad.original, form, ranges), scratch)

        found[name] = _failed(PRECISIONS, results, case, name)
    return found


def _failed(
    precisions: Sequence[str], results: Callable[[Form], list[Gate]], case: Case, name: str
) -> dict[str, list[str]]:
    found = {}
    for precision in precisions:
        case.step(f"{name}, {precision}", 0, 1)
        failed = gates.failed(results(form_of(precision, False, None, None)))
        # Median and 99 % of one comparison are told as one.
        found[precision] = list(dict.fromkeys(gate.name.partition(",")[0] for gate in failed))
    return found


def measure(data: Path | None) -> dict[str, Any]:
    """Everything that is written to ``gates.json``.

    Args:
        data: Labelled faces for the honest forms; None takes the bundled pictures.

    Raises:
        InputError: The data cannot be used.
    """
    model = home.find_model(home.DEFAULT_MODEL)
    ranges = Ranges.read(model.onnx.with_suffix(".ranges.json"))
    ranges.check(model.spec.onnx_sha256)
    few = judged.bundled(model.spec.size, BROKEN_FACES)
    faces = judged.bundled(model.spec.size)
    if data is not None:
        faces = judged.from_dataset(open_dataset(data), model.spec)
    case = Case(model, read_model(model), faces, BATCH, _say)
    with tempfile.TemporaryDirectory(prefix="convcut-") as folder:
        scratch = Path(folder)
        workshop = Workshop(case, OnnxRuntime(), BuildOptions(BATCH), ranges, {}, True, scratch)
        room = honest(workshop)
        small = replace(case, judged=few)
        return {
            "schema": SCHEMA,
            "name": model.spec.name,
            "onnx_sha256": model.spec.onnx_sha256,
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "device": "cpu"},
            "versions": {
                "convcut_trt": convcut_trt.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "batch": BATCH,
            "honest": {"faces": faces.source, "precisions": room},
            "broken": {
                "faces": few.source,
                "graphs": broken_graphs(small, ranges, scratch),
                "exports": broken_exports(small, ranges, scratch),
            },
        }


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: a table for each precision, and two of what is broken."""
    sound, broken = report["honest"], report["broken"]
    lines = [
        f"# Room in the gates, {report['name']}",
        "",
        f"Honest forms, judged on {sound['faces']}: for each gate the one with the least room. Headroom is the "
        "budget over what was measured; for shares that have to be reached, what may be missing over what is.",
    ]
    for precision, found in sound["precisions"].items():
        lines += ["", f"## {precision}", ""]
        rows = [
            [
                name,
                f"{entry['measured']:.3g}",
                "-" if entry["budget"] is None else f"{entry['budget']:.3g}",
                "-" if entry["headroom"] is None else f"{entry['headroom']:.1f}",
                entry["verdict"],
                f"{entry['form']}, {entry['computed_by']}",
            ]
            for name, entry in found["gates"].items()
        ]
        lines += _table(
            ["gate", "honest, worst", "budget", "headroom", "verdict", "of which form"], rows
        )
    lines += ["", "## What is built differs from NAME.onnx", ""]
    lines += [
        f"Judged on {broken['faces']}, too few for agreement. `loss` fails where the typed graph is the broken "
        "one, `fidelity` where it is sound and the engine computes the broken one; the others in both cases.",
        "",
        *_table(["breakage", *PRECISIONS], _seen(broken["graphs"])),
        "",
        "## NAME.onnx or the preprocessing is wrong itself",
        "",
        "The engine does what it was built from, so loss and fidelity have nothing to see.",
        "",
        *_table(["breakage", *PRECISIONS], _seen(broken["exports"])),
    ]
    return "\n".join(lines) + "\n"


def _seen(found: Mapping[str, Mapping[str, Sequence[str]]]) -> list[list[str]]:
    return [
        [
            name,
            *(
                ", ".join(failed[kind]) or "**not seen**" if kind in failed else "-"
                for kind in PRECISIONS
            ),
        ]
        for name, failed in found.items()
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _say(phase: str, done: int, total: int) -> None:
    if (done, total) == (0, 1):
        print(phase, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes both files."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gate_table",
        description="Measure the headroom of every gate, and which gates see what is broken.",
        epilog="example: python -m bench.gate_table --data ferplus.npz",
    )
    parser.add_argument("--data", type=Path, metavar="FACES", help="labelled faces")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    options = parser.parse_args(arguments)
    report = measure(options.data)
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "gates.json", report)
    write_file(options.output / "gates.md", markdown(report).encode())
    print(options.output / "gates.md")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
