"""The wheel, and uv, which makes an environment in seconds from what it has downloaded before."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_packaging import build_wheel, run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine without nvcc."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), "cmake.define.CMAKE_CUDA_COMPILER=")


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, of which the oldest versions are asked as well."""
    tools = tmp_path_factory.mktemp("tools")
    run([sys.executable, "-m", "venv", tools], tools)
    pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv>=0.8"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if "No matching distribution" in done.stderr:
        pytest.skip("no package index here")
    assert done.returncode == 0, done.stderr
    return tools / "bin" / "uv"
