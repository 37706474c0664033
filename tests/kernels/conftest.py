"""What the kernel tests share: binaries compiled once a session, and the compiler for GPUs."""

import shutil
from pathlib import Path

import pytest

from tests.kernels.host import HERE, HostTail, compile_host


@pytest.fixture(scope="session")
def host_tail(tmp_path_factory: pytest.TempPathFactory) -> HostTail:
    """``tail.cuh``, compiled for the host without sanitizers."""
    library = tmp_path_factory.mktemp("host") / "host_tail.so"
    return HostTail(compile_host(HERE / "host_tail.cpp", library, "-O1", "-shared", "-fPIC"))


@pytest.fixture(scope="session")
def nvcc() -> str:
    """The compiler, from PATH or where CUDA puts it."""
    places = [shutil.which("nvcc"), *sorted(Path("/usr/local").glob("cuda*/bin/nvcc"))]
    found = [str(place) for place in places if place]
    if not found:
        pytest.skip("no nvcc here")
    return found[0]
