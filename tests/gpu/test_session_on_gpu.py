"""A session on a real GPU, behind whichever TensorRT is here: gates, graphs, arrays of others, threads, leaks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt import backends, devices
from convcut_trt.backends import probe
from convcut_trt.backends.base import BuildOptions
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.build import build
from convcut_trt.engine import Engine, load
from convcut_trt.errors import (
    BuildError,
    ConvcutError,
    CudaError,
    EngineMismatch,
    InputError,
)
from convcut_trt.gates import judged
from convcut_trt.gpu.driver import Cuda
from convcut_trt.network import read_model
from convcut_trt.precision.typed import form_of, to_typed
from convcut_trt.request import Request
from tests import models
from tests.gpu.on_gpu import fresh

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
ENGINES = [
    (flavour, tail) for flavour in ("tensorrt-rtx", "tensorrt") for tail in ("native", "kernel")
]
BATCH = (1, 4, 16)
RUNS = 10_000
LEAK_BYTES = 2 << 20  # of the driver's own bookkeeping, and of others on the GPU


def listed(flavour: str) -> bool:
    """Whether this TensorRT says that it has engines for the GPU that is here."""
    found = probe.gpu()
    assert not isinstance(found, str)
    return any(
        device.compute_capability == found.compute_capability and flavour in device.flavours
        for device in devices.known().values()
    )


@pytest.fixture(scope="module", params=ENGINES, ids=" ".join)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with one engine, built and judged on this GPU; skips where this TensorRT does not run here."""
    flavour, tail = request.param
    if reason := backends.get(flavour).can_run():
        pytest.skip(f"{flavour}: {reason}")
    path = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("CONVCUT_HOME", str(tmp_path_factory.mktemp("home")))
        wanted = Request("fp16", path, backend=flavour, batch=BATCH, tail=tail)
        try:
            build(models.zoo(), wanted, models.quiet)
        except ConvcutError as error:
            if listed(flavour):
                raise
            # That it says so, on a chip that it does not list, is the result.
            pytest.skip(f"{flavour} on this chip: {error} {error.log}")
        yield path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    """The engine, open."""
    with load(folder) as opened:
        yield opened


def pictures(engine: Engine, count: int, what: str) -> Any:
    """Random faces of its size."""
    size = engine.spec.size
    return fresh(what).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def equal(given: Any, expected: Any) -> None:
    """All outputs have the same bits."""
    assert set(given) == set(expected) == {"logits", "probabilities", "map"}
    for name, values in expected.items():
        np.testing.assert_array_equal(given[name], values)


def test_the_engine_itself_passed_all_gates(engine: Engine) -> None:
    assert engine.verified
    found = {gate["name"]: gate["verdict"] for gate in engine.manifest.gates}
    assert {"fidelity, median", "fidelity, 99 %", "flips", "batch invariance"} <= set(found)
    assert "fail" not in found.values()


def test_answers_are_those_of_the_model_within_its_precision(engine: Engine) -> None:
    faces = judged.bundled(engine.spec.size, 32).faces
    wanted = models.run(models.network("zoo"), faces)
    given = engine.infer(faces)
    relative = np.linalg.norm(given["map"] - wanted["map"]) / np.linalg.norm(wanted["map"])
    assert relative < 1e-2
    np.testing.assert_allclose(given["probabilities"], wanted["probabilities"], atol=2e-2)


def test_graph_and_no_graph_are_equal(engine: Engine) -> None:
    for count in (1, 3, 16, 37):
        faces = pictures(engine, count, f"graph {count}")
        first = engine.infer(faces)  # no graph yet
        for _ in range(3):
            equal(engine.infer(faces), first)


def test_zero_faces_are_an_empty_answer(engine: Engine) -> None:
    given = engine.infer(pictures(engine, 0, "none"))
    assert {len(values) for values in given.values()} == {0}


def has_torch() -> Any:
    """torch, if it sees the GPU."""
    torch: Any = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch


def on_stream_of_torch(engine: Engine, faces: Any, out: Any = None) -> dict[str, Any]:
    """Answers for faces that torch has made on a stream of its own, with no wait in between; as torch tensors."""
    torch = has_torch()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        given = torch.from_numpy(faces).pin_memory().cuda(non_blocking=True)
        torch.cuda._sleep(20_000_000)  # 10 ms in which an answer that does not wait goes wrong
        late = (given ^ 0).contiguous()
        found = engine.infer(late, out, stream=stream.cuda_stream)
        del given
        late.zero_()  # later work on the stream may write to the input
        taken = {name: torch.from_dlpack(array).clone() for name, array in found.items()}
    stream.synchronize()
    return taken


def test_tensors_of_torch_go_in_and_out(engine: Engine) -> None:
    for count in (1, 5, 37):
        faces = pictures(engine, count, f"torch {count}")
        expected = engine.infer(faces)
        for _ in range(3):
            found = on_stream_of_torch(engine, faces)
            equal({name: tensor.cpu().numpy() for name, tensor in found.items()}, expected)


def test_tensors_of_torch_are_written_to(engine: Engine) -> None:
    torch = has_torch()
    faces = pictures(engine, 6, "torch out")
    expected = engine.infer(faces)
    out = {
        name: torch.full(values.shape, torch.nan, device="cuda")
        for name, values in expected.items()
    }
    torch.cuda.synchronize()
    found = on_stream_of_torch(engine, faces, out)
    equal({name: tensor.cpu().numpy() for name, tensor in out.items()}, expected)
    assert set(found) == set(out)


