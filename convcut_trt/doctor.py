"""What this machine can do: versions, backends, GPU, engines and their witnesses, and what to do next."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path
from typing import Any

import numpy as np

import convcut_trt
from convcut_trt import backends
from convcut_trt.backends import probe
from convcut_trt.errors import ConvcutError
from convcut_trt.home import zoo_names
from convcut_trt.manifest import EngineManifest, manifests

_LIBRARIES = (
    "numpy",
    "PIL",
    "onnx",
    "onnxruntime",
    "tensorrt_rtx",
    "tensorrt",
    "torch",
    "cuda.bindings",
)


def examine(engines: Path) -> dict[str, Any]:
    """Looks at this machine.

    Args:
        engines: Folder of engines whose witnesses are replayed, where they run here.

    Returns:
        ``versions``, ``gpu``, ``backends``, ``zoo``, ``engines``, ``next`` and ``healthy``: False when an
        engine in the folder is broken or gives other answers than its witnesses.
    """
    states = {name: _backend(name) for name in backends.NAMES}
    found = {path.name: _engine(path) for path in manifests(engines)}
    return {
        "versions": {
            "convcut-trt": convcut_trt.__version__,
            "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            **{name: _version(name) for name in _LIBRARIES},
        },
        "gpu": _gpu(),
        "backends": states,
        "zoo": zoo_names(),
        "engine_folder": str(engines),
        "engines": found,
        "next": _next(states, found),
        "healthy": not any(state.startswith("broken") for state in found.values()),
    }


def _version(name: str) -> str:
    if name == "torch":  # importing it takes seconds, and only the lab needs it
        from importlib.util import find_spec

        return "installed" if find_spec(name) else "not installed (only the lab needs it)"
    try:
        return str(importlib.import_module(name).__version__)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (
            name,
            name.split(".")[0],
        )
        return "not installed" if missing else f"installed, does not load: {error}"


def _gpu() -> str:
    gpu = probe.gpu()
    if isinstance(gpu, str):
        return gpu
    return f"{gpu.name}, compute capability {gpu.compute_capability}, CUDA {gpu.cuda}"


def _backend(name: str) -> str:
    backend = backends.get(name)
    if reason := backend.missing():
        return f"missing: {reason}"
    reason = backend.can_run()
    return "runs here" if reason is None else f"builds, does not run here: {reason}"


def _engine(path: Path) -> str:
    from convcut_trt.engine import Engine

    try:
        manifest = EngineManifest.read(path)
        manifest.check_files()
        if manifest.failed:
            return f"broken: failed at {', '.join(manifest.failed)} when it was verified; build it again"
        backend = backends.get(manifest.flavour)
        if reason := backend.can_run():
            return f"sound, does not run here: {reason}"
        faces, expected = manifest.spec.witness_faces(path.parent)
        with Engine(manifest, backend.open(manifest.engine)) as engine:
            worst = float(np.abs(engine.infer(faces)["probabilities"] - expected).max())
    except ConvcutError as error:
        return f"broken: {error}"
    limit = float(manifest.budgets["witnesses"])
    if not worst <= limit:
        return (
            f"broken: its witnesses differ by {worst:.1e}, {limit:.1e} is allowed; build it again"
        )
    return f"runs here, {len(faces)} witnesses within {worst:.1e}"


def _next(states: dict[str, str], engines: dict[str, str]) -> str:
    if states["onnxruntime"].startswith("missing"):
        return "pip install 'convcut-trt[ort]'   (or [rtx] to build for NVIDIA RTX GPUs)"
    if not any(state.startswith("runs here") for state in engines.values()):
        return "convcut-trt build --precision fp16"
    return "convcut-trt predict FILE"
