"""One batch size of a session: its execution context, where its tensors lie, and its CUDA graphs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.trt_engine import LOGITS, MAP, PROBABILITIES, LoadedEngine
from convcut_trt.errors import CudaError
from convcut_trt.gpu.driver import Stream
from convcut_trt.gpu.graphs import Graph
from convcut_trt.gpu.resources import Resources
from convcut_trt.spec import INPUT, OUTPUTS

_log = logging.getLogger(__name__)
_ALIGNMENT = 256
_FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """What a session has; every slot lays its own batch out in it.

    Attributes:
        stream: On which all of it is used.
        images: Device address of the faces.
        answers: Device address of the outputs.
        scratch: Device address of what a context needs while it runs.
        staged_images: Pinned, uint8.
        staged_answers: Pinned, uint8.
    """

    stream: Stream
    images: int
    answers: int
    scratch: int
    staged_images: NDArray[np.uint8]
    staged_answers: NDArray[np.uint8]

    @classmethod
    def take(cls, loaded: LoadedEngine, resources: Resources) -> Memory:
        """For the largest batch. The GPU's context has to be current."""
        most = loaded.outline.batch[1]
        images = most * math.prod(loaded.outline.picture)
        answers = sum(size for _, size in _places(loaded, most).values())
        return cls(
            Stream(loaded.cuda),
            resources.device(images),
            resources.device(answers),
            resources.device(loaded.scratch_bytes),
            resources.pinned(images),
            resources.pinned(answers),
        )


class Slot:
    """A batch size, ready to run. Not thread-safe; the GPU's context has to be current for every call.

    Attributes:
        batch: Faces.
        images: Pinned, uint8 [batch, H, W, 3]: where faces from the host go.
        answers: Name -> pinned float32 [batch, ...]: where answers for the host come.
        places: Name -> device address of the answers.
    """

    def __init__(self, loaded: LoadedEngine, memory: Memory, batch: int) -> None:
        """Makes a context and lays the batch out.

        Raises:
            CudaError: TensorRT or the driver refused.
        """
        self.batch = batch
        self._loaded = loaded
        self._memory = memory
        self._stream = memory.stream.handle
        self._graphs: dict[bool, Graph] = {}
        self._used: set[bool] = set()
        self._own_graphs = True
        height, width, channels = loaded.outline.picture
        size = batch * height * width * channels
        self.images = memory.staged_images[:size].reshape(batch, height, width, channels)
        places = _places(loaded, batch)
        shapes = {**loaded.tail_shapes, **loaded.outline.outputs}
        self.places = {name: memory.answers + start for name, (start, _) in places.items()}
        self.answers = {
            name: memory.staged_answers[start : start + batch * math.prod(shapes[name]) * _FLOAT]
            .view(np.float32)
            .reshape(batch, *shapes[name])
            for name, (start, _) in places.items()
        }
        self._image_bytes = size
        self._answer_bytes = sum(room for _, room in places.values())
        self._tail = None
        if loaded.tail is not None:
            self._tail = loaded.tail.launch(
                batch,
                map_at=self.places[MAP],
                logits_at=self.places[LOGITS],
                probabilities_at=self.places[PROBABILITIES],
            )
        self._context = self._ready(loaded.context())
        if not loaded.capturable(self._context, int(self._stream)):
            _log.info("batch %d: TensorRT-RTX captures its own CUDA graphs", batch)
            self._own_graphs = False
            self._context = self._ready(loaded.context(own_graph=False))

    def _ready(self, context: Any) -> Any:
        loaded, memory = self._loaded, self._memory
        context.set_device_memory(memory.scratch, loaded.scratch_bytes)
        done = context.active_optimization_profile == 0 or context.set_optimization_profile_async(
            0, int(self._stream)
        )
        done = done and context.set_input_shape(INPUT, (self.batch, *loaded.outline.picture))
        done = done and context.set_tensor_address(INPUT, memory.images)
        for name in loaded.outline.outputs:
            done = done and context.set_tensor_address(name, self.places[name])
        if not done:
            raise loaded.refusal(f"take a batch of {self.batch}")
        return context

    @property
    def fresh(self) -> bool:
        """Whether nothing has run yet."""
        return not self._used

    def enqueue(self, *, through_host: bool) -> None:
        """Puts everything on the stream, as a CUDA graph from the second time on.

        Args:
            through_host: Faces come from ``images`` and answers go to ``answers``; else both stay on the GPU.

        Raises:
            CudaError: TensorRT or the driver refused.
        """
        graph = self._graphs.get(through_host)
        # TensorRT may set things up in its first run of a shape that no graph can hold.
        if graph is None and self._own_graphs and through_host in self._used:
            graph = self._capture(through_host)
        if graph is not None:
            graph.launch(self._stream)
        else:
            self._put(through_host)
            self._used.add(through_host)

    def fetch(self) -> None:
        """Puts the copy to ``answers`` on the stream, behind a run whose answers stayed on the GPU."""
        cuda, memory = self._loaded.cuda, self._memory
        target = memory.staged_answers.ctypes.data
        answer = cuda.api.cuMemcpyDtoHAsync(
            target, memory.answers, self._answer_bytes, self._stream
        )
        cuda.check(answer, "cuMemcpyDtoHAsync")

    def _capture(self, through_host: bool) -> Graph | None:
        try:
            graph = Graph(self._loaded.cuda, self._stream, lambda: self._put(through_host))
        except CudaError as error:
            if error.fatal:
                raise
            _log.warning("batch %d runs without a CUDA graph: %s", self.batch, str(error))
            self._own_graphs = False
            return None
        self._graphs[through_host] = graph
        return graph

    def _put(self, through_host: bool) -> None:
        cuda, memory, stream = self._loaded.cuda, self._memory, self._stream
        api = cuda.api
        if through_host:
            source = memory.staged_images.ctypes.data
            answer = api.cuMemcpyHtoDAsync(memory.images, source, self._image_bytes, stream)
            cuda.check(answer, "cuMemcpyHtoDAsync")
        if not self._context.execute_async_v3(int(stream)):
            raise self._loaded.refusal(f"run a batch of {self.batch}")
        if self._tail is not None:
            self._tail(stream)
        if through_host:
            self.fetch()

    def close(self) -> None:
        """Frees graphs and context. Nothing of it may be running any more."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._context = None


def _places(loaded: LoadedEngine, batch: int) -> dict[str, tuple[int, int]]:
    """Name -> (start, bytes) of each output of a batch, one behind the other: one copy takes them all."""
    shapes = {**loaded.tail_shapes, **loaded.outline.outputs}
    places, start = {}, 0
    for name in OUTPUTS:
        room = -(-batch * math.prod(shapes[name]) * _FLOAT // _ALIGNMENT) * _ALIGNMENT
        places[name] = start, room
        start += room
    return places
