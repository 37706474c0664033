"""The fake TensorRT's execution context: it checks what a real one needs, and computes through onnxruntime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.gpu.fake_calls import CUresult, Refused
from tests.gpu.fake_context import number
from tests.gpu.fake_trt_calls import TrtObject, trt_call
from tests.gpu.fake_trt_engine import (
    SCRATCH_BYTES,
    DataType,
    ExecutionContextAllocationStrategy,
    ICudaEngine,
    Shape,
    TensorIOMode,
    computer,
)

_ALIGNMENT = 256  # of every address, by the documentation of setTensorAddress
_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.UINT8: np.uint8,
    DataType.BOOL: np.bool_,
}
OPERATION_MS = 1e-3
"""What the profiler is told of the first operation; of each one behind it as much more."""
Places = dict[str, tuple[int, Shape, Any]]  # tensor -> address, shape, numpy type


class IExecutionContext(TrtObject):
    """One way through an engine. Not thread-safe."""

    kind = "execution contexts"
    trt: Any
    active_optimization_profile = 0
    profiler: Any = None
    enqueue_emits_profile = True

    def __init__(self, engine: ICudaEngine, strategy: Any, config: Any) -> None:
        self.engine = engine  # lives at least as long
        self._config = config
        self._own_graphs = config is not None and config.own_graphs
        self._strategy = strategy
        self._shapes: dict[str, Shape] = {
            name: tensor.shape
            for name, tensor in engine.tensors.items()
            if tensor.mode == TensorIOMode.INPUT and -1 not in tensor.shape
        }
        self._addresses: dict[str, int] = {}
        self._ran: set[Shape] = set()
        self._recorded: Any = None  # the stream of a run whose times are not told yet
        self._alive = [True]  # shared with the work that it enqueues
        self._scratch = 0
        cuda = engine.cuda
        self._own_scratch = 0
        if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
            block = cuda.heap.allocate(SCRATCH_BYTES, "device", cuda.current())
            self._own_scratch = self._scratch = block.address
        self.born(cuda, engine.logger)

    def gone(self) -> None:
        """See TrtObject."""
        self._alive[0] = False
        if self._own_scratch in self.cuda.heap.live:
            self.cuda.heap.free(self._own_scratch, "device")

    @trt_call(False, gpu=False)
    def set_input_shape(self, name: str, shape: Any) -> bool:
        """Of the next run."""
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"set_input_shape(): incompatible argument {shape!r}")
        wanted = tuple(int(size) for size in shape)
        if self.engine.get_tensor_mode(name) != TensorIOMode.INPUT:
            return self._misuse(f"there is no input {name}")
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        if len(wanted) != len(low) or not all(
            least <= size <= most for least, size, most in zip(low, wanted, high, strict=True)
        ):
            return self._misuse(f"{name} of {wanted} is outside of {low} to {high}")
        self._shapes[name] = wanted
        return True

    def get_tensor_shape(self, name: str) -> Shape:
        """With -1 while the batch is not known."""
        tensor = self.engine.tensors[name]
        if tensor.mode == TensorIOMode.INPUT:
            return self._shapes.get(name, tensor.shape)
        batches = [shape[0] for shape in self._shapes.values()]
        return (batches[0] if batches else tensor.shape[0], *tensor.shape[1:])

    @trt_call(False, gpu=False)
    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Of an input or output, from the next run on."""
        if name not in self.engine.tensors:
            return self._misuse(f"there is no tensor {name}")
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        """0 where it is not set."""
        return self._addresses.get(name, 0)

    @trt_call(False)
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """There is one profile only."""
        if profile_index != 0:
            return self._misuse(f"there is no profile {profile_index}")
        return True

    @trt_call(gpu=False)
    def set_device_memory(self, memory: int, size: int) -> None:
        """Memory to run in; refused through the logger alone."""
        if self._strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
            self._misuse("set_device_memory of a context that has its own")
        elif size < SCRATCH_BYTES or memory % _ALIGNMENT or not memory:
            self._misuse(f"{size} bytes at {memory:#x} where it takes {SCRATCH_BYTES}, aligned")
        else:
            self._scratch = int(memory)

    def infer_shapes(self) -> list[str]:
        """Inputs without a shape."""
        inputs = [n for n, t in self.engine.tensors.items() if t.mode == TensorIOMode.INPUT]
        return [name for name in inputs if name not in self._shapes]

    @trt_call(False)
    def execute_async_v3(self, stream_handle: int) -> bool:
        """Puts a run on a stream; the first of a shape cannot be captured."""
        if self.infer_shapes():
            return self._misuse(f"no shape for {self.infer_shapes()}")
        if not self._scratch:
            return self._misuse("no device memory was set")
        missing = [name for name in self.engine.tensors if not self._addresses.get(name)]
        if missing:
            return self._misuse(f"no address for {missing}")
        shapes = tuple(self._shapes.values())
        if self.cuda.null:
            self._ran.update(shapes)
            return True
        stream = self.cuda.stream(stream_handle)
        if stream.capture is not None and not (self._capturable and set(shapes) <= self._ran):
            self.cuda.spoil(stream.capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        crooked = [name for name, at in self._addresses.items() if at % _ALIGNMENT]
        if crooked:
            self.cuda.violation(f"addresses given to TensorRT are not aligned: {crooked}")
            return self._misuse(f"misaligned address for {crooked}")
        places: Places = {
            name: (self._addresses[name], self.get_tensor_shape(name), _NUMPY[tensor.dtype])
            for name, tensor in self.engine.tensors.items()
        }
        scratch, engine, alive = self._scratch, self.engine, self._alive
        self.cuda.enqueue(stream, lambda: _compute(engine, places, scratch, alive))
        if stream.capture is None:
            self._ran.update(shapes)
            if self._config is not None:
                self._config.compiled(shapes)
            if self.profiler is not None:
                self._recorded = stream
                if self.enqueue_emits_profile:
                    self._tell()
        return True

    @trt_call(False)
    def report_to_profiler(self) -> bool:
        """Tells the times of the last run, once it is done; of a captured one there are none."""
        if self.profiler is None or self._recorded is None:
            return self._misuse("there is no run whose times could be told")
        self._tell()
        return True

    def _tell(self) -> None:
        self.cuda.drain(self._recorded)
        self._recorded = None
        for place, operation in enumerate(self.engine.operations if self.trt.tells else ()):
            self.profiler.report_layer_time(operation.name, OPERATION_MS * (place + 1))

    @property
    def _capturable(self) -> bool:
        return not self.trt.rtx or (
            self.engine.header.capturable
            and self._strategy == ExecutionContextAllocationStrategy.USER_MANAGED
            and not self._own_graphs
        )

    def _misuse(self, text: str) -> bool:
        self.error(f"API Usage Error ({text})")
        return False


class RtxExecutionContext(IExecutionContext):
    """An execution context of TensorRT-RTX."""

    @trt_call(False)
    def is_stream_capturable(self, stream: int) -> bool:
        """Whether a run could be captured on a stream, once it has run."""
        return self._capturable and number(stream) > 2  # not on a default stream


def _compute(engine: ICudaEngine, places: Places, scratch: int, alive: list[bool]) -> None:
    cuda = engine.cuda
    if not alive[0]:
        cuda.violation(
            "an execution context was deleted before its work, or a graph of it, had run"
        )
        raise Refused(CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    cuda.on_gpu(scratch, SCRATCH_BYTES, "TensorRT, device memory")[:] = 0xCC
    arrays = {
        name: cuda.on_gpu(at, math.prod(shape) * np.dtype(dtype).itemsize, f"TensorRT, {name}")
        .view(dtype)
        .reshape(shape)
        for name, (at, shape, dtype) in places.items()
    }
    session = computer(engine.plan)
    inputs = {value.name: arrays[value.name] for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    for name, value in zip(outputs, session.run(outputs, inputs), strict=True):
        arrays[name][...] = value
