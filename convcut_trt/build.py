"""Typed ONNX -> engine -> gates -> published, or nothing."""

from __future__ import annotations

import hashlib
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt import __version__, backends, devices, gates, seam
from convcut_trt.backends.base import Backend, BuildOptions, BuiltEngine, computed_shares
from convcut_trt.backends.optional import load
from convcut_trt.backends.stored import in_words, stored_shares
from convcut_trt.errors import GateFailed, InputError, SpecError
from convcut_trt.fields import sha256
from convcut_trt.gates import Gate, Step
from convcut_trt.half import to_half
from convcut_trt.home import GATE_PICTURES, Model, make_engine_folder
from convcut_trt.manifest import STAND_IN, EngineManifest
from convcut_trt.preprocess import resize
from convcut_trt.publish import publish
from convcut_trt.spec import OUTPUTS

if TYPE_CHECKING:
    import onnx

PRECISIONS = tuple(gates.BUDGETS)
DEFAULT_BATCH = (1, 4, 16)
_CPU = "onnxruntime"


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        precision: One of ``PRECISIONS``.
        backend: A flavour, or ``auto``: the first that can run here.
        targets: Keys of ``devices.json``; empty builds for this machine.
        batch: Smallest, usual and largest batch; three equal numbers fix it.
        faces: Pictures for the gates, uint8 [N, H, W, 3]; None takes the bundled ones.
        budgets: Changes to the gates' budgets.
        output: Folder to publish into.
    """

    precision: str
    output: Path
    backend: str = "auto"
    targets: tuple[str, ...] = ()
    batch: tuple[int, int, int] = DEFAULT_BATCH
    faces: Sequence[NDArray[np.uint8]] | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)


def choose_backend(name: str, targets: tuple[str, ...]) -> Backend:
    """The backend of a request: ``auto`` is the first that can run here, or builds for the targets."""
    if name == "auto":
        return backends.get("tensorrt-rtx") if targets else backends.for_running()
    return backends.get(name)


def bundled_faces(size: int) -> NDArray[np.uint8]:
    """The 256 pictures of the zoo, resized: uint8 [256, size, size, 3]."""
    with np.load(GATE_PICTURES, allow_pickle=False) as file:
        return np.stack([resize(picture, size) for picture in file["pictures"]])


def read_onnx(path: Path) -> onnx.ModelProto:
    """Reads and checks a model's ONNX file.

    Raises:
        InputError: Not ONNX, cut off, or another network.
    """
    load("onnx", "ort")  # names the extra where it is missing
    import onnx

    decode_error = load("google.protobuf.message", "ort").DecodeError
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (decode_error, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it cannot be parsed"
        raise InputError(
            f"{path} is no ONNX file, or was cut off ({reason}): export or copy it again"
        ) from None
    seam.check_outline(model, str(path))
    return model


def typed(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The typed ONNX of a precision."""
    return model if precision == "fp32" else to_half(model, precision)


def build(model: Model, request: Request, step: Step) -> EngineManifest:
    """Builds an engine, holds it to the gates, and publishes it; the manifest is written last.

    Args:
        model: What to build.
        request: How.
        step: Called as ``step(phase, done, total)`` while it works.

    Returns:
        The manifest of the published engine.

    Raises:
        GateFailed: A gate failed; nothing was published. ``log`` holds the table of gates.
        InputError: Something asked for is not possible.
        BackendMissing: A library is not installed.
        BuildError: The builder refused or crashed; ``log`` holds what it said.
    """
    if request.precision not in PRECISIONS:
        raise InputError(
            f"precision {request.precision!r} is not known: choose from {', '.join(PRECISIONS)}"
        )
    limits = gates.budgets(request.precision, request.budgets)
    targets = tuple(devices.find(name) for name in request.targets)
    backend = choose_backend(request.backend, request.targets)
    if reason := backend.missing():
        backend.versions()  # raises BackendMissing with the line to install
        raise InputError(reason)
    options = BuildOptions(batch=request.batch, targets=targets)
    faces = _gate_faces(request, model.spec.size)
    make_engine_folder(request.output)
    step("typed graph", 0, 1)
    original = read_onnx(model.onnx)
    _check_spec(model, original)
    with tempfile.TemporaryDirectory(prefix="convcut-") as scratch:
        typed_path = Path(scratch) / "typed.onnx"
        content = typed(original, request.precision).SerializeToString()
        typed_path.write_bytes(content)
        del content
        step("typed graph", 1, 1)
        engine = backend.build(typed_path, options, step)
        # The tail is FP32 in every precision, so only the trunk's weights count.
        stored = stored_shares(typed_path, seam.TAIL_PREFIX)
        computed = computed_shares(engine.layers)
        on_cpu = engine.flavour == _CPU
        results = [
            *_judge(model, original, typed_path, faces, request, limits, step),
            *gates.check_precision(request.precision, stored, computed, on_cpu, limits),
        ]
        if not on_cpu:
            reason = "the engine itself has not run: no such device here"
            results.append(Gate("fidelity", None, None, "not run", reason))
        failed = [gate for gate in results if gate.verdict == "fail"]
        if failed:
            names = ", ".join(gate.name for gate in failed)
            raise GateFailed(
                f"{model.spec.name} in {request.precision} failed at {names}: nothing was published",
                log=gates.table(results),
                gates=results,
            )
        precision = {
            "asked": request.precision,
            "stored": stored,
            "computed": computed,
            "text": in_words(stored, computed),
        }
        manifest = _manifest(model, typed_path, engine, request, precision, limits, results)
        publish(model, manifest, typed_path, engine.engine)
        return manifest


