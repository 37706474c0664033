"""Compiles a kernel of this package for the GPU that is there, with NVRTC, once."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from convcut_trt.errors import BackendMissing, BuildError
from convcut_trt.gpu.cache import Cache, key_of
from convcut_trt.optional import load

KERNELS = Path(__file__).parents[1] / "kernels"
_log = logging.getLogger(__name__)


def compile_kernel(source: str, defines: Sequence[str], capability: tuple[int, int]) -> bytes:
    """Compiles a ``.cu`` of this package, or takes it from the cache.

    Args:
        source: Its name without the ending: ``tail`` or ``preprocess``.
        defines: NAME=VALUE.
        capability: (major, minor) of the GPU.

    Returns:
        A cubin.

    Raises:
        BackendMissing: There is no NVRTC here.
        BuildError: It refused; ``log`` holds what it said.
    """
    nvrtc = load_nvrtc()
    version = ".".join(str(part) for part in _check(nvrtc, nvrtc.nvrtcVersion()))
    options = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17"]
    options += [f"--define-macro={define}" for define in defines]
    files = (KERNELS / f"{source}.cu", KERNELS / f"{source}.cuh")
    texts = [path.read_bytes() for path in files]
    cache, key = Cache("kernels"), key_of(version, *options, *texts) + ".cubin"
    found = cache.get(key)
    if found is not None:
        return found
    _log.info("compiling %s for sm_%d%d", source, *capability)
    options += [f"--include-path={folder}" for folder in _headers()]
    cubin = _compiled(nvrtc, files, texts, [option.encode() for option in options])
    cache.put(key, cubin)
    return cubin


def load_nvrtc() -> ModuleType:
    """The bindings of NVRTC, and NVRTC behind them.

    Raises:
        BackendMissing: One of them is not there.
    """
    nvrtc = load("cuda.bindings.nvrtc", "cuda13")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # cuda-pathfinder's, where the library is not found
        raise BackendMissing(
            "NVRTC, which compiles the kernels at first use, is not here: pip install nvidia-cuda-nvrtc "
            "(nvidia-cuda-nvrtc-cu12 for CUDA 12), or install the CUDA toolkit"
        ) from error
    return nvrtc


def _headers() -> list[str]:
    """Where ``cuda_fp16.h`` may be: kernels for FP16 maps need it, the others nothing."""
    places = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [str(Path(place) / "include") for place in (*places, "/usr/local/cuda") if place]
    try:
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError:  # cuda-bindings before 12.9 come without it
        return folders
    found = find_nvidia_header_directory("cudart")
    return [found, *folders] if found else folders


def _compiled(
    nvrtc: ModuleType, files: Sequence[Path], texts: Sequence[bytes], options: list[bytes]
) -> bytes:
    source, header = texts
    names = [path.name.encode() for path in files]
    answer = nvrtc.nvrtcCreateProgram(source, names[0], 1, [header], [names[1]])
    program = _check(nvrtc, answer)
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * _check(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
            _check(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
            said = log.rstrip(b"\0 ").decode(errors="replace")
            raise BuildError(
                f"NVRTC cannot compile {files[0].name} ({status.name}): update the CUDA toolkit or "
                "nvidia-cuda-nvrtc, or build with --tail native",
                log=said,
            )
        cubin: bytes = b" " * _check(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        _check(nvrtc, nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _check(nvrtc: ModuleType, answer: tuple[Any, ...]) -> Any:
    status = answer[0]
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BuildError(f"NVRTC gives {status.name}: update nvidia-cuda-nvrtc or the CUDA toolkit")
    return answer[1] if len(answer) == 2 else answer[1:]
