"""Threads, contexts and forks: a session is safe in a robot's process, whatever else that does with the GPU."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings.driver import CUresult

from convcut_trt.backends.trt_session import TensorRTSession
from convcut_trt.errors import ConvcutError, InputError
from tests.gpu.application import LEGACY, application
from tests.gpu.machine import Machine, expected, faces, machine

THREADS = 8
RUNS = 1_000
PATIENCE_S = 60.0


def side_by_side(*works: Callable[[], object]) -> None:
    """Runs each in a thread of its own, all at once; raises what the first raised."""
    start, errors = threading.Barrier(len(works)), []

    def work(call: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE_S)
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(call,)) for call in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def right(session: TensorRTSession, count: int, seed: int) -> None:
    """Its answers are those of the network."""
    pictures = faces(count, seed=seed)
    given = session.run(pictures)
    for name, values in expected(pictures).items():
        np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-5)


def test_eight_threads_with_clones_run_a_thousand_times_each(tmp_path: Path) -> None:
    with machine(tmp_path, null=True) as gpu:
        picture = faces(1)

        def work(session: TensorRTSession) -> None:
            with session:
                for _ in range(RUNS):
                    assert session.run(picture)["logits"].shape == (1, 5)
            assert gpu.cuda.stack() == []

        with gpu.open(tail=True) as session:
            clones = [session.clone() for _ in range(THREADS)]
            side_by_side(*(lambda clone=clone: work(clone) for clone in clones))
        gpu.check()


@pytest.mark.parametrize("shared", [False, True], ids=["clones", "one session"])
def test_eight_threads_get_the_answers_to_their_own_faces(gpu: Machine, shared: bool) -> None:
    with gpu.open() as session, ExitStack() as clones:

        def work(seed: int, own: TensorRTSession) -> None:
            for turn in range(12):
                right(own, count=1 + (seed + turn) % 6, seed=100 * seed + turn)

        works = []
        for seed in range(THREADS):
            own = session if shared else clones.enter_context(session.clone())
            works.append(lambda seed=seed, own=own: work(seed, own))
        side_by_side(*works)


def test_clones_are_made_and_closed_by_many_threads_at_once(gpu: Machine) -> None:
    with gpu.open() as session:

        def work() -> None:
            for seed in range(4):
                with session.clone() as clone:
                    right(clone, count=2, seed=seed)

        side_by_side(*[work] * THREADS)
        assert gpu.cuda.leaks()["engines"] == 1


def test_two_threads_on_one_session_take_turns(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, str]] = []

    def watch(name: str) -> None:
        real = getattr(gpu.cuda, name)

        def call(*given: Any) -> Any:
            made.append((threading.get_ident(), name))
            time.sleep(0.001)  # the other thread's chance
            return real(*given)

        monkeypatch.setattr(gpu.cuda, name, call, raising=False)

    turn = ["cuCtxPushCurrent", "cuGraphLaunch", "cuStreamSynchronize", "cuCtxPopCurrent"]
    with gpu.open() as session:
        for _ in range(3):
            session.run(faces(1))
        for name in turn:
            watch(name)

        def work(seed: int) -> None:
            for _ in range(15):
                right(session, 1, seed)

        side_by_side(lambda: work(1), lambda: work(2))
        monkeypatch.undo()
    assert len(made) == 2 * 15 * len(turn)
    whose = []
    for start in range(0, len(made), len(turn)):
        threads, names = zip(*made[start : start + len(turn)], strict=True)
        assert list(names) == turn
        assert len(set(threads)) == 1
        whose.append(threads[0])
    changes = sum(one != other for one, other in zip(whose, whose[1:], strict=False))
    assert changes > 1  # they did run side by side


def test_a_thread_without_a_context_needs_none_and_gets_none(gpu: Machine) -> None:
    with gpu.open() as session:

        def work() -> None:
            assert gpu.cuda.stack() == []
            right(session, 2, seed=3)
            assert gpu.cuda.stack() == []

        side_by_side(work)


@contextmanager
def current(gpu: Machine) -> Iterator[list[int]]:
    """A context of the application's own is current; the stack of this thread."""
    foreign = gpu.cuda.foreign_context()
    gpu.cuda.cuCtxPushCurrent(foreign)
    try:
        yield [foreign]
    finally:
        gpu.cuda.cuCtxPopCurrent()


def test_an_applications_own_context_stays_current(gpu: Machine) -> None:
    session = gpu.open()
    with current(gpu) as stack:
        calls: tuple[Callable[[], object], ...] = (
            lambda: right(session, 5, seed=1),
            lambda: session.run_on_device(faces(1)),
            lambda: session.run(faces(1)[:, :4]),
            lambda: session.clone().close(),
            lambda: gpu.open().close(),
            session.close,
            lambda: session.run(faces(1)),
        )
        refused = 0
        for call in calls:
            try:
                call()
            except InputError:
                refused += 1
            assert gpu.cuda.stack() == stack
        assert refused == 3


