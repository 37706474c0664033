"""JetPack 6 and 7, as far as a PC shows it: Python 3.10, the oldest libraries, extras that resolve for a Jetson."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api as mypy

from tests import test_packaging
from tests.test_packaging import ROOT, run

wheel = test_packaging.wheel
EXTRAS = ("ort", "cuda12", "cuda13", "jetson", "rtx")
# (Python, uv's name of the platform): the glibc of Ubuntu 22.04 and 24.04
JETPACK_6, JETPACK_7 = ("3.10", "aarch64-manylinux_2_35"), ("3.12", "aarch64-manylinux_2_39")
# A package without a wheel, pure Python: it brings the wheels of tensorrt-rtx-cu13-libs and -bindings.
BUILT_ANYWHERE = "tensorrt-rtx-cu13"
NEWER = """\
import tomllib
from contextlib import chdir
from datetime import UTC
from enum import StrEnum
from typing import Self
import pathlib; pathlib.Path().walk
ValueError().add_note("more")
ExceptionGroup("several", [])
"""


def complaints(*arguments: str | Path) -> str:
    """What mypy says of code for Python 3.10."""
    said, failed, _ = mypy.run(["--python-version=3.10", *map(str, arguments)])
    assert not failed
    return said


def test_the_robot_side_uses_nothing_newer_than_python_3_10(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert complaints("--no-error-summary", "convcut_trt") == ""


def test_that_check_sees_what_python_3_10_lacks(tmp_path: Path) -> None:
    newer = tmp_path / "newer.py"
    newer.write_text(NEWER)
    found = complaints("--config-file=", f"--cache-dir={tmp_path}", newer)
    lines = {int(line) for line in re.findall(r"newer\.py:(\d+): error", found)}
    assert lines == set(range(1, NEWER.count("\n") + 1)), found


@pytest.mark.parametrize(
    "newer",
    [
        "try:\n    pass\nexcept* ValueError:\n    pass\n",
        "first = {}[*(1, 2)]\n",
        "type Number = int\n",
        "def same[T](value: T) -> T:\n    return value\n",
        "text = f'{'quoted'}'\n",
    ],
    ids=["except*", "star in an index", "type", "type parameters", "quotes"],
)
def test_ruff_sees_newer_syntax(newer: str) -> None:
    command = ["ruff", "check", "--stdin-filename", str(ROOT / "convcut_trt" / "newer.py"), "-"]
    path = test_packaging.PATH
    done = subprocess.run(
        command, input=newer, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 1
    assert "on Python 3.10" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("jetpack", [JETPACK_6, JETPACK_7], ids=["JetPack 6", "JetPack 7"])
def test_every_robot_extra_resolves_to_wheels_for_a_jetson(
    uv: Path, wheel: Path, tmp_path: Path, jetpack: tuple[str, str], extra: str
) -> None:
    python, platform = jetpack
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"convcut-trt[{extra}] @ {wheel.as_uri()}\n")
    wheels = ["--only-binary", ":all:", "--no-binary", BUILT_ANYWHERE]
    target = ["--python-version", python, "--python-platform", platform]
    found = run(
        [uv, "pip", "compile", wanted, "--quiet", "--no-header", *wheels, *target], tmp_path
    )
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", found, re.MULTILINE))
    assert ("onnxruntime" in versions) == (extra in ("ort", "jetson", "rtx"))
    cuda = {"cuda12": "12", "cuda13": "13", "rtx": "13"}.get(extra)
    if extra == "jetson":
        cuda = "12" if jetpack is JETPACK_6 else "13"
    assert versions.get("cuda-bindings", "").split(".")[0] == (cuda or "")
    assert ("tensorrt-rtx-cu13-libs" in versions) == (extra == "rtx")
    assert "tensorrt" not in versions
    if jetpack is JETPACK_6:
        assert versions["numpy"] == "2.2.6"
        assert versions.get("onnxruntime", "1.23.2") == "1.23.2"


def python_3_10() -> str | None:
    """An interpreter of that version, where this machine has one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which("python3.10"), *map(str, pyenv.glob("3.10.*/bin/python"))]
    for python in filter(None, found):
        done = subprocess.run([python, "--version"], capture_output=True, text=True)
        if done.stdout.startswith("Python 3.10."):
            return python
    return None


def pins_of_3_10(folder: Path) -> Path:
    """What ``constraints.txt`` pins for Python 3.10, markers taken off: any Python then gets the same."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.partition(";")[::2] for line in lines if not line.startswith("#")]
    taken = [pin for pin, marker in pairs if ">=" not in marker and "cuda" not in pin]
    path = folder / "pins.txt"
    path.write_text("\n".join(taken) + "\n")
    return path


@pytest.fixture(scope="module")
def oldest(uv: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of an environment as on JetPack 6: the last numpy and onnxruntime for 3.10, on 3.10 where it is."""
    folder = tmp_path_factory.mktemp("oldest")
    run(
        [uv, "venv", "--quiet", "--python", python_3_10() or sys.executable, folder / "venv"],
        folder,
    )
    commands = folder / "venv" / "bin"
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", commands / "python"]
    pins = pins_of_3_10(folder)
    package = f"convcut-trt[ort,cuda12,dds,faces,mcap,zenoh] @ {wheel.as_uri()}"
    run([*install, "-c", pins, package, "pytest", "hypothesis"], folder)
    ask = "import numpy, onnxruntime as ort; print(numpy.__version__, ort.__version__)"
    assert run([commands / "python", "-c", ask], folder).split() == ["2.2.6", "1.23.2"]
    return commands


@pytest.mark.slow
def test_every_module_imports_there(oldest: Path, tmp_path: Path) -> None:
    code = """if True:
        import importlib, pkgutil, convcut_trt
        for module in pkgutil.walk_packages(convcut_trt.__path__, "convcut_trt."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        print(convcut_trt.__file__)
    """
    said = run([oldest / "python", "-c", code], tmp_path)
    assert not Path(said.strip()).is_relative_to(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_cpu_path_runs_there(oldest: Path, tmp_path: Path, precision: str) -> None:
    command, engines = oldest / "convcut-trt", tmp_path / "engines"
    how: list[str | Path] = ["--precision", precision, "--backend", "onnxruntime", "-o", engines]
    run([command, "build", *how], tmp_path)
    face: list[str | Path] = [ROOT / "examples" / "astronaut.png", "--box", "110,70,100,120"]
    (manifest,) = engines.glob(f"*.{precision}.*.json")
    assert "happiness" in run([command, "predict", *face, "--engine", manifest], tmp_path)


@pytest.mark.slow
def test_the_gpu_runtime_passes_its_tests_there(oldest: Path) -> None:
    quietly = ["-q", "-p", "no:cacheprovider", "-m", "not gpu and not slow"]
    said = run([oldest / "python", "-m", "pytest", *quietly, "tests/gpu"], ROOT)
    assert re.search(r"[1-9]\d+ passed", said)
