"""An open TensorRT engine: faces from the host or from the GPU, answers to either."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convcut_trt.backends.arrays import (
    check_host_images,
    check_images,
    check_names,
    parts,
    result_arrays,
)
from convcut_trt.backends.base import Arrays
from convcut_trt.backends.trt_engine import LoadedEngine
from convcut_trt.backends.trt_slot import Memory, Slot
from convcut_trt.errors import InputError
from convcut_trt.frames import Layout, frame_size
from convcut_trt.gpu.arrays import LEGACY, DeviceArray, DeviceView, pitched, view, wait
from convcut_trt.gpu.driver import refuse_fork
from convcut_trt.gpu.faces import DeviceFaces
from convcut_trt.gpu.kernels import Kernels
from convcut_trt.gpu.resources import Resources
from convcut_trt.spec import OUTPUTS

_Answer = TypeVar("_Answer")
MOST_SLOTS = 8
"""Batch sizes that are kept ready: each has an execution context and up to two CUDA graphs."""


class TensorRTSession:
    """See Session. One stream and one set of buffers behind a lock: for threads side by side, ``clone``."""

    def __init__(self, loaded: LoadedEngine) -> None:
        """Takes memory for the largest batch; ``loaded`` is this session's to leave.

        Raises:
            CudaError: The driver refused.
        """
        self._loaded = loaded
        self._cuda = loaded.cuda
        self._outline = loaded.outline
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open = False
        self._slots: OrderedDict[int, Slot] = OrderedDict()
        self._borrowed: deque[tuple[Any, tuple[DeviceView, ...]]] = deque()
        self._resources = Resources(loaded.cuda)
        self._faces: DeviceFaces | None = None
        self._shapes = {
            name: {**loaded.tail_shapes, **loaded.outline.outputs}[name] for name in OUTPUTS
        }
        try:
            with self._cuda:
                self._memory: Memory | None = Memory.take(loaded, self._resources)
        except BaseException:
            self._resources.close()
            loaded.leave()
            raise
        self._open = True

    @property
    def outputs(self) -> tuple[str, ...]:
        """See Session."""
        return OUTPUTS

    def clone(self) -> TensorRTSession:
        """See Session: engine and weights are shared; stream, buffers and graphs are its own."""
        refuse_fork(self._process)  # before the lock, which some thread may have held at the fork
        with self._lock:
            self._check_open()
            loaded = self._loaded.enter()
        return TensorRTSession(loaded)

    def run(
        self, images: NDArray[np.uint8], out: Arrays | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """See Session."""
        check_host_images(images, self._outline.picture)
        count = len(images)
        if out is None and 0 < count <= self._outline.batch[1]:
            return self._alone(
                lambda memory: {
                    name: values.copy() for name, values in self._answers(memory, images).items()
                }
            )
        results = result_arrays(
            {name: (count, *shape) for name, shape in self._shapes.items()}, out
        )

        def fill(memory: Memory) -> None:
            for start, stop in parts(count, self._outline.batch[1]):
                for name, values in self._answers(memory, images[start:stop]).items():
                    results[name][start:stop] = values

        self._alone(fill)
        return results

    def _answers(self, memory: Memory, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """For faces that one batch has room for; the next call writes to the same arrays."""
        count = len(images)
        slot = self._slot(memory, count)
        slot.images[:count] = images
        self._enqueue(slot, through_host=True)
        self._cuda.synchronize(memory.stream.handle)
        return {name: values[:count] for name, values in slot.answers.items()}

    def run_on_device(
        self, images: object, out: Mapping[str, Any] | None = None, stream: int | None = None
    ) -> dict[str, Any]:
        """See Session."""
        return self._alone(lambda memory: self._on_device(memory, images, out or {}, stream))

    def _on_device(
        self, memory: Memory, images: object, out: Mapping[str, Any], stream: int | None
    ) -> dict[str, Any]:
        cuda, ours = self._cuda, memory.stream.handle
        faces = view(images, cuda, int(memory.stream))
        check_images(faces.dtype, faces.shape, self._outline.picture)
        shapes = {name: (len(faces), *shape) for name, shape in self._shapes.items()}
        on_host = bool(out) and all(isinstance(array, np.ndarray) for array in out.values())
        targets: dict[str, DeviceView] = {}
        if on_host:
            results: dict[str, Any] = dict(result_arrays(shapes, out))
        else:
            results, targets = self._device_arrays(shapes, out, memory)
        borrowed = (faces, *targets.values())
        known = {array.stream for array in borrowed} - {None}
        users = {stream} if stream is not None else known or {LEGACY}
        for user in users:
            wait(cuda, user, ours)
        self._run_parts(memory, faces, results if on_host else targets)
        for user in users:
            wait(cuda, ours, user)
        self._borrow(memory, borrowed)
        return results

    def run_frame(
        self,
        frame: object,
        format: str,
        boxes: Sequence[Sequence[float]] | NDArray[np.floating],
        margin: float,
        stream: int | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """See Session."""
        return self._alone(
            lambda memory: self._from_frame(memory, frame, format, boxes, margin, stream)
        )

    def _from_frame(
        self,
        memory: Memory,
        frame: object,
        format: str,
        boxes: Sequence[Sequence[float]] | NDArray[np.floating],
        margin: float,
        stream: int | None,
    ) -> dict[str, NDArray[np.float32]]:
        cuda, ours, most = self._cuda, memory.stream.handle, self._outline.batch[1]
        picture, pitch = pitched(frame, cuda, int(memory.stream))
        layout = Layout(*frame_size(picture, format), format, pitch)
        if self._faces is None:
            kernels = Kernels(cuda, self._resources)
            size = self._outline.picture[0]
            self._faces = DeviceFaces(cuda, size, most, kernels, self._resources)
        shapes = {name: (len(boxes), *shape) for name, shape in self._shapes.items()}
        results = result_arrays(shapes, None)
        wait(cuda, stream if stream is not None else picture.stream or LEGACY, ours)
        for start, stop in parts(len(boxes), most):
            slot = self._slot(memory, stop - start)
            self._faces.enqueue(
                ours,
                layout,
                boxes[start:stop],
                margin,
                frame_at=picture.address,
                faces_at=memory.images,
            )
            self._enqueue(slot, through_host=False)
            slot.fetch()
            cuda.synchronize(ours)
            for name, array in results.items():
                array[start:stop] = slot.answers[name][: stop - start]
        return results

    def _alone(self, work: Callable[[Memory], _Answer]) -> _Answer:
        """Does something while nobody else uses the session and the GPU's context is current."""
        refuse_fork(self._process)  # before the lock, which some thread may have held at the fork
        with self._lock:
            memory = self._check_open()
            with self._cuda as cuda:
                self._give_back()
                try:
                    return work(memory)
                except BaseException:
                    # Nothing of a failed run may still go on in buffers that the next one uses. This also finds out
                    # whether the context lives, which TensorRT's own answer does not say.
                    cuda.synchronize(memory.stream.handle)
                    raise

    def _borrow(self, memory: Memory, arrays: tuple[DeviceView, ...]) -> None:
        """Keeps other libraries' memory until the GPU has used it."""
        api = self._cuda.api
        flag = api.CUevent_flags.CU_EVENT_DISABLE_TIMING
        event = self._cuda.check(api.cuEventCreate(flag), "cuEventCreate")
        self._borrowed.append((event, arrays))
        self._cuda.check(api.cuEventRecord(event, memory.stream.handle), "cuEventRecord")

    def _give_back(self, *, all_of_it: bool = False) -> None:
        api = self._cuda.api
        while self._borrowed and (
            all_of_it or api.cuEventQuery(self._borrowed[0][0])[0] == api.CUresult.CUDA_SUCCESS
        ):
            api.cuEventDestroy(self._borrowed.popleft()[0])

    def _device_arrays(
        self, shapes: Mapping[str, tuple[int, ...]], out: Mapping[str, Any], memory: Memory
    ) -> tuple[dict[str, Any], dict[str, DeviceView]]:
        """What the caller gets, and the same to write to."""
        check_names(out, shapes)
        if any(isinstance(array, np.ndarray) for array in out.values()):
            raise InputError(
                "out has arrays in host memory and others: give numpy arrays alone, or none"
            )
        results: dict[str, Any] = {}
        targets: dict[str, DeviceView] = {}
        for name, shape in shapes.items():
            if name in out:
                results[name] = out[name]
                targets[name] = view(out[name], self._cuda, int(memory.stream))
                if targets[name].dtype != np.float32 or targets[name].shape != shape:
                    raise InputError(
                        f"out[{name!r}] is {targets[name].dtype} {list(targets[name].shape)}; "
                        f"it has to be float32 {list(shape)}"
                    )
            else:
                array = DeviceArray(self._cuda, shape, np.float32, memory.stream)
                results[name] = array
                targets[name] = DeviceView(array.address, shape, array.dtype, None, array)
        return results, targets

    def _run_parts(
        self, memory: Memory, faces: DeviceView, results: Mapping[str, DeviceView | NDArray[Any]]
    ) -> None:
        cuda, stream = self._cuda, memory.stream.handle
        api = cuda.api
        for start, stop in parts(len(faces), self._outline.batch[1]):
            slot = self._slot(memory, stop - start)
            part = faces.rows(start, stop)
            answer = api.cuMemcpyDtoDAsync(memory.images, part.address, part.nbytes, stream)
            cuda.check(answer, "cuMemcpyDtoDAsync")
            self._enqueue(slot, through_host=False)
            for name, result in results.items():
                if isinstance(result, DeviceView):
                    rows = result.rows(start, stop)
                    answer = api.cuMemcpyDtoDAsync(
                        rows.address, slot.places[name], rows.nbytes, stream
                    )
                    cuda.check(answer, "cuMemcpyDtoDAsync")
                else:
                    rows_here = result[start:stop]
                    answer = api.cuMemcpyDtoHAsync(
                        rows_here.ctypes.data, slot.places[name], rows_here.nbytes, stream
                    )
                    cuda.check(answer, "cuMemcpyDtoHAsync")
        if any(isinstance(result, np.ndarray) for result in results.values()):
            cuda.synchronize(stream)

    def _slot(self, memory: Memory, count: int) -> Slot:
        """The slot for a number of faces; the smallest batch of the engine serves fewer."""
        batch = max(count, self._outline.batch[0])
        slot = self._slots.get(batch)
        if slot is None:
            if len(self._slots) >= MOST_SLOTS:
                self._cuda.synchronize(memory.stream.handle)
                self._slots.popitem(last=False)[1].close()
            slot = self._slots[batch] = Slot(self._loaded, memory, batch)
        else:
            self._slots.move_to_end(batch)
        return slot

    def _enqueue(self, slot: Slot, *, through_host: bool) -> None:
        fresh = slot.fresh
        slot.enqueue(through_host=through_host)
        if fresh:
            self._loaded.keep_compiled()

    def _check_open(self) -> Memory:
        if self._memory is None or not self._open:
            raise InputError("this session is closed: open the engine again")
        return self._memory

    def close(self) -> None:
        """See Session. A call in flight finishes first."""
        if os.getpid() != self._process:  # what a fork has is its parent's
            return
        with self._lock:
            if not self._open:
                return
            self._open = False
            memory, self._memory = self._memory, None
            if memory is not None:
                with self._cuda.for_freeing():
                    self._cuda.api.cuStreamSynchronize(memory.stream.handle)
                    self._give_back(all_of_it=True)
                    for slot in self._slots.values():
                        slot.close()
            self._slots.clear()
            self._faces = None
            self._resources.close()
            self._loaded.leave()
            # The GPU's context is given back when the last that uses it lets go.
            del memory, self._loaded, self._cuda, self._resources

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        # Nobody closed it. At the exit of the process the system takes everything back.
        if getattr(self, "_open", False) and not at_exit():
            self.close()

    def __enter__(self) -> TensorRTSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
