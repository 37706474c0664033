"""Which engine fits this machine, and why another does not."""

from __future__ import annotations

from pathlib import Path

from convcut_trt import backends
from convcut_trt.backends import probe
from convcut_trt.backends.trt_flavours import FLAVOURS
from convcut_trt.errors import ConvcutError, EngineMismatch, InputError
from convcut_trt.fields import reading
from convcut_trt.home import DEFAULT_MODEL, engine_folder
from convcut_trt.manifest import EngineManifest, find_manifest, manifests


def misfit(manifest: EngineManifest, precision: str | None = None, backend: str = "auto") -> str:
    """Why an engine cannot be opened here, to be read behind its name; empty where it can.

    Args:
        manifest: Of the engine.
        precision: What was asked for; None is any.
        backend: What was asked for; ``auto`` is any.
    """
    if manifest.failed:
        return (
            f"failed at {', '.join(manifest.failed)} when it was verified on {manifest.verified_on}"
        )
    if precision is not None and manifest.precision["asked"] != precision:
        return f"is {manifest.precision['asked']}, {precision} was asked for"
    if backend not in ("auto", manifest.flavour):
        return f"is for {manifest.flavour}, {backend} was asked for"
    runner = backends.get(manifest.flavour)
    if reason := runner.can_run() or runner.refuses(manifest.precision["asked"]):
        device = manifest.target or manifest.compute_capability
        where = (
            f"was built for {device} (compute capability {manifest.compute_capability})"
            if device
            else "is sound"
        )
        return f"{where} and cannot run here: {reason}"
    return _other_machine(manifest)


@reading(InputError)
def find(engine: str | Path, precision: str | None = None, backend: str = "auto") -> EngineManifest:
    """The engine that a user names, if it fits.

    Args:
        engine: One of its files, a folder of engines, or the name of a model whose engines lie in
            ``home.engine_folder``.
        precision: See ``misfit``.
        backend: See ``misfit``.

    Raises:
        EngineMismatch: There is none that fits; the text names the build command.
        ManifestError: The file is no engine.
        InputError: The system does not let it be looked up.
    """
    path = Path(engine)
    if path.is_file() or path.suffix in (".json", ".engine", ".onnx"):
        manifest = EngineManifest.read(find_manifest(path))
        if reason := misfit(manifest, precision, backend):
            raise EngineMismatch(
                f"{manifest.path.name} {reason}; run: {build_command(manifest.name, manifest)}"
            )
        return manifest
    if path.is_dir():
        return newest(path, "*", precision, backend)
    if path.name != str(engine):
        raise EngineMismatch(
            f"{engine} does not exist: give a folder of engines, or a model's name"
        )
    return newest(engine_folder(), path.name, precision, backend)


def newest(folder: Path, model: str, precision: str | None, backend: str) -> EngineManifest:
    """The newest engine in a folder that fits.

    Args:
        folder: Of engines.
        model: Name of the model; ``*`` is any.
        precision: See ``misfit``.
        backend: See ``misfit``.

    Raises:
        EngineMismatch: None fits; the text says why of each, and names the build command.
    """
    fitting, reasons = [], []
    for path in manifests(folder, model):
        try:
            manifest = EngineManifest.read(path)
            if model not in ("*", manifest.name):
                continue  # as mine.v2 where mine is looked for
            reason = misfit(manifest, precision, backend)
        except ConvcutError as error:
            reasons.append(str(error))
            continue
        if reason:
            reasons.append(f"{path.name} {reason}")
        else:
            fitting.append(manifest)
    if fitting:
        return max(fitting, key=lambda manifest: manifest.date)
    shown = DEFAULT_MODEL if model == "*" else model
    text = (
        f"no engine of {model} in {folder} fits this machine"
        if model != "*"
        else f"no engine in {folder} fits"
    )
    found = "".join(f"\n  {reason}" for reason in reasons)
    raise EngineMismatch(f"{text}; build one: {build_command(shown)}{found}")


def build_command(name: str, manifest: EngineManifest | None = None) -> str:
    """What builds an engine that fits: of the same kind, where this machine can run that."""
    backend, precision = "onnxruntime", "fp16"
    if manifest is not None and backends.get(manifest.flavour).can_run() is None:
        backend, precision = manifest.flavour, manifest.precision["asked"]
    return f"convcut-trt build {name} --precision {precision} --backend {backend}"


def _other_machine(manifest: EngineManifest) -> str:
    """What differs between where a TensorRT engine was built and here; engines are for one version and GPU."""
    flavour = FLAVOURS.get(manifest.flavour)
    gpu = probe.gpu()
    if flavour is None or isinstance(gpu, str):
        return ""
    major, minor = gpu.compute_capability
    built_with, here_is = str(manifest.versions["builder"]), str(flavour.load().__version__)
    built_for = manifest.compute_capability.split(",")
    if f"{major}.{minor}" in built_for and built_with == here_is:
        return ""
    made_for = ", ".join(f"sm_{capability.replace('.', '')}" for capability in built_for)
    return (
        f"was built for {made_for} with {flavour.title} {built_with}; here: sm_{major}{minor}, "
        f"{flavour.title} {here_is}"
    )
