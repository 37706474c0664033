"""Publishing an engine: everything is staged first, then renamed into place, the manifest last."""

from __future__ import annotations

import tempfile
from pathlib import Path

from convcut_trt.errors import InputError
from convcut_trt.fields import sha256, write_file
from convcut_trt.home import Model
from convcut_trt.manifest import EngineManifest


def publish(model: Model, manifest: EngineManifest, typed_onnx: Path, engine: bytes) -> None:
    """Writes engine, typed ONNX, witnesses and manifest into the manifest's folder.

    A failure while staging (a full disk) leaves a former engine of the same name as it was. An engine exists
    by its manifest: the former one goes before its files are replaced, the new one comes last, so a kill
    at any moment leaves a whole engine or none.

    Raises:
        InputError: The folder cannot be written to, or is full.
    """
    folder = manifest.path.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".publishing-", dir=folder) as staging:
            stage = Path(staging)
            write_file(stage / manifest.typed_onnx.name, typed_onnx.read_bytes())
            if manifest.engine != manifest.typed_onnx:
                write_file(stage / manifest.engine.name, engine)
            manifest.write(stage / manifest.path.name)
            _copy_witnesses(model, folder)
            manifest.path.unlink(missing_ok=True)
            for path in {manifest.typed_onnx, manifest.engine}:
                (stage / path.name).replace(path)
            (stage / manifest.path.name).replace(manifest.path)
    except OSError as error:
        raise InputError(
            f"{folder} could not be written ({error.strerror}), so no engine was published: free some space "
            "or choose another folder with -o"
        ) from None


def _copy_witnesses(model: Model, folder: Path) -> None:
    for witness in model.spec.witnesses:
        target = folder / witness.file
        if target.is_file() and sha256(target) == witness.sha256:
            continue  # the model's own folder, or one that an engine of this model is in
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, (model.folder / witness.file).read_bytes())
