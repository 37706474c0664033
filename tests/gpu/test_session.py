"""A TensorRT session on a fake GPU: what it answers, and what it leaves behind."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convcut_trt.backends import probe
from convcut_trt.errors import BackendMissing, EngineMismatch, InputError
from convcut_trt.gpu.driver import Cuda
from tests.gpu.machine import BATCH, Machine, expected, faces, machine


@pytest.mark.parametrize("tail", [False, True], ids=["native", "kernel"])
def test_any_number_of_faces_gets_the_answers_of_the_network(any_gpu: Machine, tail: bool) -> None:
    with any_gpu.open(tail=tail) as session:
        for count in (1, 2, 3, 4, 5, 9, 0, 1, 1, 4, 4):
            pictures = faces(count, seed=count)
            given = session.run(pictures)
            assert tuple(given) == ("logits", "probabilities", "map")
            for name, values in expected(pictures).items():
                np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-5)


def test_from_the_second_call_on_a_shape_is_one_graph(any_gpu: Machine) -> None:
    with any_gpu.open(tail=True) as session:
        for _ in range(3):
            session.run(faces(1))
        calls = any_gpu.cuda.calls
        calls.clear()
        session.run(faces(1, seed=5))
        assert calls["cuGraphLaunch"] == calls["cuStreamSynchronize"] == 1
        assert set(calls) == {
            "cuGraphLaunch",
            "cuStreamSynchronize",
            "cuCtxPushCurrent",
            "cuCtxPopCurrent",
        }


def test_graph_and_no_graph_are_equal(gpu: Machine) -> None:
    pictures = faces(2)
    with gpu.open(tail=True) as session:
        plain = session.run(pictures)
        captured = session.run(pictures)
    for name, values in plain.items():
        np.testing.assert_array_equal(captured[name], values)


@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"]
)
def test_what_cannot_be_captured_runs_without_a_graph_and_says_so(
    gpu: Machine, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    gpu.cuda.fail(name=call)
    with caplog.at_level(logging.WARNING), gpu.open() as session:
        for _ in range(4):
            given = session.run(faces(1))
            np.testing.assert_allclose(given["map"], expected(faces(1))["map"], rtol=1e-5)
    assert sum("runs without a CUDA graph" in message for message in caplog.messages) == 1
    assert gpu.cuda.calls["cuGraphLaunch"] == 0


def test_rtx_captures_by_itself_what_we_cannot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with machine(tmp_path, "1.7.1.116", rtx=True) as rtx:
        with caplog.at_level(logging.INFO), rtx.open(capturable=False, tail=True) as session:
            for _ in range(3):
                given = session.run(faces(1))
                np.testing.assert_allclose(given["map"], expected(faces(1))["map"], rtol=1e-5)
        assert "TensorRT-RTX captures its own CUDA graphs" in caplog.text
        assert rtx.cuda.calls["cuStreamBeginCapture"] == 0
        rtx.check()


def test_only_so_many_batch_sizes_are_kept(gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convcut_trt.backends.trt_session.MOST_SLOTS", 2)
    with gpu.open() as session:
        for count in (1, 1, 2, 2, 3, 3, 1):
            np.testing.assert_allclose(
                session.run(faces(count))["map"], expected(faces(count))["map"], rtol=1e-5
            )
            assert gpu.cuda.leaks()["execution contexts"] <= 2
            assert gpu.cuda.leaks().get("executables", 0) <= 2


def test_answers_are_the_callers_own(gpu: Machine) -> None:
    with gpu.open() as session:
        first = session.run(faces(1, seed=1))
        kept = {name: values.copy() for name, values in first.items()}
        session.run(faces(1, seed=2))
    for name, values in kept.items():
        np.testing.assert_array_equal(first[name], values)


def test_out_is_written_to(gpu: Machine) -> None:
    out = {"logits": np.zeros((5, 5), np.float32)}
    with gpu.open() as session:
        given = session.run(faces(5), out)
    assert given["logits"] is out["logits"]
    np.testing.assert_allclose(out["logits"], expected(faces(5))["logits"], rtol=1e-5)


def test_a_fixed_batch_serves_fewer_and_more(gpu: Machine) -> None:
    with gpu.open(batch=(4, 4, 4), tail=True) as session:
        for count in (1, 4, 6):
            given = session.run(faces(count))
            np.testing.assert_allclose(
                given["probabilities"],
                expected(faces(count))["probabilities"],
                rtol=1e-5,
                atol=1e-6,
            )


def test_it_closes_twice_and_then_says_so(gpu: Machine) -> None:
    session = gpu.open()
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(faces(1))
    with pytest.raises(InputError, match="closed"):
        session.clone()


def test_a_clone_shares_the_engine_and_outlives_the_first(gpu: Machine) -> None:
    session = gpu.open(tail=True)
    clone = session.clone()
    assert gpu.cuda.leaks()["engines"] == 1
    session.close()
    np.testing.assert_allclose(
        clone.run(faces(1))["logits"], expected(faces(1))["logits"], rtol=1e-5
    )
    clone.close()


def test_what_is_no_engine_is_refused(any_gpu: Machine) -> None:
    path, _ = any_gpu.engine()
    path.write_bytes(b"\0" * 100)
    from convcut_trt import backends

    with pytest.raises(EngineMismatch, match="build it again"):
        backends.get(any_gpu.flavour).open(path)


def test_an_engine_of_another_version_is_refused(any_gpu: Machine) -> None:
    with pytest.raises(EngineMismatch, match=r"build it again here with convcut-trt build"):
        any_gpu.open(version="9.9.9")


def test_engine_and_manifest_have_to_agree_on_where_it_ends(gpu: Machine) -> None:
    from convcut_trt import backends

    path, tail = gpu.engine(tail=True)
    with pytest.raises(EngineMismatch, match="gives map, and by its manifest"):
        backends.get(gpu.flavour).open(path)
    path, _ = gpu.engine()
    with pytest.raises(EngineMismatch, match="by its manifest it gives map"):
        backends.get(gpu.flavour).open(path, tail=tail)


def test_rtx_compiles_once_for_all_processes(any_gpu: Machine) -> None:
    folder = any_gpu.folder / "home" / "runtime"
    with any_gpu.open() as session:
        session.run(faces(BATCH[2]))
    if not any_gpu.trt.rtx:
        assert not folder.exists()
        return
    (kept,) = folder.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    before = kept.read_bytes()
    with any_gpu.open() as session:
        session.run(faces(BATCH[2]))
        assert kept.read_bytes() == before
        session.run(faces(1))
        assert kept.read_bytes() != before


def test_without_a_driver_it_says_what_to_do() -> None:
    if probe.gpu() != "no NVIDIA driver here":
        pytest.skip("there is an NVIDIA driver here")
    with pytest.raises(BackendMissing, match="no NVIDIA driver here"):
        Cuda()


@pytest.mark.parametrize("module", ["gpu.driver", "gpu.arrays", "backends.trt_session", "tails"])
def test_every_door_of_the_runtime_may_be_the_first(module: str) -> None:
    code = f"import convcut_trt.{module}"
    subprocess.run([sys.executable, "-c", code], check=True)
