"""A peer that comes with TensorRT: trtexec, on the engine's own plan."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.peers import entrant
from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.manifest import EngineManifest
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.measuring.timed import F64

JETPACK_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
_WARM_UP_MS = 500


def trtexec(engine: Entrant) -> Entrant:
    """trtexec on the engine's own plan: it is not asked, it tells its own times, on the GPU.

    Raises:
        BackendMissing: It is not installed, or the engine is none of TensorRT.
        InputError: The engine's plan is not the whole network.
    """
    manifest = engine.manifest
    if manifest is None or manifest.flavour != "tensorrt":
        raise BackendMissing(
            f"trtexec runs engines of --backend tensorrt, which {engine.name} is not: build one to compare with it"
        )
    if manifest.tail == "kernel":
        raise InputError(
            f"trtexec runs the plan alone, without the tail kernel of {engine.name}: build one with --tail native"
        )
    program = shutil.which("trtexec") or shutil.which(JETPACK_TRTEXEC)
    if program is None:
        raise BackendMissing(
            f"there is no trtexec on PATH or at {JETPACK_TRTEXEC}: install NVIDIA's package libnvinfer-bin"
        )
    made = entrant(
        engine,
        "trtexec",
        engine.subject.asked,
        f"the plan of {engine.name}, timed by trtexec",
        engine.open,
        versions={},
        sha256={"engine": str(manifest.sha256["engine"])},
    )
    return replace(made, own_times=partial(trtexec_times, program, manifest))


def trtexec_times(program: str, manifest: EngineManifest, batch: int, seconds: float) -> F64:
    """Times of an engine's plan by trtexec: on the GPU, in a CUDA graph, without transfers.

    Args:
        program: Of trtexec.
        manifest: Of the engine.
        batch: Faces in a call.
        seconds: For how long; trtexec takes whole ones.

    Returns:
        Milliseconds of each call, float64 [calls].

    Raises:
        ConvcutError: trtexec failed; ``log`` has what it said.
    """
    size = manifest.spec.size
    with tempfile.TemporaryDirectory(prefix="convcut-") as folder:
        path = Path(folder) / "times.json"
        command = [
            program,
            f"--loadEngine={manifest.engine}",
            "--useCudaGraph",
            "--noDataTransfers",
            "--useSpinWait",
            f"--warmUp={_WARM_UP_MS}",
            f"--duration={math.ceil(seconds)}",
            f"--exportTimes={path}",
        ]
        if manifest.batch[0] != manifest.batch[-1]:
            command.append(f"--shapes=images:{batch}x{size}x{size}x3")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            times = [float(entry["computeMs"]) for entry in json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, KeyError, TypeError):
            times = []
    if done.returncode or not times:
        raise ConvcutError(
            f"trtexec gave no times of {manifest.engine.name} (exit code {done.returncode}): take the one of the "
            "TensorRT that built the engine",
            log=(done.stdout + done.stderr)[-4000:],
        )
    return np.array(times, np.float64)
