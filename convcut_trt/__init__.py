"""Conv-cut facial-expression engines for robots: build, verify, run.

    import convcut_trt as cc

    with cc.load("conv-cut-mini") as engine:
        print(engine.predict(["face.png"]).labels)

Importing this imports no inference library: names are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convcut_trt.errors import (
    BackendMissing,
    BuildError,
    ConvcutError,
    CudaError,
    EngineMismatch,
    GateFailed,
    InputError,
    ManifestError,
    SpecError,
)

if TYPE_CHECKING:
    from convcut_trt.engine import Engine, Prediction, load
    from convcut_trt.manifest import EngineManifest
    from convcut_trt.spec import ModelSpec
    from convcut_trt.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "BackendMissing",
    "BuildError",
    "ConvcutError",
    "CudaError",
    "Engine",
    "EngineManifest",
    "EngineMismatch",
    "GateFailed",
    "InputError",
    "ManifestError",
    "ModelSpec",
    "Prediction",
    "SpecError",
    "Stream",
    "load",
]

_LATER = {
    "Engine": "engine",
    "Prediction": "engine",
    "load": "engine",
    "EngineManifest": "manifest",
    "ModelSpec": "spec",
    "Stream": "stream",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'convcut_trt' has no attribute {name!r}")
    return getattr(import_module(f"convcut_trt.{_LATER[name]}"), name)
