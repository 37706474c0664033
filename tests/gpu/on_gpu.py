"""The kernels of this package run on the GPU that is here, as the tests of the host shim call theirs."""

from __future__ import annotations

import os
import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.gpu.driver import Cuda, Stream
from convcut_trt.gpu.faces import DeviceFaces
from convcut_trt.gpu.kernels import Kernels, Launch
from convcut_trt.gpu.resources import Resources
from convcut_trt.gpu.tail import DeviceTail
from convcut_trt.kernels.tail import Layout, Tail
from tests.kernels.test_preprocess_host import Case

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]
SEED = int(os.environ.get("CONVCUT_TEST_SEED", secrets.randbits(32)))
_GUARD = 512  # bytes on either side of an output


def fresh(what: str) -> np.random.Generator:
    """Random numbers, others in every run; pytest prints the seed where a test fails."""
    print(f"{what}: CONVCUT_TEST_SEED={SEED}")
    return np.random.default_rng([SEED, *what.encode()])


class OnGpu:
    """Memory and launches on one GPU. The context has to be current."""

    def __init__(self, cuda: Cuda, resources: Resources) -> None:
        self.cuda = cuda
        self.stream = Stream(cuda)
        self.kernels = Kernels(cuda, resources)

    def upload(self, resources: Resources, array: NDArray[Any]) -> int:
        """A copy in GPU memory: its address."""
        address = resources.device(array.nbytes)
        answer = self.cuda.api.cuMemcpyHtoD(address, array.ctypes.data, array.nbytes)
        self.cuda.check(answer, "cuMemcpyHtoD")
        return address

    def poisoned(self, resources: Resources, size: int) -> int:
        """An output full of 0xFF, which is NaN, with guards around it: the address of the output."""
        address, whole = resources.device(size + 2 * _GUARD), size + 2 * _GUARD
        answer = self.cuda.api.cuMemsetD8Async(address, 0xFF, whole, self.stream.handle)
        self.cuda.check(answer, "cuMemsetD8Async")
        self.cuda.synchronize(self.stream.handle)
        return address + _GUARD

    def download(self, address: int, into: NDArray[Any]) -> None:
        """Fills an array from an output of ``poisoned``; nobody may have written beside it."""
        self.cuda.synchronize(self.stream.handle)
        whole = np.empty(into.nbytes + 2 * _GUARD, np.uint8)
        answer = self.cuda.api.cuMemcpyDtoH(whole.ctypes.data, address - _GUARD, whole.nbytes)
        self.cuda.check(answer, "cuMemcpyDtoH")
        assert (whole[:_GUARD] == 0xFF).all(), "written in front of the output"
        assert (whole[-_GUARD:] == 0xFF).all(), "written behind the output"
        into.view(np.uint8).reshape(-1)[:] = whole[_GUARD:-_GUARD]


class GpuTail(OnGpu):
    """``tail.cuh`` on the GPU, called as ``HostTail`` is."""

    def __call__(
        self, tail: Tail, map: NDArray[Any], layout: Layout = "nchw"
    ) -> tuple[Array, Array]:
        """Logits and probabilities [N, K] of a map [N, C, H, W], given to the kernel in this layout."""
        order = (0, 1, 2, 3) if layout == "nchw" else (0, 2, 3, 1)
        map = np.ascontiguousarray(map.transpose(order))
        logits = np.empty((len(map), tail.classes), np.float32)
        probabilities = logits.copy()
        resources = Resources(self.cuda)
        try:
            outputs = [self.poisoned(resources, logits.nbytes) for _ in range(2)]
            launch = DeviceTail(self.cuda, tail, self.kernels, resources).launch(
                len(map),
                map_at=self.upload(resources, map),
                logits_at=outputs[0],
                probabilities_at=outputs[1],
                dtype=str(map.dtype),
                layout=layout,
            )
            launch(self.stream.handle)
            for address, array in zip(outputs, (logits, probabilities), strict=True):
                self.download(address, array)
        finally:
            resources.close()
        return logits, probabilities


class GpuPreprocess(OnGpu):
    """``preprocess.cuh`` on the GPU, called as ``HostPreprocess`` is."""

    def __call__(self, case: Case) -> Bytes:
        """Faces uint8 [N, size, size, 3], by the launch that the case plans, tiles included."""
        faces = np.empty((len(case.boxes), case.size, case.size, 3), np.uint8)
        resources = Resources(self.cuda)
        try:
            frame_at, faces_at = (
                self.upload(resources, case.data),
                self.poisoned(resources, faces.nbytes),
            )
            crops_at = self.upload(resources, case.plan().crops)
            plan = case.plan(frame_at, crops_at, faces_at)
            function = self.kernels.function("preprocess", plan.name, ())
            Launch(self.cuda, function, plan.grid, plan.threads, plan.shared_bytes, plan.arguments)(
                self.stream.handle
            )
            self.download(faces_at, faces)
        finally:
            resources.close()
        return faces

    def enqueued(self, case: Case) -> Bytes:
        """The same by ``DeviceFaces``, as an application does it."""
        faces = np.empty((len(case.boxes), case.size, case.size, 3), np.uint8)
        resources = Resources(self.cuda)
        try:
            device = DeviceFaces(self.cuda, case.size, len(case.boxes), self.kernels, resources)
            faces_at = self.poisoned(resources, faces.nbytes)
            device.enqueue(
                self.stream.handle,
                case.layout,
                case.boxes,
                case.margin,
                frame_at=self.upload(resources, case.data),
                faces_at=faces_at,
            )
            self.download(faces_at, faces)
        finally:
            resources.close()
        return faces
