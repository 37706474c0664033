"""What this machine can do: versions, backends, GPU, engines and their witnesses, and what to do next."""

from __future__ import annotations

import ctypes
import importlib
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import convcut_trt
from convcut_trt import backends, combinations, devices
from convcut_trt.backends import probe
from convcut_trt.backends.preflight import free_memory
from convcut_trt.backends.probe import Gpu, Loader
from convcut_trt.backends.trt_flavours import RTX, TENSORRT, Flavour
from convcut_trt.combinations import Fact
from convcut_trt.errors import BackendMissing, ConvcutError, EngineMismatch
from convcut_trt.home import zoo_names
from convcut_trt.manifest import EngineManifest, manifests
from convcut_trt.measuring import clocks, jetson, nvml
from convcut_trt.optional import how_to_install, unreported

_TENSORRTS = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
_LIBRARIES = ("numpy", "PIL", "onnx", "onnxruntime", "openvino", *_TENSORRTS, "cuda.bindings")
_MIB, _GIB = 2**20, 2**30


def examine(engines: Path, *, root: Path = Path("/"), load: Loader = ctypes.CDLL) -> dict[str, Any]:
    """Looks at this machine.

    Args:
        engines: Folder of engines whose witnesses are replayed, where they run here.
        root: Stands for ``/`` where a Jetson's files are read.
        load: Opens the driver's libraries.

    Returns:
        What ``--json`` prints: ``versions``, ``gpu`` (``driver``, ``cuda``, ``problem``, ``board``,
        ``devices``), ``kernels``, ``backends``, ``runs`` (the backend that runs new engines), ``zoo``,
        ``engines``, ``problems`` (known-bad combinations that are here), ``next`` and ``healthy``: False
        when an engine in the folder is broken or gives other answers than its witnesses.
    """
    versions = {name: _version(name) for name in _LIBRARIES}
    gpu = _gpu(root, load)
    states = {name: _backend(name) for name in backends.NAMES}
    runs = next((name for name, state in states.items() if state == "runs here"), None)
    found = {path.name: _engine(path) for path in manifests(engines)}
    return {
        "versions": {
            "convcut-trt": convcut_trt.__version__,
            "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            **versions,
            "CUDA runtime": _cudart(),
            "torch": _torch(),
        },
        "gpu": gpu,
        "kernels": _kernels(),
        "backends": states,
        "runs": runs,
        "zoo": zoo_names(),
        "engine_folder": str(engines),
        "engines": found,
        "problems": problems(versions, gpu),
        "next": _next(states, found, gpu),
        "healthy": not any(state.startswith("broken") for state in found.values()),
    }


def text(report: dict[str, Any]) -> str:
    """The report of ``examine`` for a person."""
    gpu = report["gpu"]
    board = gpu["board"] or {}
    facts = {
        "driver": gpu["driver"],
        "CUDA of the driver": gpu["cuda"],
        "board": board.get("model"),
        "Jetson Linux": board.get("l4t"),
        "JetPack": board.get("jetpack"),
    }
    sections: dict[str, dict[str, Any]] = {
        "versions": report["versions"],
        "gpu": {
            **{name: value for name, value in facts.items() if value is not None},
            **{f"device {index}": _in_words(d) for index, d in enumerate(gpu["devices"])},
            **({"device": f"none: {gpu['problem']}"} if gpu["problem"] else {}),
        },
        "kernels": report["kernels"],
        "backends": {**report["backends"], "new engines run on": report["runs"] or "none of them"},
        "engines": report["engines"],
    }
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {name:24} {value}" for name, value in rows.items())]
    if report["problems"]:
        lines.append("known problems here")
    for problem in report["problems"]:
        lines += [f"  {problem['what']}", f"    fix: {problem['fix']}", f"    {problem['source']}"]
    return "\n".join([*lines, "next", f"  {report['next']}"])


def problems(versions: dict[str, str], gpu: dict[str, Any]) -> list[dict[str, str]]:
    """The known-bad combinations among ``versions`` and ``gpu`` of a report, each once."""
    facts: dict[str, Fact] = {"installed": combinations.installed()}
    board = gpu["board"] or {}
    for name, value in {**versions, "cuda": gpu["cuda"], "l4t": board.get("l4t")}.items():
        if value and (numbers := combinations.version(value)):
            facts[name] = numbers
            facts[f"{name}_folder"] = value.partition(" in ")[2]
        elif value:
            facts[f"{name}_error"] = value
    capabilities = [d["compute_capability"] for d in gpu["devices"]] or [""]
    here = [{**facts, "compute_capability": combinations.version(c)} for c in capabilities]
    return [
        {"what": row.what, "fix": row.fix, "source": row.source}
        for row in combinations.known()
        if any(row.matches(one) for one in here)
    ]


def _version(name: str) -> str:
    try:
        with unreported(name):
            module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in (
            name,
            name.split(".")[0],
        )
        return "not installed" if missing else f"installed, does not load: {error}"
    version = str(module.__version__)
    # JetPack's or pip's: TensorRT is often there twice.
    return f"{version} in {Path(str(module.__file__)).parent}" if name in _TENSORRTS else version


def _torch() -> str:
    """Importing it takes seconds, and only the lab needs it."""
    from importlib.util import find_spec

    return "installed" if find_spec("torch") else "not installed (only the lab needs it)"


