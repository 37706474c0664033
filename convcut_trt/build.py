"""Typed ONNX -> engine -> gates -> published, or nothing."""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convcut_trt import __version__, auto, backends, devices, failure, gates, judged
from convcut_trt.backends.base import Backend, BuildOptions
from convcut_trt.backends.optional import load
from convcut_trt.backends.probe import gpu
from convcut_trt.candidate import Candidate, Workshop, known_budgets, make
from convcut_trt.errors import BuildError, ConvcutError, GateFailed, InputError
from convcut_trt.fields import sha256
from convcut_trt.gates import Step
from convcut_trt.home import Model, make_engine_folder
from convcut_trt.judge import Case
from convcut_trt.judged import Judged
from convcut_trt.manifest import STAND_IN, EngineManifest, now
from convcut_trt.network import read_model
from convcut_trt.publish import publish
from convcut_trt.ranges import Ranges
from convcut_trt.spec import OUTPUTS
from convcut_trt.typed import NO_RANGES, PRECISIONS, form_of

AUTO = "auto"
DEFAULT_BATCH = (1, 4, 16)


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        precision: One of ``typed.PRECISIONS``, or ``auto``: the fastest that passes.
        output: Folder to publish into.
        backend: A flavour, or ``auto``: the first that can run here.
        targets: Keys of ``devices.json``; empty builds for this machine.
        batch: Smallest, usual and largest batch; three equal numbers fix it.
        judged: Faces for the gates; None takes the bundled ones.
        budgets: Changes to the gates' budgets.
        placement: What INT8 quantises; None for the default.
        mlp: ``conv`` or ``linear``; None for what the backend is best served with.
        ranges: ``NAME.ranges.json``; None takes the one beside the model.
    """

    precision: str
    output: Path
    backend: str = "auto"
    targets: tuple[str, ...] = ()
    batch: tuple[int, int, int] = DEFAULT_BATCH
    judged: Judged | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    placement: str | None = None
    mlp: str | None = None
    ranges: Path | None = None


def choose_backend(name: str, targets: tuple[str, ...]) -> Backend:
    """The backend of a request: ``auto`` is the first that can run here, or builds for the targets."""
    if name == "auto":
        return backends.get("tensorrt-rtx") if targets else backends.for_running()
    return backends.get(name)


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
    backend = _checked(request)
    options = BuildOptions(
        batch=request.batch, targets=tuple(devices.find(name) for name in request.targets)
    )
    ranges_path, ranges = _ranges(model, request), None
    if ranges_path is not None:
        ranges = Ranges.read(ranges_path)
        ranges.check(model.spec.onnx_sha256)
    faces = request.judged or judged.bundled(model.spec.size)
    make_engine_folder(request.output)
    case = Case(model, read_model(model), faces, request.batch, step)
    runs_here = backend.can_run() is None and not request.targets
    with tempfile.TemporaryDirectory(prefix="convcut-") as scratch:
        workshop = Workshop(
            case, backend, options, ranges, request.budgets, runs_here, Path(scratch)
        )
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
        used = ranges_path if candidate.form.precision == "int8" else None
        manifest = _manifest(workshop, candidate, request, verdicts, used)
        publish(model, manifest, candidate.typed_path, candidate.engine.engine)
        failure.report_path(request.output, manifest.path.stem).unlink(missing_ok=True)
        return manifest


def _checked(request: Request) -> Backend:
    """The backend of a request that makes sense.

    Raises:
        InputError: Precision, placement, budgets or backend do not fit each other.
        BackendMissing: It is not installed.
    """
    backend = choose_backend(request.backend, request.targets)
    if request.precision == AUTO:
        if request.placement is not None:
            raise InputError("--precision auto tries every placement: leave --placement out")
        known = {key for limits in gates.BUDGETS.values() for key in limits}
        if strangers := sorted(set(request.budgets) - known):
            raise InputError(
                f"--budget {strangers[0]} is not known: choose from {', '.join(sorted(known))}"
            )
        for precision in PRECISIONS:
            gates.budgets(precision, known_budgets(precision, request.budgets))
    else:
        form_of(request.precision, backend.on_cpu, request.placement, request.mlp)
        gates.budgets(request.precision, request.budgets)
        if reason := backend.refuses(request.precision):
            raise InputError(reason)
    if reason := backend.missing():
        backend.versions()  # raises BackendMissing with the line to install
        raise InputError(reason)
    return backend


def _ranges(model: Model, request: Request) -> Path | None:
    """The file of ranges of a request: the one given, else the one beside the model."""
    if request.precision not in ("int8", AUTO):
        if request.ranges is not None:
            raise InputError(f"--ranges is for int8, not for {request.precision}: leave it out")
        return None
    path = request.ranges or model.onnx.with_suffix(".ranges.json")
    if request.ranges is not None or path.is_file():
        return path
    if request.precision == "int8":
        raise InputError(NO_RANGES)
    return None


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
    failure.write_report(path, case, str(first.form), first.gates, cause, about)
    log = [gates.table(first.gates), f"likeliest cause: {cause}"]
    if verdicts:
        log.append("\n".join(verdicts))
    return GateFailed(
        f"{name} in {first.form} failed at {names}: nothing was published, see {path}",
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
        outputs=OUTPUTS,
        batch=request.batch,
        placement=form.placement,
        mlp=form.mlp,
        tail="native",
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
