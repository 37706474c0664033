"""Fake machines for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu.application import Application, application
from tests.gpu.machine import VERSIONS, Machine, machine


@pytest.fixture
def gpu(tmp_path: Path) -> Iterator[Machine]:
    """A machine with TensorRT 10.3, on which nothing may be left and nothing may have gone wrong."""
    with machine(tmp_path) as found:
        yield found
        found.check()


@pytest.fixture(params=VERSIONS, ids=lambda version: version[0])
def any_gpu(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The same, once for every TensorRT that differs."""
    with machine(tmp_path, *request.param) as found:
        yield found
        found.check()


@pytest.fixture
def app(gpu: Machine) -> Iterator[Application]:
    """An application beside our session on that machine."""
    with application(gpu.cuda) as made:
        yield made
