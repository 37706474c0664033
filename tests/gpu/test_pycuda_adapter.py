"""An engine in an application that uses pycuda: GPUArrays in and out, its contexts left alone."""

from __future__ import annotations

import gc
import importlib
import inspect
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt import backends
from convcut_trt.engine import Engine
from convcut_trt.errors import BackendMissing, ConvcutError, InputError
from convcut_trt.gpu.pycuda_adapter import PycudaEngine
from convcut_trt.manifest import EngineManifest
from tests.gpu import fake_pycuda
from tests.gpu.fake_calls import SUCCESS
from tests.gpu.fake_pycuda import CudaFailed
from tests.gpu.machine import SIZE, Machine, expected, faces

SPEC = SimpleNamespace(size=SIZE, classes=tuple("abcde"), map_shape=(8, 4, 4))
MANIFEST = cast(EngineManifest, SimpleNamespace(spec=SPEC))


@dataclass
class App:
    """An application with pycuda and the primary context."""

    gpu: Machine
    driver: Any
    gpuarray: Any

    def engine(self, **options: Any) -> Engine:
        return Engine(MANIFEST, self.gpu.open(**options))

    def send(self, batch: NDArray[Any], stream: Any = None) -> Any:
        array = self.gpuarray.empty(batch.shape, batch.dtype)
        if stream is None:
            array.set(batch)
        else:
            array.set_async(batch, stream)
        return array


