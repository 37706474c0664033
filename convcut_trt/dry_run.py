"""``build --dry-run``: what a build would do here, found out without building."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convcut_trt import auto, tails
from convcut_trt.backends.base import Backend, BuildOptions
from convcut_trt.errors import InputError
from convcut_trt.gates import judged
from convcut_trt.home import Model
from convcut_trt.network import read_model
from convcut_trt.precision.typed import Form, form_of, to_typed
from convcut_trt.ranges import Ranges
from convcut_trt.request import AUTO, Request, check, find_ranges
from convcut_trt.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx


def dry_run(model: Model, request: Request) -> dict[str, Any]:
    """Checks a request as a build would, types the graph, and says what would be built, of what, and for whom.

    Returns:
        Facts to print, in order.

    Raises:
        InputError, BackendMissing: As ``build``.
    """
    backend = check(request)
    options = request.options()
    found = find_ranges(model, request)
    original = read_model(model)
    runs_here = backend.can_run() is None and not request.targets
    if request.tail == "kernel":
        tails.check_kernel(backend, original, runs_here=runs_here)
    left_out: dict[str, str] = {}
    if request.precision == AUTO:
        forms, left_out = auto.forms(backend, request.mlp, has_ranges=found is not None)
    else:
        forms = [form_of(request.precision, backend.on_cpu, request.placement, request.mlp)]
    engines = {}
    for form in forms:
        try:
            engines[str(form)] = _size(original, form, found, backend, options)
        except InputError as error:
            if request.precision != AUTO or not form.placement:
                raise
            left_out[str(form)] = str(error)
    faces = request.judged or judged.bundled(model.spec.size)
    versions = ", ".join(f"{name} {version}" for name, version in backend.versions().items())
    return {
        "model": str(model.onnx),
        "backend": f"{backend.flavour} ({versions})",
        "for": ", ".join(device.name for device in options.targets) or "this machine",
        "engines": engines,
        "left_out": left_out,
        "batch": "{}:{}:{}".format(*options.batch),
        "tail": request.tail,
        "ranges": None if found is None else str(found[0]),
        "gates": f"{len(faces.faces)} faces ({faces.source}), "
        + ("on the engine itself" if runs_here else "on a stand-in: the engine cannot run here"),
        "output": str(request.output),
    }


def _size(
    original: onnx.ModelProto,
    form: Form,
    found: tuple[Path, Ranges] | None,
    backend: Backend,
    options: BuildOptions,
) -> str:
    """What the typed graph of a form comes to, once the backend has agreed to build it."""
    typed = to_typed(original, form, None if found is None else found[1]).model
    with scratch_folder() as folder:
        path = folder / "typed.onnx"
        path.write_bytes(typed.SerializeToString())
        backend.check_build(path, options)
        return f"{path.stat().st_size / 1e6:.1f} MB typed ONNX"
