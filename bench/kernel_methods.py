"""The kernels of this package as they are timed, the empty kernel that is the floor of any, and the numpy twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.inputs import KERNEL_ERROR, Boxes, Bytes, Expected, Map
from bench.turns import WAITED, WAYS, Wrong
from convcut_trt.frames import Layout
from convcut_trt.gpu.driver import Cuda, Stream
from convcut_trt.gpu.faces import DeviceFaces
from convcut_trt.gpu.graphs import Graph
from convcut_trt.gpu.kernels import Kernels, Launch
from convcut_trt.gpu.resources import Resources
from convcut_trt.gpu.tail import DeviceTail
from convcut_trt.kernels import preprocess
from convcut_trt.kernels.tail import Tail
from convcut_trt.preprocess import crops, faces

KERNEL, EMPTY, TWIN = "kernel", "empty kernel", "numpy twin, CPU"
THREADS = 256
# PTX, which every driver compiles: the floor needs no compiler here.
_EMPTY_PTX = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry empty() { ret; }
\0"""

Array = NDArray[Any]


class Place:
    """Where the kernels work: GPU, stream, and what owns memory and graphs."""

    def __init__(self, cuda: Cuda, stream: Stream, kernels: Kernels, resources: Resources) -> None:
        self.cuda, self.stream = cuda, stream
        self.kernels, self.resources = kernels, resources

    def upload(self, array: Array) -> int:
        """A copy in GPU memory: its address."""
        address = self.resources.device(array.nbytes)
        answer = self.cuda.api.cuMemcpyHtoD(address, array.ctypes.data, array.nbytes)
        self.cuda.check(answer, "cuMemcpyHtoD")
        return address

    def download(self, address: int, like: Array) -> None:
        """Fills an array from GPU memory."""
        answer = self.cuda.api.cuMemcpyDtoH(like.ctypes.data, address, like.nbytes)
        self.cuda.check(answer, "cuMemcpyDtoH")

    def poison(self, address: int, size: int) -> None:
        """Fills bytes with 0xFF, which is NaN."""
        answer = self.cuda.api.cuMemsetD8Async(address, 0xFF, size, self.stream.handle)
        self.cuda.check(answer, "cuMemsetD8Async")

    def capture(self, launch: Callable[[Any], object], runs: int) -> Callable[[], object]:
        """``runs`` launches as one CUDA graph; what is returned launches it."""
        stream = self.stream.handle

        def work() -> None:
            for _ in range(runs):
                launch(stream)

        graph = Graph(self.cuda, stream, work)
        self.resources.owns(graph.close)
        return lambda: graph.launch(stream)


class EmptyKernel:
    """A kernel without parameters that does nothing, in as many blocks as its neighbour."""

    name = EMPTY
    ways = WAYS

    def __init__(self, place: Place, function: Any, grid: tuple[int, int, int]) -> None:
        self._place = place
        self._launch = Launch(place.cuda, function, grid, THREADS, 0, ())

    def call(self) -> None:
        """See Method."""
        self._launch(self._place.stream.handle)

    def capture(self, runs: int) -> Callable[[], object]:
        """See Method."""
        return self._place.capture(self._launch, runs)

    def poison(self) -> None:
        """It writes nothing."""

    def check(self) -> float:
        """It answers nothing."""
        return 0.0


def empty_function(place: Place) -> Any:
    """The function of ``EmptyKernel``."""
    module = place.resources.module(_EMPTY_PTX)
    answer = place.cuda.api.cuModuleGetFunction(module, b"empty")
    return place.cuda.check(answer, "cuModuleGetFunction of empty")


class KernelTail:
    """The tail kernel, as a session launches it: on a float32 map [N, C, H, W] in GPU memory."""

    name = KERNEL
    ways = WAYS

    def __init__(self, place: Place, tail: Tail, map: Map, expected: Expected) -> None:
        """Copies map and parameters over."""
        self._place, self._expected = place, expected
        self._answers = [np.empty((len(map), tail.classes), np.float32) for _ in range(2)]
        self._at = [place.resources.device(array.nbytes) for array in self._answers]
        device = DeviceTail(place.cuda, tail, place.kernels, place.resources)
        self._launch = device.launch(
            len(map),
            map_at=place.upload(map),
            logits_at=self._at[0],
            probabilities_at=self._at[1],
        )

    def call(self) -> None:
        """See Method."""
        self._launch(self._place.stream.handle)

    def capture(self, runs: int) -> Callable[[], object]:
        """See Method."""
        return self._place.capture(self._launch, runs)

    def poison(self) -> None:
        """See Method."""
        for address, array in zip(self._at, self._answers, strict=True):
            self._place.poison(address, array.nbytes)

    def check(self) -> float:
        """See Method."""
        for address, array in zip(self._at, self._answers, strict=True):
            self._place.download(address, array)
        logits, probabilities = self._answers
        return self._expected.error(logits, probabilities, KERNEL_ERROR)


class KernelFaces:
    """The preprocessing kernel on a frame in GPU memory.

    A call plans the launch and copies the boxes over, as an application does; the graph holds the kernel alone.
    """

    name = KERNEL
    ways = WAYS

    def __init__(
        self, place: Place, layout: Layout, frame: Array, boxes: Array, expected: Array
    ) -> None:
        """Copies the frame over; ``expected`` is uint8 [N, size, size, 3]."""
        self._place, self._layout, self._boxes, self._expected = place, layout, boxes, expected
        size = expected.shape[1]
        self._faces_at = place.resources.device(expected.nbytes)
        self._frame_at = place.upload(frame)
        self._faces = DeviceFaces(place.cuda, size, len(boxes), place.kernels, place.resources)
        self.crops = crops(boxes, layout.width, layout.height, 0.0)
        self.plan = preprocess.launch(
            layout,
            boxes,
            size,
            frame=self._frame_at,
            crops_at=place.upload(self.crops),
            faces_at=self._faces_at,
            multiprocessors=place.cuda.multiprocessors,
        )

    def call(self) -> None:
        """See Method."""
        self._faces.enqueue(
            self._place.stream.handle,
            self._layout,
            self._boxes,
            0.0,
            frame_at=self._frame_at,
            faces_at=self._faces_at,
        )

    def capture(self, runs: int) -> Callable[[], object]:
        """See Method."""
        place, plan = self._place, self.plan
        function = place.kernels.function("preprocess", plan.name, ())
        launch = Launch(
            place.cuda, function, plan.grid, plan.threads, plan.shared_bytes, plan.arguments
        )
        return place.capture(launch, runs)

    def poison(self) -> None:
        """See Method."""
        self._place.poison(self._faces_at, self._expected.nbytes)

    def check(self) -> float:
        """See Method: every bit has to be right."""
        seen = np.empty_like(self._expected)
        self._place.download(self._faces_at, seen)
        different = int((seen != self._expected).sum())
        if different:
            raise Wrong(f"{different} of {seen.size} bytes differ from the twin")
        return 0.0


class TwinFaces:
    """The rule in numpy, on one thread of the host and a frame in its memory."""

    name = TWIN
    ways = (WAITED,)

    def __init__(self, layout: Layout, frame: Bytes, boxes: Boxes, size: int) -> None:
        self._arguments: tuple[Any, ...] = (layout.view(frame), boxes, size, 0.0, layout.format)

    def call(self) -> object:
        """See Method."""
        return faces(*self._arguments)

    def capture(self, runs: int) -> Callable[[], object]:
        """Nothing of it runs on a GPU."""
        raise NotImplementedError

    def poison(self) -> None:
        """Each call makes a new array."""

    def check(self) -> float:
        """It is what the others are held to."""
        return 0.0
