"""Typed ONNX -> engine -> gates -> published, or nothing."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from convcut_trt import __version__, auto, gates, tails
from convcut_trt.backends.base import Backend
from convcut_trt.backends.probe import gpu
from convcut_trt.candidate import Candidate, Workshop, make
from convcut_trt.errors import BuildError, ConvcutError, GateFailed, InputError
from convcut_trt.fields import sha256
from convcut_trt.gates import Step, failure, judged
from convcut_trt.gates.judge import Case
from convcut_trt.home import Model, make_engine_folder
from convcut_trt.manifest import STAND_IN, EngineManifest, now
from convcut_trt.network import read_model
from convcut_trt.optional import load
from convcut_trt.precision.typed import form_of
from convcut_trt.publish import publish
from convcut_trt.request import AUTO, Request, check, find_ranges
from convcut_trt.scratch import scratch_folder
from convcut_trt.spec import OUTPUTS


def build(model: Model, request: Request, step: Step) -> EngineManifest:
    """Builds an engine, holds it to the gates, and publishes it; the manifest is written last.

    Args:
        model: What to build.
        request: How.
        step: Called as ``step(phase, done, total)`` while it works.

    Returns:
        The manifest of the published engine.

    Raises:
        GateFailed: A gate failed; nothing was published but a report. ``log`` holds the table of gates.
        InputError: Something asked for is not possible.
        BackendMissing: A library is not installed.
        BuildError: The builder refused or crashed; ``log`` holds what it said.
    """
    backend = check(request)
    options = request.options()
    ranges_path, ranges = find_ranges(model, request) or (None, None)
    faces = request.judged or judged.bundled(model.spec.size)
    make_engine_folder(request.output)
    case = Case(model, read_model(model), faces, request.batch, step)
    runs_here = backend.can_run() is None and not request.targets
    with scratch_folder() as scratch:
        workshop = Workshop(case, backend, options, ranges, request.budgets, runs_here, scratch)
        if request.tail == "kernel":
            tails.check_kernel(backend, case.original, runs_here=runs_here)
            workshop = replace(workshop, tail="kernel")
        if request.precision == AUTO:
            choice = auto.choose(workshop, request.mlp)
            if choice.kept is None:
                raise _failure(case, choice.failed, request, choice.verdicts)
            candidate, verdicts = choice.kept, choice.verdicts
        else:
            form = form_of(request.precision, backend.on_cpu, request.placement, request.mlp)
            candidate = make(workshop, form)
            if candidate.failed:
                raise _failure(case, (candidate,), request, ())
            verdicts = auto.compare(workshop, candidate) if form.precision == "int8" else ()
        if request.tail == "auto":
            candidate, line = tails.faster_tail(workshop, candidate)
            verdicts = (*verdicts, line)
        used = ranges_path if candidate.form.precision == "int8" else None
        manifest = _manifest(workshop, candidate, request, verdicts, used)
        publish(model, manifest, candidate.typed_path, candidate.engine.engine)
        with suppress(OSError):  # it is of an earlier try, and the engine is there
            failure.report_path(request.output, manifest.path.stem).unlink(missing_ok=True)
        return manifest


def _failure(
    case: Case, candidates: Sequence[Candidate], request: Request, verdicts: Sequence[str]
) -> ConvcutError:
    """Writes the report of the first candidate, the most precise, and gives the error to raise."""
    name = case.model.spec.name
    if not candidates:
        return BuildError(f"no engine of {name} could be built", log="\n".join(verdicts))
    first = candidates[0]
    names = ", ".join(gate.name for gate in first.failed)
    cause = failure.likeliest_cause(case, first)
    path = failure.report_path(request.output, _stem(case, first))
    about = {
        "verdicts": list(verdicts),
        "budgets": dict(first.limits),
        "versions": _versions(first),
        "date": now(),
    }
    try:
        failure.write_report(path, case, str(first.form), first.gates, cause, about)
        told = f"see {path}"
    except InputError as error:
        told = f"and the report neither: {error}"
    log = [gates.table(first.gates), f"likeliest cause: {cause}"]
    if verdicts:
        log.append("\n".join(verdicts))
    return GateFailed(
        f"{name} in {first.form} failed at {names}: nothing was published, {told}",
        log="\n\n".join(log),
        gates=first.gates,
    )


def _stem(case: Case, candidate: Candidate) -> str:
    engine = candidate.engine
    sms = "".join(f".sm{major}{minor}" for major, minor in engine.compute_capabilities)
    return f"{case.model.spec.name}.{candidate.form.precision}.{engine.flavour}{sms}"


def _versions(candidate: Candidate) -> dict[str, str]:
    libraries = ("onnx", "onnxruntime", "numpy")
    return {
        "builder": candidate.engine.version,
        "convcut_trt": __version__,
        "python": platform.python_version(),
        **{name: str(load(name, "ort").__version__) for name in libraries},
    }


def _manifest(
    workshop: Workshop,
    candidate: Candidate,
    request: Request,
    verdicts: Sequence[str],
    ranges: Path | None,
) -> EngineManifest:
    case, engine, proof, form = workshop.case, candidate.engine, candidate.proof, candidate.form
    spec = case.model.spec
    on_cpu = workshop.backend.on_cpu
    stem = _stem(case, candidate)
    precision: dict[str, Any] = {
        "requested": request.precision,
        "asked": form.precision,
        "stored": dict(proof.stored),
        "computed": dict(proof.computed),
        "text": proof.text,
    }
    return EngineManifest(
        name=spec.name,
        precision=precision,
        flavour=engine.flavour,
        versions=_versions(candidate),
        target=",".join(request.targets),
        compute_capability=",".join(f"{a}.{b}" for a, b in engine.compute_capabilities),
        files={
            "engine": f"{stem}.onnx" if on_cpu else f"{stem}.engine",
            "typed_onnx": f"{stem}.onnx",
        },
        sha256={
            "engine": hashlib.sha256(engine.engine).hexdigest(),
            "typed_onnx": sha256(candidate.typed_path),
            "onnx": spec.onnx_sha256,
            "ranges": None if ranges is None else sha256(ranges),
        },
        outputs=OUTPUTS if candidate.tail == "native" else OUTPUTS[-1:],
        batch=request.batch,
        placement=form.placement,
        mlp=form.mlp,
        tail=candidate.tail,
        operations=engine.operations,
        budgets=dict(candidate.limits),
        gates=tuple(asdict(gate) for gate in candidate.gates),
        verdicts=tuple(verdicts),
        judged_on=case.judged.source,
        verified_on=here(workshop.backend) if workshop.runs_here else STAND_IN,
        build={
            "seconds": round(engine.seconds, 2),
            "peak_memory": engine.peak_memory,
            "system": sys.platform,
        },
        date=now(),
        spec=spec,
        path=request.output / f"{stem}.json",
    )


def here(backend: Backend) -> str:
    """What ``verified_on`` says of gates that ran on this machine."""
    if backend.on_cpu:
        return f"{backend.flavour}-cpu ({platform.machine()})"
    found = gpu()
    return found if isinstance(found, str) else found.name