@pytest.mark.parametrize("code", [CUresult.CUDA_ERROR_UNKNOWN, CUresult.CUDA_ERROR_LAUNCH_FAILED])
def test_and_does_so_whichever_call_fails(tmp_path: Path, code: CUresult) -> None:
    def day(gpu: Machine) -> None:
        with suppress(ConvcutError), gpu.open() as session:
            for _ in range(3):
                with suppress(ConvcutError):
                    session.run(faces(1))

    with machine(tmp_path) as gpu:
        gpu.cuda.cuInit(0)
        with current(gpu):
            before = gpu.cuda.total
            day(gpu)
            calls = gpu.cuda.total - before
    assert calls > 50
    for nth in range(1, calls + 1):
        with machine(tmp_path) as gpu:
            gpu.cuda.cuInit(0)
            with current(gpu) as stack:
                gpu.cuda.fail(nth, code=code)
                day(gpu)
                gpu.cuda.forget_faults()
                assert gpu.cuda.stack() == stack, list(gpu.cuda.log)[nth - 1]


@pytest.mark.parametrize("foreign", [False, True])
def test_answers_are_freed_in_any_thread(gpu: Machine, foreign: bool) -> None:
    with application(gpu.cuda) as app, gpu.open() as session:
        given = session.run_on_device(app.exporter(faces(1), LEGACY))
        session.run(faces(1))  # waits
        session.run(faces(1))  # lets go of what was borrowed

        def work() -> None:
            with current(gpu) if foreign else ExitStack():
                given.clear()
            assert gpu.cuda.stack() == []

        before = gpu.cuda.leaks()["device"]
        side_by_side(work)
        assert gpu.cuda.leaks()["device"] == before - 3


@pytest.mark.parametrize("call", ["close", "clone"])
def test_other_calls_wait_for_one_that_is_running(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    session = gpu.open()
    right(session, 1, seed=0)
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    real = gpu.cuda.cuStreamSynchronize

    def slow(stream: Any) -> Any:
        monkeypatch.undo()
        inside.set()
        assert go_on.wait(PATIENCE_S)
        return real(stream)

    monkeypatch.setattr(gpu.cuda, "cuStreamSynchronize", slow, raising=False)

    def other() -> None:
        assert inside.wait(PATIENCE_S)
        threading.Timer(0.05, go_on.set).start()
        answer = getattr(session, call)()
        assert go_on.is_set()
        assert done.wait(PATIENCE_S)
        if answer is not None:
            answer.close()

    def running() -> None:
        right(session, 1, seed=1)
        done.set()

    side_by_side(running, other)
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(faces(1))


def in_a_fork(work: Callable[[], str]) -> str:
    """What a fork of this process says, which has to come to its end by itself."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE_S))  # a deadlock is a failure, not for ever
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while another thread runs"])
def test_a_fork_is_refused_and_leaves_the_gpu_alone(
    gpu: Machine, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    with application(gpu.cuda) as app, gpu.open() as session:
        clone = session.clone()
        images = app.exporter(faces(1), LEGACY)
        answer = session.run_on_device(images)["logits"]
        dropped = session.run_on_device(images)
        for _ in range(2):  # the first waits, the second lets go of what was borrowed
            session.run(faces(1))
        refused: tuple[Callable[[], object], ...] = (
            lambda: session.run(faces(1)),
            lambda: session.run_on_device(images),
            session.clone,
            lambda: clone.run(faces(1)),
            answer.numpy,
            answer.__dlpack__,
        )

        def child() -> str:
            before = gpu.cuda.total
            for call in refused:
                with pytest.raises(InputError, match="load the engine after the fork"):
                    call()
            session.close()
            session.close()
            clone.close()
            dropped.clear()
            gc.collect()
            return f"{gpu.cuda.total - before} calls"

        real = gpu.cuda.cuStreamSynchronize

        def slow(stream: Any) -> Any:
            inside.set()
            assert go_on.wait(PATIENCE_S)
            return real(stream)

        running = threading.Thread(target=lambda: session.run(faces(1)))
        if busy:
            monkeypatch.setattr(gpu.cuda, "cuStreamSynchronize", slow, raising=False)
            running.start()
            assert inside.wait(PATIENCE_S)
        try:
            assert in_a_fork(child) == "0 calls"
        finally:
            go_on.set()
            monkeypatch.undo()
            if busy:
                running.join()
        right(session, 2, seed=9)
        right(clone, 2, seed=9)
        clone.close()
        np.testing.assert_allclose(
            answer.numpy(), expected(faces(1))["logits"], rtol=1e-5, atol=1e-5
        )


def test_what_nobody_closes_is_freed_with_its_last_holder(gpu: Machine) -> None:
    session = gpu.open()
    clone = session.clone()
    right(session, 3, seed=1)
    del session
    right(clone, 1, seed=2)
    held = [clone]
    del clone

    def work() -> None:
        held.clear()

    side_by_side(work)  # in a thread that has no context
    gpu.check()


_EXIT = """
import atexit, sys
from pathlib import Path
def last():
    print(sorted(found.cuda.leaks()), found.cuda.violations)
atexit.register(last)  # the first to come is the last to go
from tests.gpu.machine import faces, machine
opened = machine(Path(sys.argv[1]))
found = opened.__enter__()
session = found.open()
session.run(faces(1))
"""


def test_a_process_may_end_with_an_engine_open(tmp_path: Path) -> None:
    """TensorRT is not left behind without its context."""
    done = subprocess.run(
        [sys.executable, "-c", _EXIT, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=Path(__file__).parents[2],
    )
    kinds, violations = done.stdout.strip().rsplit(" ", 1)
    assert "'engines'" in kinds
    assert "'retained'" in kinds
    assert "'streams'" in kinds
    assert violations == "[]"
    assert done.stderr == ""
