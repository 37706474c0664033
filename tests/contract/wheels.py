"""The Python API of TensorRT versions that are not installed: bindings wheels above stub libraries.

A bindings wheel is a megabyte from the package index and holds the whole API. It imports where three
libraries are found with the functions it links to, whatever these do. No GPU and no TensorRT needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

from tests.contract.scan import Api

WHEELS = {
    "10.3.0": "tensorrt-cu12-bindings",  # JetPack 6
    "10.7.0": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",  # JetPack 7.0
    "10.16.1.11": "tensorrt-cu12-bindings",  # JetPack 7.2
    "11.4.0.106": "tensorrt-cu13-bindings",
}
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
_TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
_DUMP = Path(__file__).with_name("dump.py")


class Unavailable(Exception):
    """Why an API cannot be had on this machine."""


def api_of(version: str) -> Api:
    """The API of one of ``WHEELS``; kept, so that only the first call needs the network.

    Raises:
        Unavailable: No index, no wheel for this interpreter, or no C compiler.
    """
    # dump.py decides what is in the file, so it is part of its name.
    changed = f"{_DUMP.stat().st_mtime_ns:x}"
    kept = _folder() / f"{version}-{_TAG}-{changed}.json"
    if not kept.is_file():
        if sys.platform != "linux":
            raise Unavailable("the stub libraries are made for Linux only")
        folder = _unpacked(version)
        _write(kept, _dump("tensorrt_bindings", folder, _stubs(version.split(".")[0])))
    api: Api = json.loads(kept.read_text())
    return api


@cache
def api_of_rtx() -> Api:
    """The API of the installed TensorRT-RTX."""
    api: Api = json.loads(_dump("tensorrt_rtx", None, ()))
    return api


def rtx_version() -> str:
    """The version of the installed TensorRT-RTX."""
    return metadata.version("tensorrt_rtx_cu13")


def _folder() -> Path:
    given = os.environ.get("CONVCUT_TEST_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else home / "convcut-trt-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _unpacked(version: str) -> Path:
    folder = _folder() / f"bindings-{version}-{_TAG}"
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        wanted = f"{WHEELS[version]}=={version}"
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command = [*pip, "--quiet", "--disable-pip-version-check", "--dest", str(folder), wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip() or "pip says nothing").splitlines()[-1]
            raise Unavailable(f"{wanted} cannot be downloaded: {said}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked"


def _stubs(major: str) -> tuple[Path, ...]:
    """Libraries with the names that the bindings ask for and functions that give back nothing."""
    folder = _folder() / f"stubs-{major}"
    folder.mkdir(exist_ok=True)
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
    paths = tuple(folder / f"lib{library}.so.{major}" for library in _LIBRARIES)
    for path in paths:
        if path.is_file():
            continue
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path)]
        try:
            subprocess.run([*command, str(source)], check=True, capture_output=True)
        except FileNotFoundError:
            raise Unavailable("no gcc here for the stub libraries") from None
    return paths


def _dump(package: str, folder: Path | None, libraries: tuple[Path, ...]) -> str:
    environment = dict(os.environ)
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, str(_DUMP), package, *map(str, libraries)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