def _gate_faces(request: Request, size: int) -> NDArray[np.uint8]:
    if request.faces is None:
        return bundled_faces(size)
    if not len(request.faces):
        raise InputError(
            "there are no pictures to hold the engine to: give some, or leave --data out"
        )
    return np.stack([resize(picture, size) for picture in request.faces])


def _check_spec(model: Model, original: onnx.ModelProto) -> None:
    spec = model.spec
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
        for value in (*original.graph.input, *original.graph.output)
    }
    classes = len(spec.classes)
    wanted = {
        "images": [spec.size, spec.size, 3],
        "logits": [classes],
        "probabilities": [classes],
        "map": list(spec.map_shape),
    }
    if shapes != wanted:
        raise SpecError(
            f"{model.onnx.name} computes {shapes}, its spec says {wanted}: export the model again"
        )


def _judge(
    model: Model,
    original: onnx.ModelProto,
    typed_path: Path,
    faces: NDArray[np.uint8],
    request: Request,
    limits: Mapping[str, float],
    step: Step,
) -> list[Gate]:
    """Runs the gates on the typed ONNX: it is the engine of onnxruntime, and the stand-in of the others."""
    wanted = gates.reference(original, faces, step)
    with backends.get(_CPU).open(typed_path) as session:
        values = gates.answers(
            session, faces, request.batch, "typed graph on the gate pictures", step
        )
        return [
            gates.check_witnesses(
                session, model.spec, model.folder, request.batch, limits["witnesses"], step
            ),
            *gates.check_loss(values, wanted, limits),
            gates.check_flips(values, wanted, limits["flip_margin"]),
            gates.check_invariance(session, faces, request.batch, limits["invariance"], step),
            *gates.check_finite(values, wanted, limits["largest_activation"]),
        ]


def _manifest(
    model: Model,
    typed_path: Path,
    engine: BuiltEngine,
    request: Request,
    precision: Mapping[str, Any],
    limits: Mapping[str, float],
    results: Sequence[Gate],
) -> EngineManifest:
    spec = model.spec
    on_cpu = engine.flavour == _CPU
    capabilities = [f"{major}.{minor}" for major, minor in engine.compute_capabilities]
    sms = "".join(f".sm{capability.replace('.', '')}" for capability in capabilities)
    stem = f"{spec.name}.{request.precision}.{engine.flavour}{sms}"
    libraries = ("onnx", "onnxruntime", "numpy")
    return EngineManifest(
        name=spec.name,
        precision=precision,
        flavour=engine.flavour,
        versions={
            "builder": engine.version,
            "convcut_trt": __version__,
            "python": platform.python_version(),
            **{name: str(load(name, "ort").__version__) for name in libraries},
        },
        target=",".join(request.targets),
        compute_capability=",".join(capabilities),
        files={
            "engine": f"{stem}.onnx" if on_cpu else f"{stem}.engine",
            "typed_onnx": f"{stem}.onnx",
        },
        sha256={
            "engine": hashlib.sha256(engine.engine).hexdigest(),
            "typed_onnx": sha256(typed_path),
            "onnx": spec.onnx_sha256,
            "ranges": None,
        },
        outputs=OUTPUTS,
        batch=request.batch,
        placement="",
        mlp="conv",
        tail="native",
        operations=engine.operations,
        budgets=dict(limits),
        gates=tuple(asdict(gate) for gate in results),
        verified_on=f"onnxruntime-cpu ({platform.machine()})" if on_cpu else STAND_IN,
        build={
            "seconds": round(engine.seconds, 2),
            "peak_memory": engine.peak_memory,
            "system": sys.platform,
        },
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        spec=spec,
        path=request.output / f"{stem}.json",
    )
