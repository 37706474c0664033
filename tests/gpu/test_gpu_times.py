"""GPU time of a session: between events on its own stream, with nothing copied, and the answers still right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.backends.trt_timed import gpu_times
from convcut_trt.errors import CudaError, InputError
from convcut_trt.measuring import latency, timed
from convcut_trt.measuring.entrants import Entrant, Work
from convcut_trt.measuring.latency import Measuring
from convcut_trt.measuring.results import IDLE, ON_GPU, STEADY, WHOLE
from tests import models
from tests.gpu.machine import BATCH, Machine, expected, faces, machine
from tests.measuring.test_results import example

RUNS = 12


@pytest.mark.parametrize("tail", [False, True], ids=["native", "kernel"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_run_lies_between_two_events(any_gpu: Machine, tail: bool, batch: int) -> None:
    with any_gpu.open(tail=tail) as session:
        session.run(faces(batch))
        times, probabilities = gpu_times(session, batch, RUNS)
        assert times.shape == (RUNS,)
        assert (times > 0).all()
        np.testing.assert_allclose(
            probabilities, expected(faces(batch))["probabilities"], rtol=1e-5, atol=1e-5
        )


def test_it_launches_graphs_and_copies_nothing_in_between(gpu: Machine) -> None:
    with gpu.open(tail=True) as session:
        for _ in range(2):
            session.run(faces(2))
        gpu_times(session, 2, RUNS)
        calls = gpu.cuda.calls
        calls.clear()
        session.run(faces(2, seed=3))
        gpu_times(session, 2, RUNS)
        assert calls["cuGraphLaunch"] == 1 + 3 + RUNS
        assert calls["cuEventRecord"] == RUNS + 1
        assert calls["cuEventCreate"] == calls["cuEventDestroy"] == RUNS + 1
        assert calls["cuMemcpyHtoDAsync"] == 0
        assert calls["cuMemcpyDtoHAsync"] == 1  # the last answers, after the last event


def test_answers_of_the_call_before_do_not_stand_for_those_of_the_runs(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gpu.open(tail=True) as session:
        session.run(faces(1))
        monkeypatch.setattr(
            "convcut_trt.backends.trt_slot.Slot.enqueue", lambda self, through_host: None
        )
        _, probabilities = gpu_times(session, 1, 2)
    assert np.isnan(probabilities).all()


@pytest.mark.parametrize("call", ["cuEventCreate", "cuEventRecord", "cuEventElapsedTime"])
def test_a_failing_driver_leaves_nothing_behind(tmp_path: Path, call: str) -> None:
    with machine(tmp_path) as gpu:
        with gpu.open(tail=True) as session:
            session.run(faces(1))
            gpu.cuda.fail(name=call)
            with pytest.raises(CudaError, match=call):
                gpu_times(session, 1, RUNS)
            assert session.run(faces(1))["probabilities"].shape == (1, 5)
        gpu.check()


def test_a_closed_session_is_not_timed(gpu: Machine) -> None:
    session = gpu.open()
    session.close()
    with pytest.raises(InputError, match="closed"):
        gpu_times(session, 1, RUNS)


def test_measuring_an_engine_takes_its_gpu_time_too(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_CHUNK", 4)
    monkeypatch.setattr(timed, "WARM_UP_S", 0.01)
    pictures = faces(6)
    spec = replace(models.zoo().spec, size=16, margin=0.0, classes=tuple("abcde"))
    box = (0.0, 0.0, 16.0, 16.0)
    wanted = expected(pictures)["probabilities"]
    work = Work(spec, pictures, wanted, tuple(pictures), (box,) * 6)
    subject = replace(example().measured[0].subject, name="small", batch=BATCH)
    entrant = Entrant(subject, work, lambda: gpu.open(tail=True), 1e-4, on_cpu=False)
    measuring = Measuring(entrant, (1, 2), 0.02)
    measuring.run(models.quiet)
    found = measuring.found()
    ways = [(series.way, series.batch) for series in found.series]
    steady = [(way, batch) for batch in (1, 2) for way in (STEADY, ON_GPU)]
    assert ways == [*steady, (IDLE, 1), (WHOLE, 1)]
    assert all(series.times.p50 for series in found.series if series.way == ON_GPU)
    assert found.not_measured == {}
    assert found.difference < 1e-4


@pytest.mark.gpu
def test_the_gpu_of_this_machine_is_faster_alone_than_with_the_host(tmp_path: Path) -> None:
    """A built engine of the zoo: its GPU time is part of the whole call."""
    from convcut_trt import backends
    from convcut_trt.backends.trt_session import TensorRTSession
    from convcut_trt.engine import open_session
    from convcut_trt.measuring.conditions import read
    from convcut_trt.measuring.timed import Timed, asking, sample
    from tests.building import make

    flavours = [
        name
        for name in ("tensorrt", "tensorrt-rtx")
        if backends.get(name).missing() is None and backends.get(name).can_run() is None
    ]
    if not flavours:
        pytest.skip("no TensorRT runs here")
    manifest = make(tmp_path, backend=flavours[0], batch=(1, 1, 1))
    pictures, wanted = manifest.spec.witness_faces(tmp_path)
    with open_session(manifest) as session:
        assert isinstance(session, TensorRTSession)
        batches = [pictures[row : row + 1] for row in range(len(pictures))]
        answers = [wanted[row : row + 1] for row in range(len(pictures))]
        call = Timed("engine", asking(session, batches), 1e-2, answers)
        whole = sample(call, 1.0, "whole", models.quiet)
        place = call.place
        call()
        alone, probabilities = gpu_times(session, 1, 200)
        call.check(place, probabilities)
    assert 0 < np.median(alone) < np.median(whole)
    state = read().gpu
    assert state is not None and state.sm_mhz
