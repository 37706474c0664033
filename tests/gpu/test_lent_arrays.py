"""Faces and answers in GPU memory: whose they are, and until when."""

from __future__ import annotations

import gc
import weakref

import pytest

from convcut_trt.errors import CudaError, InputError
from convcut_trt.gpu import dlpack
from tests.gpu.application import LEGACY, Application
from tests.gpu.asking import close_to, empty_out, engine
from tests.gpu.fake_cuda import ok
from tests.gpu.machine import Machine, faces


def test_answers_outlive_session_and_engine(gpu: Machine, app: Application) -> None:
    open_engine = engine(gpu)
    given = open_engine.infer(app.exporter(faces(2), LEGACY))
    open_engine.close()
    del open_engine
    alive = gpu.cuda.leaks()
    assert "engines" not in alive
    assert alive["retained"] == 2  # the application's and theirs
    close_to({name: array.numpy() for name, array in given.items()}, faces(2))
    close_to(
        {n: app.import_dlpack(array, stream=app.stream) for n, array in given.items()}, faces(2)
    )


def test_an_answer_is_freed_when_its_last_holder_goes(gpu: Machine, app: Application) -> None:
    with engine(gpu) as open_engine:
        images = app.exporter(faces(1), LEGACY)
        array = open_engine.infer(images)["map"]
        ok(gpu.cuda.cuStreamSynchronize(LEGACY))
        open_engine.infer(faces(1))  # lets go of what was borrowed
        before, ref = gpu.cuda.leaks()["device"], weakref.ref(array)
        dropped, taken = array.__dlpack__(), array.__dlpack__()
        content = dlpack.take(taken)
        with pytest.raises(InputError, match="taken before"):
            dlpack.take(taken)
        del array, dropped, taken
        assert ref() is not None
        content.release()
        assert ref() is None
        assert gpu.cuda.leaks()["device"] == before - 1


@pytest.mark.parametrize("how", ["next call", "next call from the host", "close"])
def test_what_is_borrowed_is_given_back_once_it_was_used(
    gpu: Machine, app: Application, how: str
) -> None:
    open_engine = engine(gpu)
    images, out = app.exporter(faces(1), app.stream), empty_out(app, 1, app.stream)
    held = [weakref.ref(images), *(weakref.ref(array) for array in out.values())]
    open_engine.infer(images, out, stream=app.stream)
    del images, out
    gc.collect()
    assert all(ref() for ref in held)  # nothing has run yet
    if how == "close":
        open_engine.close()
    else:
        ok(gpu.cuda.cuStreamSynchronize(app.stream))
        again = app.exporter(faces(1), LEGACY) if how == "next call" else faces(1)
        open_engine.infer(again)
    assert not any(ref() for ref in held)
    open_engine.close()


def test_a_loop_does_not_pile_up_what_it_borrows(gpu: Machine, app: Application) -> None:
    with engine(gpu) as open_engine:
        images, out = app.exporter(faces(1), app.stream), empty_out(app, 1, app.stream)
        for _ in range(20):
            open_engine.infer(images, out, stream=app.stream)
            app.read(out["logits"], app.stream)
            assert len(gpu.cuda.events) == 1


def test_the_nth_call_fails_and_the_next_works(gpu: Machine, app: Application) -> None:
    pictures = faces(2)
    with engine(gpu) as open_engine:
        nth, failed = 0, True
        while failed:  # until there is no n-th call
            nth, failed = nth + 1, False
            images = app.exporter(pictures, app.stream)
            gpu.cuda.fail(nth)
            try:
                open_engine.infer(images, {}, stream=app.stream)
            except CudaError as error:
                assert not error.fatal
                failed = True
            failed = failed or not gpu.cuda.faults  # what frees may fail, and nobody needs to know
            gpu.cuda.forget_faults()
            given = open_engine.infer(app.exporter(pictures, app.stream), stream=app.stream)
            close_to({name: app.read(a, app.stream) for name, a in given.items()}, pictures)
        assert nth > 20
