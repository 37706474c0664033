"""Kernels compiled at first use: by NVRTC, which needs no GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convcut_trt import optional
from convcut_trt.errors import BackendMissing, BuildError
from convcut_trt.gpu import nvrtc
from tests.kernels.host import random_tail

GPU = (8, 7)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where cubins are kept."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CONVCUT_HOME", str(folder))
    return folder


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NVRTC; every program has to be destroyed."""
    bindings = pytest.importorskip("cuda.bindings.nvrtc")
    try:
        bindings.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"no NVRTC: {error}")
    alive: list[Any] = []
    create, destroy = bindings.nvrtcCreateProgram, bindings.nvrtcDestroyProgram

    def created(*arguments: Any) -> Any:
        answer = create(*arguments)
        alive.append(answer[1])
        return answer

    def destroyed(program: Any) -> Any:
        alive.remove(program)
        return destroy(program)

    monkeypatch.setattr(bindings, "nvrtcCreateProgram", created)
    monkeypatch.setattr(bindings, "nvrtcDestroyProgram", destroyed)
    yield bindings
    assert not alive


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose one kernel, of a number, is compiled in no time."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    text = '#include "tiny.cuh"\nextern "C" __global__ void tiny(int* out) { *out = kValue; }\n'
    (folder / "tiny.cu").write_text(text)
    (folder / "tiny.cuh").write_text("constexpr int kValue = VALUE;\n")
    monkeypatch.setattr(nvrtc, "KERNELS", folder)
    return folder


@pytest.fixture
def compiled(library: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every program that was compiled so far."""
    seen: list[Any] = []
    compile_program = library.nvrtcCompileProgram

    def counted(program: Any, *options: Any) -> Any:
        seen.append(program)
        return compile_program(program, *options)

    monkeypatch.setattr(library, "nvrtcCompileProgram", counted)
    return seen


def launch(dtype: str) -> Any:
    tail = random_tail(np.random.default_rng(0), "channel", (8, 2, 2))
    return tail.launch(1, dtype, "nchw")


def kept(home: Path) -> int:
    return len(list(home.rglob("*.cubin")))


def test_kernels_without_half_need_no_header(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_headers", list)
    tail = launch("float32")
    cubin = nvrtc.compile_kernel("tail", tail.defines, GPU)
    assert cubin.startswith(b"\x7fELF") and tail.name.encode() in cubin
    assert b"preprocess_rgb8" in nvrtc.compile_kernel("preprocess", (), GPU)


def test_kernels_of_half_take_the_header_of_cuda(library: Any) -> None:
    if not any(Path(folder, "cuda_fp16.h").is_file() for folder in nvrtc._headers()):
        pytest.skip("no headers of CUDA")
    tail = launch("float16")
    assert tail.name.encode() in nvrtc.compile_kernel("tail", tail.defines, GPU)


def test_a_kernel_is_compiled_once_until_something_changes(
    tiny: Path,
    compiled: list[Any],
    library: Any,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = nvrtc.compile_kernel("tiny", ("VALUE=1",), GPU)
    assert nvrtc.compile_kernel("tiny", ("VALUE=1",), GPU) == first
    assert len(compiled) == kept(home) == 1
    assert nvrtc.compile_kernel("tiny", ("VALUE=2",), GPU) != first
    assert nvrtc.compile_kernel("tiny", ("VALUE=1",), (9, 0)) != first
    assert len(compiled) == kept(home) == 3
    for name in ("tiny.cu", "tiny.cuh"):  # of another version of this package
        path = tiny / name
        path.write_text(path.read_text() + "// changed\n")
        nvrtc.compile_kernel("tiny", ("VALUE=1",), GPU)
    assert len(compiled) == kept(home) == 5
    success = library.nvrtcResult.NVRTC_SUCCESS
    monkeypatch.setattr(library, "nvrtcVersion", lambda: (success, 99, 1))
    nvrtc.compile_kernel("tiny", ("VALUE=1",), GPU)
    assert len(compiled) == kept(home) == 6


def test_what_the_compiler_said_is_kept(tiny: Path, library: Any, home: Path) -> None:
    with pytest.raises(BuildError, match=r"tiny\.cu .*--tail native") as caught:
        nvrtc.compile_kernel("tiny", ("VALUE=no_such_word",), GPU)
    assert "tiny.cuh(1)" in caught.value.log and '"no_such_word"' in caught.value.log
    assert "\0" not in caught.value.log
    assert not kept(home)


def test_a_gpu_that_the_compiler_does_not_know_is_an_error(tiny: Path, library: Any) -> None:
    with pytest.raises(BuildError, match="NVRTC_ERROR_INVALID_OPTION.*update") as caught:
        nvrtc.compile_kernel("tiny", ("VALUE=1",), (1, 0))
    assert "architecture" in caught.value.log


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("nvrtcVersion", "1"),
        ("nvrtcCreateProgram", "1"),
        ("nvrtcGetCUBINSize", "1"),
        ("nvrtcGetCUBIN", "1"),
        ("nvrtcGetProgramLogSize", "no_such_word"),
        ("nvrtcGetProgramLog", "no_such_word"),
    ],
)
def test_a_call_that_fails_is_named_and_nothing_stays(
    tiny: Path, library: Any, home: Path, monkeypatch: pytest.MonkeyPatch, call: str, value: str
) -> None:
    status = library.nvrtcResult.NVRTC_ERROR_OUT_OF_MEMORY
    monkeypatch.setattr(library, call, lambda *arguments: (status, None))
    with pytest.raises(BuildError, match="NVRTC_ERROR_OUT_OF_MEMORY.*update"):
        nvrtc.compile_kernel("tiny", (f"VALUE={value}",), GPU)
    assert not kept(home)


def by_pathfinder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = SimpleNamespace(find_nvidia_header_directory=lambda name: str(folder / "include"))
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)


def in_vain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = SimpleNamespace(find_nvidia_header_directory=lambda name: None)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)
    monkeypatch.setenv("CUDA_HOME", str(folder))


def without_pathfinder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    monkeypatch.setenv("CUDA_PATH", str(folder))


@pytest.mark.parametrize("place", [by_pathfinder, in_vain, without_pathfinder])
def test_headers_are_found(
    tiny: Path,
    library: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    (tmp_path / "cuda" / "include").mkdir(parents=True)
    (tmp_path / "cuda" / "include" / "cuda_fp16.h").write_text("#define VALUE 5\n")
    (tiny / "tiny.cuh").write_text("#include <cuda_fp16.h>\nconstexpr int kValue = VALUE;\n")
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    place(tmp_path / "cuda", monkeypatch)
    assert nvrtc.compile_kernel("tiny", (), GPU)


def no_library() -> None:
    raise RuntimeError("Failure finding libnvrtc.so")


def no_bindings(name: str) -> ModuleType:
    raise ModuleNotFoundError(name="cuda")


@pytest.mark.parametrize(
    ("found", "fix"),
    [
        (lambda name: SimpleNamespace(nvrtcVersion=no_library), "pip install nvidia-cuda-nvrtc"),
        (no_bindings, r"convcut-trt\[cuda13\]"),
    ],
)
def test_what_is_missing_is_one_sentence_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, found: Callable[[str], Any], fix: str
) -> None:
    monkeypatch.setattr(optional, "import_module", found)
    with pytest.raises(BackendMissing, match=fix):
        nvrtc.compile_kernel("preprocess", (), GPU)
