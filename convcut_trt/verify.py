"""The gates once more, on this device: what makes an engine that was built elsewhere a verified one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from convcut_trt import backends, gates
from convcut_trt.build import here
from convcut_trt.engine import open_session
from convcut_trt.errors import EngineMismatch, GateFailed, InputError
from convcut_trt.fields import sha256
from convcut_trt.gates import Step, judged
from convcut_trt.gates.judge import Case, judge
from convcut_trt.gates.judged import Judged
from convcut_trt.gates.proof import check_proof, check_tail, prove
from convcut_trt.home import Model, find_model
from convcut_trt.manifest import EngineManifest, find_manifest, now
from convcut_trt.network import read_model
from convcut_trt.precision import int8
from convcut_trt.precision.linear import linear
from convcut_trt.precision.typed import Form, Typed
from convcut_trt.publish import writing

if TYPE_CHECKING:
    import onnx


def find_original(manifest: EngineManifest, given: str | Path | None) -> Model:
    """The model an engine was built from: the one given, else the bundled one of its name.

    Raises:
        InputError: It is not there, or is another one.
    """
    fix = f"give the {manifest.name}.onnx it was built from with --model"
    try:
        model = find_model(given or manifest.name)
    except InputError as error:
        if given is not None:
            raise
        raise InputError(f"{manifest.path.name} is compared with its FP32 model: {fix}") from error
    if model.spec.onnx_sha256 != manifest.sha256["onnx"]:
        raise InputError(f"{manifest.path.name} was not built from {model.onnx}: {fix}")
    return model


def verify(
    manifest: EngineManifest, model: Model, faces: Judged | None, step: Step, *, trust: bool = False
) -> EngineManifest:
    """Holds an engine to the gates on this device, and writes the outcome into its manifest.

    An engine that fails keeps its files; its manifest says so, and ``load`` refuses it.

    Args:
        manifest: Of the engine.
        model: Of ``find_original``.
        faces: For the gates; None takes the bundled ones.
        step: Called as ``step(phase, done, total)``.
        trust: Run the engine though its file is not the one that was published, for example because it was built
            anew from the typed ONNX with trtexec; if it passes, the manifest is of the new file from then on.

    Returns:
        The manifest as it is now.

    Raises:
        EngineMismatch: It cannot run here.
        ManifestError: A file is missing or was changed.
        GateFailed: A gate failed; ``log`` holds the table.
        InputError: The manifest cannot be written, or the engine was built anew meanwhile.
    """
    manifest.check_files(engine=not trust)
    before, engine = manifest.path.read_bytes(), sha256(manifest.engine)
    backend = backends.get(manifest.flavour)
    if reason := backend.can_run():
        raise EngineMismatch(
            f"{manifest.path.name} cannot run here, so nothing of it can be verified here: {reason}"
        )
    case = Case(
        model, read_model(model), faces or judged.bundled(model.spec.size), manifest.batch, step
    )
    typed = _typed(manifest, case.original)
    limits = {key: float(value) for key, value in manifest.budgets.items()}
    proof = prove(
        typed, manifest.typed_onnx, backend.describe(manifest.engine, manifest.typed_onnx) or ()
    )
    with open_session(manifest) as session:
        results = judge(case, typed, session, limits, "").gates
    results = [*results, check_tail(typed)]
    results += check_proof(proof, backend.on_cpu, limits)
    precision = {
        **manifest.precision,
        "stored": dict(proof.stored),
        "computed": dict(proof.computed),
        "text": proof.text,
    }
    after = replace(
        manifest,
        precision=precision,
        sha256={**manifest.sha256, "engine": engine},
        gates=tuple(asdict(gate) for gate in results),
        judged_on=case.judged.source,
        verified_on=here(backend),
        date=now(),
    )
    failed = gates.failed(results)
    outcome = "it opens no more, build it again"
    # A file that was never published and failed leaves the manifest to the one that was.
    if not (failed and trust and after.sha256 != manifest.sha256):
        try:
            _write(after, before)
        except InputError as error:
            if not failed:
                raise
            outcome = f"and its manifest does not say so: {error}"
    if failed:
        names = ", ".join(gate.name for gate in failed)
        raise GateFailed(
            f"{manifest.path.name} failed at {names} on {after.verified_on}: {outcome}",
            log=gates.table(results),
            gates=results,
        )
    return after


def _write(manifest: EngineManifest, before: bytes) -> None:
    """Writes a manifest, unless another one came into its place since ``before`` was read there."""
    folder = manifest.path.parent
    try:
        with writing(folder):
            if manifest.path.read_bytes() != before:
                raise InputError(
                    f"{manifest.path.name} was built anew while the former engine was verified: verify it again"
                )
            manifest.write(manifest.path)
    except OSError as error:
        raise InputError(
            f"{manifest.path} cannot be read any more ({error.strerror}), so what was found is not kept: build the "
            "engine again"
        ) from None


def read(path: Path) -> EngineManifest:
    """The manifest of an engine given by any of its files."""
    return EngineManifest.read(find_manifest(path))


def _typed(manifest: EngineManifest, original: onnx.ModelProto) -> Typed:
    import onnx

    rest = ""
    chosen: tuple[int8.Place, ...] = ()
    if manifest.placement:
        rest = "fp32" if backends.get(manifest.flavour).on_cpu else "fp16"
        source = linear(original) if manifest.mlp == "linear" else original
        chosen = int8.places(source, manifest.placement)
    form = Form(manifest.precision["asked"], manifest.mlp, manifest.placement, rest)
    return Typed(form, onnx.load(manifest.typed_onnx), chosen)
