"""Faces and answers in GPU memory: in the order of streams, nobody waiting, and what is refused."""

from __future__ import annotations

import ctypes
import gc
import math
import weakref
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from convcut_trt.engine import Engine
from convcut_trt.errors import InputError
from convcut_trt.gpu import dlpack
from convcut_trt.gpu.arrays import DeviceArray
from convcut_trt.manifest import EngineManifest
from tests.gpu.application import (
    LEGACY,
    PER_THREAD,
    Application,
    Both,
    Exporter,
    Interface,
    application,
    size_of,
    waits,
)
from tests.gpu.asking import SHAPES, close_to, empty_out, engine
from tests.gpu.fake_cuda import ok
from tests.gpu.machine import Machine, faces

# What offers a picture; the stream on which its owner works, None for its own; whether infer is told.
Offer = Callable[[Application, np.ndarray, int], Any]
OFFERS: dict[str, tuple[Offer, int | None, bool]] = {
    "interface 3": (lambda a, p, s: a.interface(p, s, stream=s), None, False),
    "interface 3, legacy": (lambda a, p, s: a.interface(p, s, stream=s), LEGACY, False),
    "interface 3, per thread": (lambda a, p, s: a.interface(p, s, stream=s), PER_THREAD, False),
    "interface 2, legacy": (lambda a, p, s: a.interface(p, s), LEGACY, False),
    "interface 2, told": (lambda a, p, s: a.interface(p, s), None, True),
    "interface 3 of None, told": (lambda a, p, s: a.interface(p, s, stream=None), None, True),
    "DLPack, legacy": (lambda a, p, s: a.exporter(p, s), LEGACY, False),
    "DLPack, told": (lambda a, p, s: a.exporter(p, s), None, True),
    "both, told": (lambda a, p, s: a.exporter(p, s, Both), None, True),
}


@pytest.mark.parametrize("first", ["caller's stream", "ours"])
@pytest.mark.parametrize("name", OFFERS)
def test_work_of_the_caller_and_ours_is_in_the_order_of_its_stream(
    gpu: Machine, app: Application, name: str, first: str
) -> None:
    offer, stream, told = OFFERS[name]
    used = app.stream if stream is None else stream
    with engine(gpu, batch=(2, 2, 4)) as open_engine:
        for count in (1, 3, 4, 9, 0, 2, 2, 2):
            pictures = faces(count, seed=count)
            images = offer(app, pictures, used)
            before = waits(gpu.cuda)
            given = open_engine.infer(images, stream=used if told else None)
            app.overwrite(images.address, size_of(images), used)
            assert waits(gpu.cuda) == before
            assert all(isinstance(array, DeviceArray) for array in given.values())
            if first == "ours":  # runs, and nothing of the caller's but what it waits for
                close_to({n: array.numpy() for n, array in given.items()}, pictures)
            close_to({n: app.read(array, used) for n, array in given.items()}, pictures)


def test_every_tensorrt_takes_them_with_the_tail_kernel_too(any_gpu: Machine) -> None:
    with application(any_gpu.cuda) as app, engine(any_gpu, tail=True) as open_engine:
        for count in (3, 3, 3, 6):
            pictures = faces(count, seed=count)
            given = open_engine.infer(app.exporter(pictures, app.stream), stream=app.stream)
            close_to({n: app.read(array, app.stream) for n, array in given.items()}, pictures)


def test_the_host_waits_for_nothing_but_its_own_copy(gpu: Machine, app: Application) -> None:
    """What a first call of a shape, a captured one and a launched one ask of the driver."""
    with engine(gpu) as open_engine:
        for _ in range(4):
            gpu.cuda.calls.clear()
            open_engine.infer(app.interface(faces(2), app.stream, stream=app.stream))
            assert waits(gpu.cuda) == 0
        assert gpu.cuda.calls["cuGraphLaunch"] == 1
        assert gpu.cuda.calls["execute_async_v3"] == 0


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda app, array: array.numpy(), id="numpy"),
        pytest.param(lambda app, array: app.import_interface(array), id="interface"),
        pytest.param(lambda app, array: app.import_dlpack(array, stream=app.stream), id="DLPack"),
        pytest.param(lambda app, array: app.import_dlpack(array), id="DLPack, legacy"),
        pytest.param(lambda app, array: app.import_dlpack(array, stream=None), id="DLPack, None"),
    ],
)
@pytest.mark.parametrize("count", [2, 0])
def test_answers_say_by_themselves_when_they_are_ready(
    gpu: Machine, app: Application, count: int, read: Callable[[Application, Any], np.ndarray]
) -> None:
    pictures = faces(count)
    images = app.interface(pictures, app.stream, stream=None)
    ok(gpu.cuda.cuStreamSynchronize(app.stream))  # by None its owner says that nobody need wait
    with engine(gpu) as open_engine:
        given = open_engine.infer(images)
        close_to({name: read(app, array) for name, array in given.items()}, pictures)
        assert {name: len(array) for name, array in given.items()} == dict.fromkeys(SHAPES, count)


