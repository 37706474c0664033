"""Publishing an engine: everything is staged first, then renamed into place, the manifest last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convcut_trt.alone import alone
from convcut_trt.errors import InputError
from convcut_trt.fields import sha256, write_file
from convcut_trt.home import Model
from convcut_trt.manifest import EngineManifest

_STAGING = ".publishing-"
_FORMER = "former"
_PATIENCE_S = 60.0  # a large engine, and a slow disk


def publish(model: Model, manifest: EngineManifest, typed_onnx: Path, engine: bytes) -> None:
    """Writes engine, typed ONNX, witnesses and manifest into the manifest's folder.

    An engine exists by its manifest. A former one of the same name steps aside, its manifest first, and that of the
    new one comes last: a kill at any moment leaves a whole engine or none. Where it is not the new one, the former
    one steps back: at once after a failure, and after a kill with the next engine that is published here.

    Raises:
        InputError: The folder cannot be written to, is full, or others write to it all the time.
    """
    folder = manifest.path.parent
    try:
        with writing(folder):
            for left in folder.glob(f"{_STAGING}*"):  # by killed processes: nobody else is here
                _settle(left)
            stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
            try:
                write_file(stage / manifest.typed_onnx.name, typed_onnx.read_bytes())
                if manifest.engine != manifest.typed_onnx:
                    write_file(stage / manifest.engine.name, engine)
                _copy_witnesses(model, folder)
                manifest.write(stage / manifest.path.name)
                _take_place(stage, manifest)
            finally:
                _settle(stage)
    except OSError as error:
        raise InputError(
            f"{folder} could not be written ({error.strerror}), so no engine was published: free some space "
            "or choose another folder with -o"
        ) from None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keeps others from publishing in a folder of engines, or from changing a manifest there.

    Raises:
        InputError: Others do, all the time.
        OSError: The folder cannot be read.
    """
    busy = (
        f"others are writing engines into {folder}: wait for them, or choose another folder with -o"
    )
    with alone(folder, busy, _PATIENCE_S):
        yield


def _take_place(stage: Path, manifest: EngineManifest) -> None:
    files = {manifest.engine, manifest.typed_onnx}
    (stage / _FORMER).mkdir()
    for path in (manifest.path, *files):
        if path.is_file() or path.is_symlink():
            path.replace(stage / _FORMER / path.name)
    for path in (*files, manifest.path):
        (stage / path.name).replace(path)


def _settle(stage: Path) -> None:
    """Ends a staging: where its manifest has not left, what had stepped aside for it steps back, manifest last."""
    former = stage / _FORMER
    if former.is_dir() and any(stage.glob("*.json")):
        for path in sorted(former.iterdir(), key=lambda path: path.suffix == ".json"):
            path.replace(stage.parent / path.name)
    shutil.rmtree(stage, ignore_errors=True)


def _copy_witnesses(model: Model, folder: Path) -> None:
    for witness in model.spec.witnesses:
        target = folder / witness.file
        if target.is_file() and sha256(target) == witness.sha256:
            continue  # the model's own folder, or one that an engine of this model is in
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{target.parent} is a link that leads out of {folder}, where nothing is written: remove it, or "
                "choose another folder with -o"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, (model.folder / witness.file).read_bytes())
