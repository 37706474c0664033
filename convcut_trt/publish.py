"""Publishing an engine: everything is staged first, then renamed into place, the manifest last.

    NAME.json names NAME.engine          while the new engine is staged
    NAME.json names NAME.former.engine   the same file under two names, while the first of them is replaced
    NAME.json names NAME.engine          the new one; NAME.former.engine is removed

The manifest on disk names a whole engine at every moment, and so does what a kill leaves.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from convcut_trt.alone import alone
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import sha256, write_file
from convcut_trt.home import Model
from convcut_trt.manifest import EngineManifest

_STAGING = ".publishing-"
_ABANDONED_S = 3600.0
_PATIENCE_S = 60.0  # a large engine, and a slow disk


def publish(model: Model, manifest: EngineManifest, typed_onnx: Path, engine: bytes) -> None:
    """Writes engine, typed ONNX, witnesses and manifest into the manifest's folder.

    An engine exists by its manifest. A failure or a kill leaves the former one of this name, its files maybe called
    ``*.former.*``, to which its manifest then leads; the next one of this name that is published clears them away.

    Raises:
        InputError: The folder cannot be written to, is full, or others write to it all the time.
    """
    folder = manifest.path.parent
    try:
        with staging(folder) as stage:
            write_file(stage / manifest.typed_onnx.name, typed_onnx.read_bytes())
            if manifest.engine != manifest.typed_onnx:
                write_file(stage / manifest.engine.name, engine)
            _copy_witnesses(model, folder)
            manifest.write(stage / manifest.path.name)
            _take_place(stage, manifest)
    except OSError as error:
        raise InputError(
            f"{folder} could not be written ({error.strerror}), so no engine was published: free some space "
            "or choose another folder with -o"
        ) from None


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Gives a new folder in ``folder``, for files in the making, and keeps others out of ``folder`` meanwhile.

    What is left in it is removed, and so is what killed processes have left of theirs.

    Raises:
        InputError: See ``writing``.
        OSError: The folder cannot be read or written to.
    """
    with writing(folder) as locked:
        stage = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        try:
            _remove_abandoned(stage, locked)
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _remove_abandoned(stage: Path, locked: bool) -> None:
    """Removes the others' stages: under the lock nobody works in them any more, without it after an hour."""
    # Compared with the one just made: the folder may lie on a machine with another clock.
    now = stage.stat().st_mtime
    for left in stage.parent.glob(f"{_STAGING}*"):
        with suppress(OSError):
            if left != stage and (locked or now - left.stat().st_mtime > _ABANDONED_S):
                shutil.rmtree(left)


def writing(folder: Path) -> AbstractContextManager[bool]:
    """Keeps others from publishing in a folder of engines, or from changing a manifest there, see ``alone``.

    Raises:
        InputError: On entry: others do, all the time.
        OSError: On entry: the folder cannot be read.
    """
    busy = (
        f"others are writing engines into {folder}: wait for them, or choose another folder with -o"
    )
    return alone(folder, busy, _PATIENCE_S)


def _take_place(stage: Path, manifest: EngineManifest) -> None:
    files = {manifest.engine, manifest.typed_onnx}
    former = _whole(manifest.path)
    if former is not None and not files.isdisjoint({former.engine, former.typed_onnx}):
        _step_aside(stage, former)
    for path in (*files, manifest.path):
        (stage / path.name).replace(path)
    for path in files:
        with suppress(OSError):
            _aside(path).unlink(missing_ok=True)


def _whole(path: Path) -> EngineManifest | None:
    """The engine that is there already; None where there is none, or not all of it."""
    try:
        found = EngineManifest.read(path)
        found.check_files()
    except ConvcutError:
        return None
    return found


def _step_aside(stage: Path, former: EngineManifest) -> None:
    """Gives the files of an engine second names, and then has its manifest name these."""
    for path in {former.engine, former.typed_onnx}:  # one, where the graph is the engine
        second = stage / _aside(path).name
        try:
            os.link(path, second)
        except OSError:  # not on every disk
            write_file(second, path.read_bytes())
        second.replace(_aside(path))
    names = {"engine": _aside(former.engine).name, "typed_onnx": _aside(former.typed_onnx).name}
    told = stage / _aside(former.path).name
    replace(former, files=names).write(told)
    told.replace(former.path)


def _aside(path: Path) -> Path:
    return path.with_suffix(f".former{path.suffix}")


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
