"""Kernels on the fake GPU compute what their twins do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver

from convcut_trt.frames import Layout
from convcut_trt.kernels import preprocess as preprocess_kernel
from convcut_trt.kernels.tail import twin
from convcut_trt.preprocess import faces
from tests.gpu.buffers import LEGACY, NON_BLOCKING, from_device, on_device
from tests.gpu.fake_cuda import FakeCuda, ok, with_context
from tests.gpu.host_kernels import TailShape
from tests.kernels.host import random_map, random_tail

CUresult = driver.CUresult


@pytest.fixture
def cuda() -> FakeCuda:
    return with_context()


def as_addresses(arguments: list[Any]) -> tuple[Any, Any]:
    """Kernel parameters as an array of addresses, and what has to live until the launch."""
    pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
    return ctypes.addressof(pointers), (pointers, arguments)


def as_tuples(arguments: list[Any]) -> tuple[Any, Any]:
    """Kernel parameters as values and types."""
    kinds = [None if isinstance(a, ctypes.Structure) else type(a) for a in arguments]
    return (tuple(arguments), tuple(kinds)), None


@pytest.mark.parametrize("given", [as_addresses, as_tuples])
def test_the_tail_kernel_computes(cuda: FakeCuda, given: Callable[[Any], Any]) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, "channel", (16, 2, 2), units=12)
    map = random_map(random, tail, 2, "float32")
    places = [on_device(cuda, array) for array in (map, tail.pack())]
    logits = np.empty((2, tail.classes), np.float32)
    places += [int(ok(cuda.cuMemAlloc(logits.nbytes))) for _ in range(2)]
    module, plan = ok(cuda.cuModuleLoadData(b"any")), tail.launch(2, "float32", "nchw")
    function = ok(cuda.cuModuleGetFunction(module, plan.name.encode()))
    stream = ok(cuda.cuStreamCreate(NON_BLOCKING))
    grid = (plan.blocks, 1, 1, plan.threads, 1, 1)
    arguments = [*map_pointers(places), TailShape(*tail.shape(2))]
    parameters, alive = given(arguments)
    ok(cuda.cuLaunchKernel(function, *grid, plan.shared_bytes, stream, parameters, 0))
    for argument in arguments[:4]:  # copied at the launch
        argument.value = 0
    assert np.isnan(from_device(cuda, places[2], logits)).all()
    ok(cuda.cuStreamSynchronize(stream))
    expected = twin(tail, map)
    for place, wanted in zip(places[2:], expected, strict=True):
        np.testing.assert_allclose(from_device(cuda, place, logits), wanted, rtol=0, atol=2e-5)
    cuda.check()
    wrong = cuda.cuLaunchKernel(function, *grid, plan.shared_bytes + 4, stream, parameters, 0)
    assert wrong == (CUresult.CUDA_ERROR_INVALID_VALUE,)
    assert cuda.violations
    assert alive is None or alive


def map_pointers(places: list[int]) -> list[Any]:
    return [ctypes.c_void_p(place) for place in places]


def test_a_kernel_beyond_its_memory_kills_the_context(cuda: FakeCuda) -> None:
    tail = random_tail(np.random.default_rng(0), "none", (16, 2, 2))
    plan, small = tail.launch(1, "float32", "nchw"), int(ok(cuda.cuMemAlloc(4)))
    module = ok(cuda.cuModuleLoadData(b"any"))
    function = ok(cuda.cuModuleGetFunction(module, plan.name.encode()))
    arguments = (*map_pointers([small] * 4), TailShape(*tail.shape(1)))
    parameters = (arguments, (*(ctypes.c_void_p,) * 4, None))
    grid = (plan.blocks, 1, 1, plan.threads, 1, 1)
    ok(cuda.cuLaunchKernel(function, *grid, plan.shared_bytes, LEGACY, parameters, 0))
    code = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    assert cuda.cuCtxSynchronize() == cuda.cuCtxSynchronize() == (code,)
    assert cuda.violations


def test_kernels_are_found_by_name(cuda: FakeCuda) -> None:
    module = ok(cuda.cuModuleLoadData(b"any"))
    ok(cuda.cuModuleGetFunction(module, b"empty"))
    for name in (b"tail_f32_nchw_some", b"other"):
        answer = cuda.cuModuleGetFunction(module, name)
        assert answer == (CUresult.CUDA_ERROR_NOT_FOUND, None)
    compiled_alone = ok(cuda.cuModuleLoadData(b"\x7fELF with tail_f32_nchw_none"))
    answer = cuda.cuModuleGetFunction(compiled_alone, b"tail_f16_nchw_none")
    assert answer == (CUresult.CUDA_ERROR_NOT_FOUND, None)
    assert cuda.cuModuleLoadData(b"") == (CUresult.CUDA_ERROR_INVALID_IMAGE, None)


def test_the_preprocessing_kernel_computes(cuda: FakeCuda) -> None:
    layout, boxes, size = Layout(20, 16, "nv12"), [(2.0, 1.0, 9.0, 9.0)], 8
    data = np.random.default_rng(0).integers(0, 256, layout.rows * layout.pitch, dtype=np.uint8)
    wanted = faces(layout.view(data), boxes, size, 0.1, layout.format)
    result_at = int(ok(cuda.cuMemAlloc(wanted.nbytes)))
    crops_at = int(ok(cuda.cuMemAlloc(16)))
    places = {"frame": on_device(cuda, data), "crops_at": crops_at, "faces_at": result_at}
    plan = preprocess_kernel.launch(layout, boxes, size, 0.1, **places, multiprocessors=1)
    ok(cuda.cuMemcpyHtoD(crops_at, plan.crops, plan.crops.nbytes))
    module = ok(cuda.cuModuleLoadData(b"any"))
    function = ok(cuda.cuModuleGetFunction(module, plan.name.encode()))
    parameters = (plan.arguments, tuple(type(argument) for argument in plan.arguments))
    block = (plan.threads, 1, 1, plan.shared_bytes)
    ok(cuda.cuLaunchKernel(function, *plan.grid, *block, LEGACY, parameters, 0))
    np.testing.assert_array_equal(from_device(cuda, result_at, np.empty_like(wanted)), wanted)
    cuda.check()