def test_arrays_of_cupy_go_in_and_out(engine: Engine) -> None:
    cupy = pytest.importorskip("cupy")
    faces = pictures(engine, 5, "cupy")
    expected = engine.infer(faces)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        found = engine.infer(cupy.asarray(faces), stream=stream.ptr)
        through_dlpack = {name: cupy.from_dlpack(array).copy() for name, array in found.items()}
        through_interface = {name: cupy.asarray(array).copy() for name, array in found.items()}
    for taken in (through_dlpack, through_interface):
        equal({name: cupy.asnumpy(array) for name, array in taken.items()}, expected)
    equal({name: array.numpy() for name, array in found.items()}, expected)


def test_arrays_of_pycuda_go_in_and_out(engine: Engine) -> None:
    cuda = pytest.importorskip("pycuda.driver")
    gpuarray = pytest.importorskip("pycuda.gpuarray")
    from convcut_trt.gpu.pycuda_adapter import PycudaEngine

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        faces = pictures(engine, 5, "pycuda")
        expected = engine.infer(faces)
        stream = cuda.Stream()
        found = PycudaEngine(engine).infer(gpuarray.to_gpu(faces), stream=stream)
        stream.synchronize()
        equal({name: array.get() for name, array in found.items()}, expected)
        assert cuda.Context.get_current() is not None
        del found
    finally:
        context.pop()


def test_eight_threads_with_clones(engine: Engine) -> None:
    counts = (1, 2, 3, 5, 8, 13, 16, 20)
    batches = [pictures(engine, count, f"thread {count}") for count in counts]
    expected = [engine.infer(faces) for faces in batches]
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with engine.clone() as own:
                for _ in range(200):
                    equal(own.infer(batches[number]), expected[number])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]


def test_threads_on_one_session_wait_for_each_other(engine: Engine) -> None:
    batches = [pictures(engine, count, f"one session {count}") for count in (1, 4, 7)]
    expected = [engine.infer(faces) for faces in batches]
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(100):
                equal(engine.infer(batches[number]), expected[number])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]


def free_bytes() -> int:
    """Of the GPU's memory."""
    with Cuda() as cuda:
        free, _ = cuda.check(cuda.api.cuMemGetInfo(), "cuMemGetInfo")
    return int(free)


def host_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_nothing_leaks_over_ten_thousand_runs(engine: Engine) -> None:
    faces = pictures(engine, 16, "leaks")
    expected = engine.infer(faces)
    out = {name: np.empty_like(values) for name, values in expected.items()}

    def some(runs: int) -> None:
        for number in range(runs):
            engine.infer(faces[: 1 + number % 16])
            if number % 100 == 0:
                with engine.clone() as other:
                    other.infer(faces, out)

    some(400)
    gpu_before, host_before = free_bytes(), host_bytes()
    some(RUNS)
    assert gpu_before - free_bytes() <= LEAK_BYTES
    assert host_bytes() - host_before <= 32 << 20
    equal(engine.infer(faces), expected)


def test_opening_and_closing_leaks_nothing(folder: Path) -> None:
    def once() -> None:
        with load(folder) as engine:
            engine.infer(pictures(engine, 3, "open"))

    for _ in range(3):
        once()
    before = free_bytes()
    for _ in range(20):
        once()
    assert before - free_bytes() <= LEAK_BYTES


def test_it_closes_twice_and_then_says_so(folder: Path) -> None:
    engine = load(folder)
    faces = pictures(engine, 1, "close")
    engine.infer(faces)
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.infer(faces)


def test_a_session_says_that_the_gpu_is_lost_and_its_process_lives(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.illegal", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["lost", "lost", "alive"]


@pytest.mark.parametrize(("sm", "key"), [("sm_90", "h200"), ("sm_89", "rtx4060ti")])
def test_an_rtx_engine_built_ahead_loads_where_it_belongs_or_says_why_not(
    sm: str, key: str, tmp_path: Path
) -> None:
    backend = backends.get("tensorrt-rtx")
    if reason := backend.can_run():
        pytest.skip(reason)
    assert isinstance(backend, TensorRT)
    # As on a machine without this GPU. RTX does not list sm_90: whether it builds is part of the question.
    device = replace(devices.find(key), flavours=("tensorrt-rtx",))
    typed = tmp_path / "typed.onnx"
    form = form_of("fp16", False, None, None)
    typed.write_bytes(to_typed(read_model(models.zoo()), form, None).model.SerializeToString())
    plan = tmp_path / "ahead.engine"
    try:
        built = backend.build(typed, BuildOptions((1, 1, 1), (device,)))
    except (BuildError, InputError) as error:
        pytest.skip(f"TensorRT-RTX does not build for {sm}: {error} {error.log}")
    plan.write_bytes(built.engine)
    faces = judged.bundled(models.zoo().spec.size, 4).faces
    with Cuda() as cuda:
        here = "sm_{}{}".format(*cuda.compute_capability)
    try:
        with backend.open(plan) as session:
            given = session.run(faces)
    except (EngineMismatch, CudaError) as error:
        assert str(error)
        pytest.skip(f"TensorRT-RTX, an engine for {sm} on {here}: {error} {error.log}")
    wanted = models.run(models.network("zoo"), faces)
    np.testing.assert_allclose(given["probabilities"], wanted["probabilities"], atol=2e-2)


def test_a_damaged_engine_is_refused_before_it_is_opened(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for plan in copy.glob("*.engine"):
        plan.write_bytes(plan.read_bytes()[::-1])
    with pytest.raises(ConvcutError):
        load(copy)