def test_without_a_stream_nobody_is_made_to_wait(gpu: Machine, app: Application) -> None:
    with engine(gpu) as open_engine:
        array = open_engine.infer(app.exporter(faces(1), LEGACY))["logits"]
        gpu.cuda.calls.clear()
        content = dlpack.take(array.__dlpack__(stream=-1))
        assert gpu.cuda.total == 0
        content.release()


@pytest.mark.parametrize("kind", ["interface", "DLPack"])
@pytest.mark.parametrize("count", [1, 6])
def test_out_on_the_gpu_is_written_after_what_its_owner_does_with_it(
    gpu: Machine, app: Application, kind: str, count: int
) -> None:
    pictures = faces(count)
    with engine(gpu) as open_engine:
        for _ in range(3):
            out = empty_out(app, count, app.stream, kind)
            before = waits(gpu.cuda)
            given = open_engine.infer(app.exporter(pictures, app.stream), out, stream=app.stream)
            assert waits(gpu.cuda) == before
            assert all(given[name] is array for name, array in out.items())
            close_to({name: app.read(a, app.stream) for name, a in given.items()}, pictures)


def test_out_may_have_other_streams_than_the_faces(gpu: Machine, app: Application) -> None:
    pictures = faces(2)
    with engine(gpu) as open_engine:
        out = empty_out(app, 2, LEGACY)
        given = open_engine.infer(app.interface(pictures, app.stream, stream=app.stream), out)
        close_to({name: app.read(a, LEGACY) for name, a in given.items()}, pictures)


def test_outputs_without_an_array_get_one(gpu: Machine, app: Application) -> None:
    pictures = faces(3)
    with engine(gpu) as open_engine:
        out = {"map": empty_out(app, 3, app.stream)["map"]}
        given = open_engine.infer(app.exporter(pictures, app.stream), out, stream=app.stream)
        assert given["map"] is out["map"]
        assert isinstance(given["logits"], DeviceArray)
        close_to({name: app.read(a, app.stream) for name, a in given.items()}, pictures)


@pytest.mark.parametrize("count", [1, 9, 0])
def test_out_in_host_memory_is_there_when_infer_returns(
    gpu: Machine, app: Application, count: int
) -> None:
    pictures = faces(count)
    with engine(gpu) as open_engine:
        for _ in range(3):
            out = {"logits": np.full((count, 5), np.nan, np.float32)}
            given = open_engine.infer(app.exporter(pictures, app.stream), out, stream=app.stream)
            assert given["logits"] is out["logits"]
            assert all(isinstance(array, np.ndarray) for array in given.values())
            close_to(given, pictures)


def test_out_in_pinned_memory_is_waited_for_too(gpu: Machine, app: Application) -> None:
    out, addresses = {}, []
    for name, shape in SHAPES.items():
        size = 2 * 4 * math.prod(shape)
        addresses.append(ok(gpu.cuda.cuMemHostAlloc(size, 0)))
        pinned = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses[-1]))
        out[name] = pinned.view(np.float32).reshape(2, *shape)
    with engine(gpu) as open_engine:
        for seed in range(3):
            given = open_engine.infer(app.exporter(faces(2, seed), LEGACY), out)
            close_to(given, faces(2, seed))
    for address in addresses:
        ok(gpu.cuda.cuMemFreeHost(address))


