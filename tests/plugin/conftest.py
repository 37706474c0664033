"""The plugin compiled for the host against TensorRT's headers, every version of them that is here."""

import os
from pathlib import Path

import pytest

from tests.kernels.conftest import nvcc as nvcc
from tests.plugin.host import Built, build

# A folder of folders that hold include/NvInfer.h, one for each version. TensorRT's own packages bring the headers.
HEADERS = sorted(
    path.parent
    for path in Path(os.environ.get("CONVCUT_TRT_HEADERS", "/nonexistent")).glob(
        "*/include/NvInfer.h"
    )
)


PARAMETERS: list[Path | None] = [*HEADERS] or [None]


@pytest.fixture(
    scope="session", params=PARAMETERS, ids=lambda path: path.parent.name if path else "none"
)
def headers(request: pytest.FixtureRequest) -> Path:
    """The include folder of one TensorRT version."""
    if request.param is None:
        pytest.skip("CONVCUT_TRT_HEADERS names no folder with headers of TensorRT")
    return Path(request.param)


@pytest.fixture(scope="session")
def built(nvcc: str, headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The plugin, the driver of these tests and a plugin registry."""
    return build(nvcc, headers, tmp_path_factory.mktemp(headers.parent.name))
