"""Work in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.errors import BuildError, CudaError, GateFailed, InputError
from convcut_trt.gates import Gate
from convcut_trt.measuring.apart import Crashed, apart


def doubled(number: int, step: Any) -> tuple[int, int]:
    step("one", 1, 2)
    step("two", 2, 2)
    return number * 2, os.getpid()


def failing(kind: str, step: Any) -> None:
    gate = Gate("flips", 3.0, 0.0, "fail", "")
    errors = {
        "gate": GateFailed("wrong", log="a table", gates=[gate]),
        "cuda": CudaError("the GPU is lost", "CUDA_ERROR_LAUNCH_FAILED", True),
        "input": InputError("bad"),
        "bug": ZeroDivisionError(),
    }
    raise errors[kind]


def dying(step: Any) -> None:
    os.abort()


def told_often(step: Any) -> None:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        step("one", 1, 2)


def waiting(place: Path, step: Any) -> None:
    try:
        step("waiting", 0, 1)
        time.sleep(60)
    finally:
        place.write_text("cleaned up")


def quiet(phase: str, done: int, total: int) -> None:
    pass


def test_the_answer_and_the_steps_come_back() -> None:
    told: list[tuple[str, int, int]] = []
    answer, process = apart(doubled, 21, step=lambda *step: told.append(step))
    assert answer == 42
    assert process != os.getpid()
    assert told == [("one", 1, 2), ("two", 2, 2)]


def test_errors_come_back_as_what_they_are() -> None:
    with pytest.raises(GateFailed, match="wrong") as caught:
        apart(failing, "gate", step=quiet)
    assert caught.value.log == "a table"
    assert caught.value.gates[0].name == "flips"
    with pytest.raises(BuildError, match="the GPU is lost"):
        apart(failing, "cuda", step=quiet)
    with pytest.raises(Crashed, match="code 1"):
        apart(failing, "bug", step=quiet)


def test_a_crash_is_an_error_here() -> None:
    with pytest.raises(Crashed, match="SIGABRT"):
        apart(dying, step=quiet)


def test_steps_are_told_now_and_then() -> None:
    told: list[Any] = []
    apart(told_often, step=lambda *step: told.append(step))
    assert 1 <= len(told) <= 4


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    def stop(*step: Any) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        apart(waiting, tmp_path / "left", step=stop)
    assert time.monotonic() - start < 30
    assert (tmp_path / "left").read_text() == "cleaned up"