class Lie(Exporter):
    """Says that an array of numpy lies on the GPU: for capsules with what ours never hold."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, *, stream: int | None = None) -> object:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, 0


class Again(Exporter):
    """Gives the same capsule every time."""

    def __dlpack__(self, *, stream: int | None = None) -> object:
        if not hasattr(self, "_capsule"):
            self._capsule = super().__dlpack__(stream=stream)
            dlpack.take(self._capsule).release()
        return self._capsule


def _good(app: Application) -> Exporter:
    return app.exporter(faces(2), app.stream)


def _out(app: Application, **arrays: Any) -> dict[str, Any]:
    return {**empty_out(app, 2, app.stream), **arrays}


def _floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


U8, F32 = np.dtype(np.uint8), np.dtype(np.float32)
STRIPED = np.zeros((2, 16, 16, 6), np.uint8)[..., ::2]
# Faces and out that are refused, with a word of the reason.
REFUSED: dict[str, tuple[Callable[[Application], Any], Callable[[Application], Any], str]] = {
    "shape": (lambda a: a.exporter(faces(2)[:, :8].copy(), 1), lambda a: None, "takes uint8"),
    "rank": (lambda a: a.exporter(faces(2)[0], 1), lambda a: None, "takes uint8"),
    "dtype": (lambda a: a.interface(_floats(2, 16, 16, 3), 1), lambda a: None, "float32"),
    "strides, interface": (
        lambda a: Interface(a.memory(4096), STRIPED.shape, U8, strides=STRIPED.strides),
        lambda a: None,
        "contiguous",
    ),
    "strides, DLPack": (lambda a: Lie(STRIPED), lambda a: None, "contiguous"),
    "no such type": (lambda a: Lie(np.zeros(3, complex)), lambda a: None, "DLPack type"),
    "another GPU": (
        lambda a: Exporter(a.cuda, 1, a.memory(2 * 768), (2, 16, 16, 3), U8, device=1),
        lambda a: None,
        "on GPU 1",
    ),
    "a used capsule": (
        lambda a: Again(a.cuda, 1, a.memory(2 * 768), (2, 16, 16, 3), U8),
        lambda a: None,
        "taken before",
    ),
    "out: mixed": (_good, lambda a: _out(a, logits=_floats(2, 5)), "numpy arrays alone"),
    "out: none of ours": (_good, lambda a: {"extra": _good(a)}, "no output"),
    "out: none of ours, numpy": (_good, lambda a: {"extra": _floats(2, 5)}, "no output"),
    "out: no array": (_good, lambda a: _out(a, logits=[0.0]), "no array in GPU memory"),
    "out: shape": (
        _good,
        lambda a: _out(a, logits=a.interface(_floats(3, 5), 1)),
        "has to be float32",
    ),
    "out: dtype": (
        _good,
        lambda a: _out(a, logits=a.exporter(np.zeros((2, 5)), 1)),
        "has to be float32",
    ),
    "out: numpy's shape": (_good, lambda a: {"logits": _floats(3, 5)}, "has to be float32"),
    "out: another GPU": (
        _good,
        lambda a: _out(a, logits=Exporter(a.cuda, 1, a.memory(40), (2, 5), F32, device=1)),
        "on GPU 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_and_let_go(
    gpu: Machine, app: Application, name: str
) -> None:
    bad_images, bad_out, reason = REFUSED[name]
    with engine(gpu) as open_engine:
        images, out = bad_images(app), bad_out(app)
        kept = [weakref.ref(images)]
        kept += [weakref.ref(a) for a in (out or {}).values() if not isinstance(a, list)]
        with pytest.raises(InputError, match=reason):
            open_engine.infer(images, out)
        del images, out
        gc.collect()
        assert not any(ref() for ref in kept)
        close_to(open_engine.infer(faces(2)), faces(2))


def test_arrays_of_other_libraries_in_host_memory_are_taken(gpu: Machine) -> None:
    class HostArray:  # as a torch tensor on the CPU
        def __dlpack__(self, **named: Any) -> object:
            return faces(3).__dlpack__(**named)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    with engine(gpu) as open_engine:
        close_to(open_engine.infer(HostArray()), faces(3))


def test_an_engine_on_the_cpu_says_that_it_takes_none(gpu: Machine, app: Application) -> None:
    from convcut_trt import backends

    path, _ = gpu.engine()
    typed = path.with_suffix(".onnx")
    session = backends.get("onnxruntime").open(typed)
    with Engine(cast(EngineManifest, None), session) as open_engine, pytest.raises(InputError):
        open_engine.infer(app.exporter(faces(1), LEGACY))