def _cudart() -> str:
    try:
        from cuda.bindings import runtime

        _, number = runtime.getLocalRuntimeVersion()
    except (ImportError, OSError, AttributeError, RuntimeError):  # an old or broken cuda-bindings
        return "not found"
    return f"{number // 1000}.{number % 1000 // 10}"


def _gpu(root: Path, load: Loader) -> dict[str, Any]:
    found = probe.gpus(load)
    problem, gpus = (found, []) if isinstance(found, str) else (None, found)
    board = jetson.board(root)
    with nvml.opened(load) as library:
        return {
            "driver": library.driver() if library else None,
            "cuda": gpus[0].cuda if gpus else None,
            "problem": problem,
            "board": None if board is None else asdict(board),
            "devices": [_device(gpu, library, root, load) for gpu in gpus],
        }


def _device(gpu: Gpu, library: nvml.Nvml | None, root: Path, load: Loader) -> dict[str, Any]:
    device = library.device(gpu) if library else None
    free = device.memory_free() if device else None
    if free is None and gpu.integrated and (shared := free_memory(root / "proc")):
        free = shared.available * _MIB
    state = clocks.read(gpu, root=root, load=load)
    return {
        "name": gpu.name,
        "compute_capability": ".".join(map(str, gpu.compute_capability)),
        "integrated": gpu.integrated,
        "memory_bytes": gpu.memory_bytes,
        "memory_free_bytes": free,
        "state": None if state is None else asdict(state),
    }


def _in_words(device: dict[str, Any]) -> str:
    """For example ``Orin, compute capability 8.7, integrated, 5.1 of 7.4 GiB free, 1020 MHz, 48 C``."""
    kind = "integrated" if device["integrated"] else "discrete"
    parts = [device["name"], f"compute capability {device['compute_capability']}", kind]
    total, free = device["memory_bytes"], device["memory_free_bytes"]
    if total is not None:
        of = "" if free is None else f"{free / _GIB:.1f} of "
        parts.append(f"{of}{total / _GIB:.1f} GiB{'' if free is None else ' free'}")
    state = device["state"] or {}
    for name, form in (
        ("sm_mhz", "GPU {:.0f} MHz"),
        ("memory_mhz", "memory {:.0f} MHz"),
        ("temperature_c", "{:.0f} C"),
        ("power_w", "{:.1f} W"),
        ("power_mode", "{}"),
    ):
        if state.get(name) is not None:
            parts.append(form.format(state[name]))
    if state.get("throttle"):
        parts.append(f"held down by: {', '.join(state['throttle'])}")
    return ", ".join(parts)


def _kernels() -> dict[str, str]:
    """Whether the GPU kernels are compiled in this package, and what compiles them where they are not."""
    from convcut_trt.gpu import nvrtc

    compiled = ", ".join(sorted(path.name for path in nvrtc.KERNELS.glob("*.fatbin")))
    try:
        _, *version = nvrtc.load_nvrtc().nvrtcVersion()
        compiler = f"NVRTC {'.'.join(map(str, version))}, at first use"
    except BackendMissing as error:
        compiler = str(error)
    return {"compiled in this package": compiled or "none", "compiler": compiler}


def _backend(name: str) -> str:
    backend = backends.get(name)
    if reason := backend.missing():
        return f"missing: {reason}"
    reason = backend.can_run()
    return "runs here" if reason is None else f"builds, does not run here: {reason}"


def _engine(path: Path) -> str:
    from convcut_trt.engine import Engine, open_session
    from convcut_trt.fit import misfit

    try:
        manifest = EngineManifest.read(path)
        manifest.check_files()
        if manifest.failed:
            return f"broken: failed at {', '.join(manifest.failed)} when it was verified; build it again"
        if reason := misfit(manifest):
            return f"does not run here: it {reason}"
        faces, expected = manifest.spec.witness_faces(path.parent)
        with Engine(manifest, open_session(manifest)) as engine:
            worst = float(np.abs(engine.infer(faces)["probabilities"] - expected).max())
    except (BackendMissing, EngineMismatch) as error:
        return f"does not run here: {error}"
    except ConvcutError as error:
        return f"broken: {error}"
    limit = float(manifest.budgets["witnesses"])
    if not worst <= limit:
        return (
            f"broken: its witnesses differ by {worst:.1e}, {limit:.1e} is allowed; build it again"
        )
    return f"runs here, {len(faces)} witnesses within {worst:.1e}"


def _next(states: dict[str, str], engines: dict[str, str], gpu: dict[str, Any]) -> str:
    if states["onnxruntime"].startswith("missing"):
        return "pip install 'convcut-trt[ort]'   (or [rtx] to build for NVIDIA RTX GPUs)"
    for device in gpu["devices"]:
        flavours = _flavours(device["compute_capability"])
        if flavours and all(states[flavour.name].startswith("missing") for flavour in flavours):
            return how_to_install(flavours[0].extra)
    if not any(state.startswith("runs here") for state in engines.values()):
        return "convcut-trt build --precision fp16"
    return "convcut-trt predict FILE"


def _flavours(compute_capability: str) -> list[Flavour]:
    """What builds for a GPU, the one that pip brings first; none where nothing does."""
    names = {
        name
        for device in devices.known().values()
        if ".".join(map(str, device.compute_capability)) == compute_capability
        for name in device.flavours
    }
    return [flavour for flavour in (RTX, TENSORRT) if flavour.name in names]