@pytest.fixture
def app(gpu: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    gpu.cuda.cuInit(0)
    found = fake_pycuda.modules(gpu.cuda)
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    driver = found["pycuda.driver"]
    driver.Device(0).retain_primary_context().push()
    before = gpu.cuda.stack()
    yield App(gpu, driver, found["pycuda.gpuarray"])
    assert gpu.cuda.stack() == before
    gc.collect()
    driver.Context.pop()


def same(answers: dict[str, Any], batch: NDArray[np.uint8]) -> None:
    assert tuple(answers) == ("logits", "probabilities", "map")
    for name, values in expected(batch).items():
        np.testing.assert_allclose(answers[name].get(), values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tail", [False, True], ids=["native", "kernel"])
def test_gpuarrays_go_in_and_come_out(app: App, tail: bool) -> None:
    with app.engine(tail=tail) as engine:
        adapter = PycudaEngine(engine)
        for count in (1, 3, 5, 0, 1):  # 4 is the engine's largest batch
            answers = adapter.infer(app.send(faces(count)))
            assert {type(array) for array in answers.values()} == {app.gpuarray.GPUArray}
            same(answers, faces(count))


def test_all_work_is_in_the_order_of_the_stream_and_the_host_does_not_wait(app: App) -> None:
    with app.engine() as engine:
        adapter = PycudaEngine(engine)
        adapter.infer(app.send(faces(2)))
        for seed in (1, 2, 3):
            stream = app.driver.Stream(1)  # does not wait for the default stream
            batch = app.send(faces(2, seed), stream)
            app.gpu.cuda.calls.clear()
            answers = adapter.infer(batch, stream=stream)
            assert not [call for call in app.gpu.cuda.calls if "Synchronize" in call]
            batch.set_async(np.zeros_like(faces(2)), stream)  # comes after the engine has read it
            del batch
            stream.synchronize()
            same(answers, faces(2, seed))


def test_out_is_written_to_and_the_rest_is_new(app: App) -> None:
    out = {"probabilities": app.gpuarray.empty((2, 5), np.float32)}
    with app.engine() as engine:
        answers = PycudaEngine(engine).infer(app.send(faces(2)), out)
    assert answers["probabilities"] is out["probabilities"]
    assert list(out) == ["probabilities"]
    same(answers, faces(2))


def test_answers_outlive_the_next_call_and_the_engine(app: App) -> None:
    with app.engine() as engine:
        adapter = PycudaEngine(engine)
        first = adapter.infer(app.send(faces(2, 1)))
        second = adapter.infer(app.send(faces(2, 2)))
    del adapter, engine
    same(first, faces(2, 1))
    same(second, faces(2, 2))


def test_whatever_call_fails_the_contexts_are_as_they_were_and_the_next_run_works(app: App) -> None:
    cuda = app.gpu.cuda
    with app.engine() as engine:
        adapter = PycudaEngine(engine)
        batch = app.send(faces(2))
        kept: list[object] = []  # pycuda's own freeing is not to be made to fail
        for _ in range(3):
            kept.clear()
            cuda.calls.clear()
            kept.append(adapter.infer(batch))
        calls, failed = cuda.total, 0
        assert calls > 10
        for nth in range(1, calls + 1):
            context = cuda.stack()
            kept.clear()
            cuda.fail(nth)
            try:
                kept.append(adapter.infer(batch))
            except (ConvcutError, CudaFailed):
                failed += 1
            cuda.forget_faults()
            assert cuda.stack() == context
            same(adapter.infer(batch), faces(2))
        assert failed > 10


def own_context(app: App) -> Any:
    return type(app.driver.Context.get_current())(app.gpu.cuda.foreign_context())


@pytest.mark.parametrize(
    ("bad", "fix"),
    [
        (lambda app: faces(2), "engine.infer()"),
        (lambda app: None, "GPUArray"),
        (lambda app: app.send(faces(2).astype(np.float32)), "uint8"),
        (lambda app: app.send(faces(2)[0]), r"\[N, 16, 16, 3\]"),
        (lambda app: app.gpuarray.empty((), np.uint8), r"\[N, 16, 16, 3\]"),
        (lambda app: every_second_row(app), "contiguous copy"),
        (lambda app: app.gpuarray.GPUArray((2, 16, 16, 3), np.uint8, gpudata=64), "freed"),
    ],
    ids=["numpy", "None", "float", "one face", "scalar", "strided", "freed"],
)
def test_faces_that_are_none_are_refused(app: App, bad: Callable[[App], Any], fix: str) -> None:
    with app.engine() as engine, pytest.raises(InputError, match=fix):
        PycudaEngine(engine).infer(bad(app))


def every_second_row(app: App) -> Any:
    whole = app.send(faces(4))
    strides = (2 * whole.strides[0], *whole.strides[1:])
    view = app.gpuarray.GPUArray
    return view((2, *whole.shape[1:]), np.uint8, gpudata=whole.gpudata, strides=strides, base=whole)


@pytest.mark.parametrize(
    ("out", "fix"),
    [
        (lambda app: {"scores": app.gpuarray.empty((2, 5), np.float32)}, "logits"),
        (lambda app: {"logits": app.gpuarray.empty((2, 4), np.float32)}, r"float32 \[2, 5\]"),
        (lambda app: {"logits": app.gpuarray.empty((2, 5), np.float16)}, r"float32 \[2, 5\]"),
        (lambda app: {"logits": np.empty((2, 5), np.float32)}, "engine.infer()"),
    ],
    ids=["unknown name", "wrong shape", "wrong dtype", "numpy"],
)
def test_arrays_that_no_answer_fits_are_refused(
    app: App, out: Callable[[App], dict[str, Any]], fix: str
) -> None:
    with app.engine() as engine, pytest.raises(InputError, match=fix):
        PycudaEngine(engine).infer(app.send(faces(2)), out(app))


def test_a_stream_is_pycudas_own(app: App) -> None:
    with app.engine() as engine, pytest.raises(InputError, match=r"pycuda\.driver\.Stream"):
        PycudaEngine(engine).infer(app.send(faces(2)), stream=app.driver.Stream().handle)


def test_a_context_that_is_not_the_primary_one_is_refused(app: App) -> None:
    with app.engine() as engine:
        adapter = PycudaEngine(engine)
        own = own_context(app)
        own.push()
        theirs = app.send(faces(2))
        with pytest.raises(InputError, match="retain_primary_context"):
            adapter.infer(theirs)
        own.pop()
        with pytest.raises(InputError, match=r"faces .*retain_primary_context"):
            adapter.infer(theirs)
        out = {"logits": theirs}
        with pytest.raises(InputError, match=r"out\['logits'\] .*retain_primary_context"):
            adapter.infer(app.send(faces(2)), out)
        del theirs, out


def test_a_thread_without_a_context_is_told_how_to_get_one(app: App) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            adapter.infer(batch)
        except Exception as error:
            errors.append(error)
        app.driver.Device(0).retain_primary_context().push()
        same(adapter.infer(batch), faces(2))
        app.driver.Context.pop()
        gc.collect()

    with app.engine() as engine:
        adapter, batch = PycudaEngine(engine), app.send(faces(2))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    (error,) = errors
    assert isinstance(error, InputError)
    assert "push()" in str(error)
    errors.clear()


def test_an_array_on_another_gpu_is_refused(app: App) -> None:
    attribute = app.gpu.cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    ask = app.gpu.cuda.cuPointerGetAttribute

    def elsewhere(kind: Any, address: Any) -> Any:
        return (SUCCESS, 1) if kind == attribute else ask(kind, address)

    with (
        app.engine() as engine,
        mock.patch.object(app.gpu.cuda, "cuPointerGetAttribute", elsewhere),
        pytest.raises(InputError, match="GPU 1"),
    ):
        PycudaEngine(engine).infer(app.send(faces(2)))


def test_an_engine_on_the_cpu_says_so(app: App) -> None:
    app.gpu.engine()
    session = backends.get("onnxruntime").open(app.gpu.folder / "small.onnx")
    with Engine(MANIFEST, session) as engine, pytest.raises(InputError, match="CPU"):
        PycudaEngine(engine).infer(app.send(faces(2)))


def test_a_missing_pycuda_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[pycuda\]"):
        PycudaEngine(Engine(MANIFEST, cast(Any, None)))


def test_the_fake_has_the_names_of_the_real_pycuda() -> None:
    pytest.importorskip("pycuda.driver", reason="no pycuda here", exc_type=ImportError)
    for module, names in fake_pycuda.public_names().items():
        real = importlib.import_module(module)
        for name in names:
            operator.attrgetter(name)(real)
    array = importlib.import_module("pycuda.gpuarray").GPUArray
    assert {"shape", "dtype", "gpudata", "strides", "base"} <= set(
        inspect.signature(array).parameters
    )


@pytest.mark.gpu
def test_pycuda_and_numpy_get_the_same_answers(tmp_path: Path) -> None:
    driver = pytest.importorskip("pycuda.driver", exc_type=ImportError)
    pytest.importorskip("tensorrt_rtx")
    from pycuda import gpuarray  # type: ignore[import-not-found]

    import convcut_trt as cc
    from convcut_trt.build import build
    from convcut_trt.request import Request
    from tests import models

    build(models.zoo(), Request("fp16", tmp_path, backend="tensorrt-rtx"), models.quiet)
    driver.init()
    driver.Device(0).retain_primary_context().push()
    try:
        with cc.load(tmp_path) as engine:
            batch = engine.spec.witness_faces(tmp_path)[0]
            stream = driver.Stream()
            answers = PycudaEngine(engine).infer(gpuarray.to_gpu(batch), stream=stream)
            stream.synchronize()
            for name, values in engine.infer(batch).items():
                np.testing.assert_array_equal(answers[name].get(), values)
            del answers
    finally:
        driver.Context.pop()
