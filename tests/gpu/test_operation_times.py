"""Times of a session's operations: of its own engine, in runs whose answers are right, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convcut_trt.backends.trt_profile import operation_times
from convcut_trt.backends.trt_timed import gpu_times
from convcut_trt.errors import CudaError, InputError
from tests.gpu.fake_trt_context import OPERATION_MS
from tests.gpu.machine import VERSIONS, Machine, expected, faces, machine, network

RUNS = 5
NAMES = [node.output[0] for node in network().graph.node]


@pytest.mark.parametrize("batch", [1, 3])
def test_every_operation_has_a_time_in_every_run(any_gpu: Machine, batch: int) -> None:
    with any_gpu.open() as session:
        session.run(faces(batch))
        times, probabilities = operation_times(session, batch, RUNS)
        assert list(times) == NAMES
        for place, values in enumerate(times.values()):
            np.testing.assert_allclose(values, np.full(RUNS, OPERATION_MS * (place + 1)))
        np.testing.assert_allclose(
            probabilities, expected(faces(batch))["probabilities"], rtol=1e-5, atol=1e-5
        )


def test_no_run_is_a_graph_and_the_session_keeps_its_own(gpu: Machine) -> None:
    with gpu.open() as session:
        for _ in range(3):
            session.run(faces(2))
        calls = gpu.cuda.calls
        calls.clear()
        operation_times(session, 2, RUNS)
        assert calls["cuGraphLaunch"] == calls["cuStreamBeginCapture"] == 0
        assert calls["report_to_profiler"] == RUNS
        calls.clear()
        session.run(faces(2))
        gpu_times(session, 2, RUNS)
        assert (
            calls["cuGraphLaunch"] == 1 + 2 + RUNS
        )  # the first of the GPU's way is not captured yet
        assert calls["execute_async_v3"] == 2 and calls["report_to_profiler"] == 0


def test_an_operation_told_twice_in_a_run_counts_twice(gpu: Machine) -> None:
    with gpu.open() as session:
        session.run(faces(1))
        operations = session._loaded._engine.operations
        operations.append(operations[0])
        times, _ = operation_times(session, 1, 2)
    assert list(times) == NAMES
    np.testing.assert_allclose(times[NAMES[0]], np.full(2, OPERATION_MS * (len(NAMES) + 2)))


def test_a_tensorrt_that_tells_nothing_has_told_nothing(any_gpu: Machine) -> None:
    any_gpu.trt.tells = False
    with any_gpu.open() as session:
        session.run(faces(1))
        times, probabilities = operation_times(session, 1, RUNS)
    assert times == {} and probabilities.shape == (1, 5)


def test_answers_of_the_call_before_do_not_stand_for_those_of_the_runs(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu.open() as session:
        session.run(faces(1))
        monkeypatch.setattr("convcut_trt.backends.trt_profile._report", lambda context: True)
        monkeypatch.setattr("convcut_trt.backends.trt_slot.Slot._put", lambda *_, **__: None)
        _, probabilities = operation_times(session, 1, 2)
    assert np.isnan(probabilities).all()


@pytest.mark.parametrize(("version", "rtx"), [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize(
    ("call", "nth", "says"),
    [
        ("report_to_profiler", 1, "tell the times of its operations"),
        ("report_to_profiler", 3, "tell the times of its operations"),
        ("execute_async_v3", 1, "run a batch of 1"),
        ("execute_async_v3", 5, "run a batch of 1"),
        ("create_execution_context", 1, "create an execution context"),
        ("set_tensor_address", 2, "take a batch of 1"),
        ("cuMemsetD8Async", 1, "cuMemsetD8Async"),
        ("cuStreamSynchronize", 2, "cuStreamSynchronize"),
    ],
)
def test_what_fails_leaves_nothing_behind(
    tmp_path: Path, call: str, nth: int, says: str, version: str, rtx: bool
) -> None:
    with machine(tmp_path, version, rtx) as gpu:
        with gpu.open() as session:
            session.run(faces(1))
            gpu.cuda.fail(nth, call)
            with pytest.raises(CudaError, match=says):
                operation_times(session, 1, RUNS)
            assert session.run(faces(1))["probabilities"].shape == (1, 5)
        gpu.check()


def test_a_closed_session_tells_nothing(gpu: Machine) -> None:
    session = gpu.open()
    session.close()
    with pytest.raises(InputError, match="closed"):
        operation_times(session, 1, RUNS)


@pytest.mark.gpu
def test_the_gpu_of_this_machine_tells_the_times_of_its_operations(tmp_path: Path) -> None:
    """Together they take about as long as the whole, or nothing is told."""
    from convcut_trt import backends
    from convcut_trt.backends.trt_session import TensorRTSession
    from convcut_trt.engine import open_session
    from tests.building import make

    ready = [
        name
        for name in ("tensorrt", "tensorrt-rtx")
        if backends.get(name).missing() is None and backends.get(name).can_run() is None
    ]
    if not ready:
        pytest.skip("no TensorRT runs here")
    manifest = make(tmp_path, backend=ready[0], batch=(1, 1, 1))
    pictures, wanted = manifest.spec.witness_faces(tmp_path)
    with open_session(manifest) as session:
        assert isinstance(session, TensorRTSession)
        session.run(pictures[:1])
        whole, _ = gpu_times(session, 1, 200)
        times, probabilities = operation_times(session, 1, 50)
    assert np.abs(probabilities - wanted[:1]).max() < 1e-2
    if times:
        parts = float(np.median(sum(times.values())))
        assert 0.5 * np.median(whole) < parts < 20 * np.median(whole)
