"""The wheel that environments are made from."""

from pathlib import Path

import pytest

from tests.test_packaging import build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine without nvcc."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), "cmake.define.CMAKE_CUDA_COMPILER=")
