"""A model repository for NVIDIA's Triton inference server, from a published engine (docs/triton.md).

    FOLDER/NAME/config.pbtxt    what goes in and out, batching, where it runs
    FOLDER/NAME/labels.txt      the classes, one a line
    FOLDER/NAME/1/model.plan    the engine; for onnxruntime model.onnx, the typed ONNX

Rules of Triton that this follows, from its sources (core, tensorrt_backend, onnxruntime_backend) and
github.com/triton-inference-server/server/issues/4973: ``max_batch_size`` above 0 promises every batch from 1 to
it, and leaves the batch out of ``dims``; with 0 the batch is a dimension like any other. Every folder below
FOLDER is taken for a model, and one that does not load may stop the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.manifest import EngineManifest
from convcut_trt.publish import staging
from convcut_trt.spec import INPUT, NAME, ModelSpec

# File of the model, the lines that name the backend, and where it runs: where its gates ran.
_FLAVOURS = {
    "tensorrt": ("model.plan", 'platform: "tensorrt_plan"', "KIND_GPU"),
    "onnxruntime": ("model.onnx", 'backend: "onnxruntime"', "KIND_CPU"),
}
_LABELS = "labels.txt"
_CONFIG = "config.pbtxt"


def check(flavour: str, tail: str) -> None:
    """Refuses engines that Triton cannot serve; to be asked before a build, too.

    Args:
        flavour: Of the backend that builds the engine.
        tail: One of ``tails.TAILS``.

    Raises:
        InputError: Why, and what to build instead.
    """
    if flavour not in _FLAVOURS:
        raise InputError(
            f"Triton has no backend for engines of {flavour}: build with --backend tensorrt on the server's GPU, "
            "or with --backend onnxruntime"
        )
    if tail != "native":
        raise InputError(
            f"with --tail {tail} the engine may end at the map, and Triton does not know the kernel that goes on: "
            "build with --tail native, or put the kernel into the engine (docs/plugin.md)"
        )


def write_repository(manifest: EngineManifest, folder: Path) -> Path:
    """Writes a model repository, or a new version into one, whole or not at all.

    A model of this name that is there already keeps its versions and gets the next one; by the version policy
    the server serves the newest. The staging folder lies beside ``folder``, where Triton does not look.

    Args:
        manifest: Of a published engine.
        folder: The repository, created where it is missing.

    Returns:
        FOLDER/NAME/VERSION.

    Raises:
        InputError: Triton cannot serve this engine, another kind of model of this name is there, or the
            folder cannot be written to, or others write beside it all the time.
        ManifestError: The engine's files are not those of the manifest.
    """
    check(manifest.flavour, manifest.tail)
    _check_names(manifest)
    if manifest.failed:
        raise InputError(
            f"{manifest.path.name} failed at {', '.join(manifest.failed)} when it was verified: build it again"
        )
    model = folder / manifest.name
    files = {_CONFIG: config(manifest), _LABELS: "".join(f"{c}\n" for c in manifest.spec.classes)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staging(folder.resolve().parent) as unfinished:
            manifest.check_files()  # here, where a build beside the repository cannot replace them
            folder.mkdir(exist_ok=True)
            version = _next_version(model, files)
            stage = unfinished / manifest.name
            (stage / version).mkdir(parents=True)
            engine = stage / version / _FLAVOURS[manifest.flavour][0]
            write_file(engine, manifest.engine.read_bytes())
            if model.exists():
                (stage / version).rename(model / version)
            else:
                for name, text in files.items():
                    write_file(stage / name, text.encode())
                stage.rename(model)
    except OSError as error:
        raise InputError(
            f"{folder} could not be written ({error.strerror}): free some space, or choose another folder, not "
            "the root of a mounted disk"
        ) from None
    return model / version


def config(manifest: EngineManifest) -> str:
    """The model's ``config.pbtxt``: inference.ModelConfig of Triton's model_config.proto, as protobuf text."""
    spec, (low, usual, high) = manifest.spec, manifest.batch
    _, backend, kind = _FLAVOURS[manifest.flavour]
    batched = low == 1 < high
    leading = [] if batched else [low if low == high else -1]
    image = _tensor(INPUT, "TYPE_UINT8", [*leading, spec.size, spec.size, 3])
    outputs = ",\n".join(
        _tensor(name, "TYPE_FP32", [*leading, *shape], _LABELS if name == "probabilities" else None)
        for name, shape in _shapes(spec, manifest.outputs).items()
    )
    lines = [
        f'name: "{manifest.name}"',
        backend,
        f"max_batch_size: {high if batched else 0}",
        f"input [\n{image}\n]",
        f"output [\n{outputs}\n]",
        f"instance_group [ {{ kind: {kind} count: 1 }} ]",
        "version_policy { latest { num_versions: 1 } }",
    ]
    if batched:
        preferred = ", ".join(str(size) for size in sorted({usual, high} - {1}))
        lines.append(f"dynamic_batching {{ preferred_batch_size: [ {preferred} ] }}")
    return "\n".join(lines) + "\n"


def _shapes(spec: ModelSpec, outputs: tuple[str, ...]) -> Mapping[str, tuple[int, ...]]:
    """Shape of each output of an engine, without the batch."""
    answer = (len(spec.classes),)
    known = {"logits": answer, "probabilities": answer, "map": spec.map_shape}
    return {name: known[name] for name in outputs}


def _tensor(name: str, kind: str, dims: list[int], labels: str | None = None) -> str:
    shape = ", ".join(map(str, dims))
    label = "" if labels is None else f' label_filename: "{labels}"'
    return f'  {{ name: "{name}" data_type: {kind} dims: [ {shape} ]{label} }}'


def _check_names(manifest: EngineManifest) -> None:
    """Raises InputError for names that a folder, a URL or a file of labels cannot hold."""
    if not (NAME.fullmatch(manifest.name) and manifest.name.isascii()):
        raise InputError(
            f"{manifest.name!r} cannot name a model of Triton's, it becomes a folder and part of a URL: "
            "export the model under a name of ASCII letters, digits, dots and dashes"
        )
    for name in manifest.spec.classes:
        if "\n" in name:
            raise InputError(
                f"the class {name!r} does not fit on a line of {_LABELS}: export the model with another name for it"
            )


def _next_version(model: Path, files: Mapping[str, str]) -> str:
    """The number behind the last one; 1 where there is no such model.

    Raises:
        InputError: What is there is not the same model as far as a client sees it.
        OSError: It cannot be read.
    """
    if not model.exists():
        return "1"
    for name, text in files.items():
        path = model / name
        if not path.is_file() or path.read_bytes() != text.encode():
            raise InputError(
                f"{model} is there with another {name} than this engine's: choose another folder, or remove it"
            )
    versions = (int(path.name) for path in model.iterdir() if path.name.isdecimal())
    return str(1 + max(versions, default=0))
