"""A failed gate: the likeliest cause, and the report that is left in the engine's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convcut_trt.candidate import Candidate
from convcut_trt.fields import write_json
from convcut_trt.gates import Gate
from convcut_trt.gates.cause import first_parting
from convcut_trt.gates.judge import Case
from convcut_trt.manifest import FAILED

SCHEMA = 1
_FACES = 8


def likeliest_cause(case: Case, candidate: Candidate) -> str:
    """One sentence for people, from the gates that failed and the first tensor at which features part."""
    names = {gate.name for gate in candidate.failed}
    if names <= {"stored", "computed"}:
        return _of_proof(candidate)
    case.step("likeliest cause", 0, 1)
    parting = first_parting(
        case.original,
        candidate.typed.by_rule(),
        case.judged.faces[candidate.worst[:_FACES]],
        candidate.limits["loss_median"],
    )
    case.step("likeliest cause", 1, 1)
    if parting is not None:
        return str(parting)
    if any(name.startswith("fidelity") for name in names):
        return (
            "the typed graph answers as it should and the engine does not: the builder, or this device, computes "
            "something else; another version of it may not"
        )
    if names == {"witnesses"}:
        return (
            f"{case.model.onnx.name} itself answers otherwise than the trained model: its export or the "
            "preprocessing went wrong, so export it again"
        )
    if "batch invariance" in names:
        return "an operation mixes the faces of a batch: attention over the batch, or a sum over it"
    if "largest activation" in names:
        return (
            "the network itself: FP32's activations come near the end of FP16, 65504; fp32 and bf16 reach further, "
            "and --budget largest_activation=VALUE lets them"
        )
    return "no tensor parts by more than the loss budget: small errors everywhere decide"


def _of_proof(candidate: Candidate) -> str:
    proof = candidate.proof
    if any(gate.name == "stored" for gate in candidate.failed):
        return f"the graph is not typed as asked: {proof.text}"
    hint = ""
    if proof.asked == "int8" and candidate.form.mlp == "conv":
        hint = "; a CPU multiplies integers in matrix products: --mlp linear"
    return f"the builder did not follow the graph's types: {proof.rest}{hint}"


def report_path(folder: Path, stem: str) -> Path:
    """Where the report of a failed engine lies."""
    return folder / f"{stem}{FAILED}"


def write_report(
    path: Path, case: Case, form: str, gates: Sequence[Gate], cause: str, about: Mapping[str, Any]
) -> None:
    """Writes the report, whole or not at all.

    Args:
        path: Of the file.
        case: Model and faces.
        form: What was asked for, as ``Form`` says it.
        gates: All of them.
        cause: Of ``likeliest_cause``.
        about: Versions, budgets and the like.
    """
    values = {
        "schema": SCHEMA,
        "name": case.model.spec.name,
        "form": form,
        "failed": [gate.name for gate in gates if gate.verdict == "fail"],
        "cause": cause,
        "judged_on": case.judged.source,
        "gates": [asdict(gate) for gate in gates],
        **about,
    }
    write_json(path, values)
