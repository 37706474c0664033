"""Engines without a manifest: nothing is known of them, and only who asks for it gets them opened."""

from __future__ import annotations

from pathlib import Path

from convcut_trt.backends import trt_plan
from convcut_trt.errors import InputError
from convcut_trt.fields import reading, sha256
from convcut_trt.home import find_model
from convcut_trt.manifest import STAND_IN, EngineManifest, now
from convcut_trt.spec import OUTPUTS

UNKNOWN = "unknown"


@reading(InputError)
def trusted(path: Path, model: str | Path, backend: str = "auto") -> EngineManifest:
    """What stands for the manifest of an engine that has none. It is not verified, and is written nowhere.

    Args:
        path: A plan (``.engine``, as trtexec writes it) or a typed ``.onnx``. Both are opened as they are: an
            engine is native code.
        model: The model it was built from, by zoo name or file: its spec says how faces are cut and
            what is answered.
        backend: Who opens it; ``auto`` goes by the file.

    Raises:
        InputError: No such file, or one that cannot be read; no such model; or the engine has a manifest, which is
            then the way to open it.
        SpecError: As ``home.find_model``.
    """
    if not path.is_file() or path.suffix not in (".engine", ".onnx"):
        raise InputError(
            f"{path} is no engine: give an .engine or an .onnx file, or leave --trust out"
        )
    if path.with_suffix(".json").is_file():
        raise InputError(f"{path} has a manifest, {path.stem}.json: leave --trust out")
    if backend == "auto":
        backend = "onnxruntime"
        if path.suffix == ".engine":
            with path.open("rb") as file:
                backend = "tensorrt-rtx" if trt_plan.is_plan(file.read(64)) else "tensorrt"
    spec = find_model(model).spec
    return EngineManifest(
        name=spec.name,
        precision={
            "requested": UNKNOWN,
            "asked": UNKNOWN,
            "stored": {},
            "computed": {},
            "text": UNKNOWN,
        },
        flavour=backend,
        versions={"builder": UNKNOWN},
        target="",
        compute_capability="",
        files={"engine": path.name, "typed_onnx": path.name},
        sha256={"engine": sha256(path)},
        outputs=OUTPUTS,
        batch=(1, 1, 1),
        placement="",
        mlp=UNKNOWN,
        tail="native",
        operations=None,
        budgets={},
        gates=(),
        verdicts=(),
        judged_on="nothing",
        verified_on=STAND_IN,
        build={},
        date=now(),
        spec=spec,
        path=path.with_suffix(".json"),
    )
