"""Where things lie: the bundled models, a user's models, and the folder of built engines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from convcut_trt.errors import InputError, SpecError
from convcut_trt.fields import reading
from convcut_trt.spec import ModelSpec

ZOO = Path(__file__).parent / "zoo"
DEFAULT_MODEL = "conv-cut-mini"
GATE_PICTURES = ZOO / "gate_pictures.npz"


@dataclass(frozen=True)
class Model:
    """An exported model: ``NAME.onnx``, its spec, and the folder both lie in."""

    onnx: Path
    spec: ModelSpec

    @property
    def folder(self) -> Path:
        """Where the witnesses lie."""
        return self.onnx.parent


def zoo_names() -> list[str]:
    """Names of the bundled models."""
    return sorted(path.name[: -len(".onnx")] for path in ZOO.glob("*.onnx"))


@reading(InputError)
def find_model(model: str | Path) -> Model:
    """Finds a model by zoo name, ``.onnx`` file, or directory with one model in it.

    Raises:
        InputError: There is no such model, or it cannot be read.
        SpecError: Its spec is missing, broken, or another model's.
    """
    path = Path(model)
    if path.is_dir():
        specs = sorted(path.glob("*.spec.json"))
        if len(specs) != 1:
            raise InputError(
                f"{path} holds {len(specs)} models (NAME.spec.json): name the .onnx file"
            )
        path = path / (specs[0].name[: -len(".spec.json")] + ".onnx")
    elif not path.suffix and not path.exists():
        path = ZOO / f"{model}.onnx"
        if not path.is_file():
            known = ", ".join(zoo_names()) or "none"
            raise InputError(
                f"there is no model {str(model)!r}: give an .onnx file or a zoo name ({known})"
            )
    if path.suffix != ".onnx":
        raise InputError(
            f"{path} is not an .onnx file: a model is NAME.onnx with NAME.spec.json beside it"
        )
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: give an .onnx file or a zoo name ({', '.join(zoo_names())})"
        )
    spec_path = path.with_suffix(".spec.json")
    if not spec_path.is_file():
        raise SpecError(
            f"{path.name} has no {spec_path.name} beside it: `convcut-trt export` writes both"
        )
    spec = ModelSpec.read(spec_path)
    spec.check_onnx(path)
    return Model(path, spec)


def engine_folder() -> Path:
    """Where engines go without ``-o``: ``$CONVCUT_HOME``, else the user's cache folder.

    Raises:
        InputError: This user has no home, as many in containers.
    """
    given = os.environ.get("CONVCUT_HOME")
    if given:
        return Path(given)
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise InputError(
            "this user has no home folder to keep engines in: set CONVCUT_HOME to a folder for them"
        ) from None
    return Path(cache) / "convcut-trt"


def make_engine_folder(folder: Path) -> None:
    """Creates a folder for engines, private to the user, and makes sure that it can be written to.

    Raises:
        InputError: It cannot be created or written to.
    """
    try:
        # Engines are native code: nobody else may put one there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = "a link that leads nowhere" if folder.is_symlink() else error.strerror
        raise InputError(f"{folder} cannot be created ({reason}): choose another with -o") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to: choose another folder with -o")
