"""Every call of driver and TensorRT fails once: nothing stays on the GPU, and the next call works or tells why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cuda.bindings.driver import CUresult

from convcut_trt.errors import ConvcutError, CudaError
from tests.gpu.machine import Machine, expected, faces, machine

UNKNOWN, ILLEGAL = CUresult.CUDA_ERROR_UNKNOWN, CUresult.CUDA_ERROR_ILLEGAL_ADDRESS


def day(gpu: Machine) -> bool:
    """A session's whole life. What fails is told by an error of ours; whether one was."""
    failed = False
    try:
        session = gpu.open(tail=True)
    except ConvcutError:
        return True
    try:
        for count in (1, 1, 5, 1, 2):
            try:
                given = session.run(faces(count, seed=count))
            except CudaError as error:
                assert str(error).count(":") >= 1  # what, and what to do
                failed = True
            else:
                check(given, count)
        # Whatever happened: it works, or the GPU is lost and every call says so.
        try:
            check(session.run(faces(3, seed=3)), 3)
        except CudaError as error:
            assert error.fatal or not failed
            failed = True
    finally:
        session.close()
    return failed


def check(given: dict[str, np.ndarray], count: int) -> None:
    for name, values in expected(faces(count, seed=count)).items():
        np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-5)


def calls_of_a_day(folder: Path, version: str, rtx: bool) -> int:
    folder.mkdir()
    with machine(folder, version, rtx) as gpu:
        assert not day(gpu)
        gpu.check()
        return gpu.cuda.total


@pytest.mark.parametrize(
    ("version", "rtx", "code"),
    [
        pytest.param("10.3.0", False, UNKNOWN, id="10.3, once"),
        pytest.param("1.7.1.116", True, ILLEGAL, id="rtx, lost"),
        pytest.param("10.3.0", False, ILLEGAL, id="10.3, lost", marks=pytest.mark.slow),
        pytest.param("1.7.1.116", True, UNKNOWN, id="rtx, once", marks=pytest.mark.slow),
    ],
)
def test_the_nth_call_fails(tmp_path: Path, version: str, rtx: bool, code: CUresult) -> None:
    total = calls_of_a_day(tmp_path / "whole", version, rtx)
    assert total > 100
    for nth in range(1, total + 1):
        folder = tmp_path / str(nth)
        folder.mkdir()
        with machine(folder, version, rtx) as gpu:
            gpu.cuda.fail(nth, code=code)
            day(gpu)
            try:
                gpu.check()
            except AssertionError as error:
                failed = list(gpu.cuda.log)[nth - 1]
                raise AssertionError(f"call {nth}, {failed}: {gpu.cuda.leaks()} {error}") from error
