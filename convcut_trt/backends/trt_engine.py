"""A deserialised TensorRT engine: what is in it, and what the sessions on it share."""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from convcut_trt.backends.trt_flavours import Feature, Flavour
from convcut_trt.backends.trt_runtime import deserialise, refusal
from convcut_trt.errors import CudaError, EngineMismatch
from convcut_trt.gpu.cache import Cache, key_of
from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.kernels import Kernels
from convcut_trt.gpu.resources import Resources
from convcut_trt.gpu.tail import DeviceTail
from convcut_trt.kernels.tail import Tail
from convcut_trt.spec import INPUT, OUTPUTS

_log = logging.getLogger(__name__)
LOGITS, PROBABILITIES, MAP = OUTPUTS


@dataclass(frozen=True)
class Outline:
    """The outside of an engine.

    Attributes:
        picture: (H, W, 3) of its input, uint8.
        batch: Smallest and largest.
        outputs: Name -> shape of one face, of what it writes itself, in the order of ``spec.OUTPUTS``.
    """

    picture: tuple[int, int, int]
    batch: tuple[int, int]
    outputs: dict[str, tuple[int, ...]]


class LoadedEngine:
    """An engine on one GPU, used by one or more sessions; the last to leave frees it. Thread-safe.

    Attributes:
        flavour: Which TensorRT.
        cuda: The GPU.
        outline: Input, outputs, batch.
        tail: The kernel behind an engine that ends at the map; None where the engine answers itself.
        tail_shapes: Name -> shape of one face, of what the tail kernel writes.
        scratch_bytes: Device memory that a context needs while it runs.
    """

    def __init__(self, flavour: Flavour, name: str, plan: bytes, tail: Tail | None) -> None:
        """Deserialises a plan, which is native code: its hash has to be checked by now.

        Args:
            flavour: Which TensorRT.
            name: Of the file, for messages.
            plan: Its content.
            tail: What follows an engine that ends at the map.

        Raises:
            EngineMismatch: TensorRT refuses it here; ``log`` holds what it said.
            BackendMissing, BuildError: The tail kernel cannot be had.
            CudaError: The driver refused.
        """
        self.flavour = flavour
        self.cuda = Cuda()
        self.tail: DeviceTail | None = None
        self.tail_shapes: dict[str, tuple[int, ...]] = {}
        self._trt = flavour.load()
        self._runtime: Any = None
        self._engine: Any = None
        self._users, self._counting = 1, threading.RLock()  # a garbage collection may leave in it
        self._resources = Resources(self.cuda)
        self._cache_key = key_of(plan, self._trt.__version__, self.cuda.name) + ".runtime"
        self._cached = b""
        try:
            with self.cuda:
                self._runtime, self._engine = deserialise(flavour, name, plan, self.cuda.name)
                self.outline = _outline(self._trt, self._engine, name)
                _check_end(name, self.outline, tail)
                self.scratch_bytes = int(self._engine.device_memory_size_v2)
                self._config = self._runtime_config()
                if tail is not None:
                    kernels = Kernels(self.cuda, self._resources)
                    self.tail = DeviceTail(self.cuda, tail, kernels, self._resources)
                    self.tail_shapes = {LOGITS: (tail.classes,), PROBABILITIES: (tail.classes,)}
        except BaseException:
            self.leave()
            raise

    def _runtime_config(self) -> Any:
        """TensorRT-RTX compiles at the first run: here is kept what it compiled; None for TensorRT."""
        trt = self._trt
        if not self.flavour.has(Feature.RUNTIME_CACHE, trt):
            return None
        config = self._engine.create_runtime_config()
        if config is None:
            raise self.refusal("make a runtime configuration")
        config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # Kernels for a shape are compiled before its first answer: a graph would keep the slower ones for ever.
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._runtime_cache = config.create_runtime_cache()
        if self._runtime_cache is None:
            raise self.refusal("make a runtime cache")
        kept = Cache("runtime").get(self._cache_key)
        if kept is not None and self._runtime_cache.deserialize(kept):
            self._cached = hashlib.sha256(kept).digest()
        config.set_runtime_cache(self._runtime_cache)
        return config

    def context(self, *, own_graph: bool = True) -> Any:
        """A new execution context without memory of its own. The GPU's context has to be current.

        Args:
            own_graph: False lets TensorRT-RTX capture its own CUDA graphs, where the caller cannot.

        Raises:
            CudaError: TensorRT refused.
        """
        trt = self._trt
        if self._config is None:
            context = self._engine.create_execution_context(
                trt.ExecutionContextAllocationStrategy.USER_MANAGED
            )
        else:
            strategies = trt.CudaGraphStrategy
            self._config.cuda_graph_strategy = (
                strategies.DISABLED if own_graph else strategies.WHOLE_GRAPH_CAPTURE
            )
            context = self._engine.create_execution_context(self._config)
        if context is None:
            raise self.refusal("create an execution context")
        return context

    def capturable(self, context: Any, stream: int) -> bool:
        """Whether work of a context can be put into a CUDA graph; only TensorRT-RTX may say no."""
        if not self.flavour.has(Feature.STREAM_CAPTURABLE, self._trt):
            return True
        return bool(context.is_stream_capturable(stream))

    def refusal(self, what: str) -> CudaError:
        """The error for a call that TensorRT refused, with what it said about it."""
        return refusal(self.flavour, what)

    def keep_compiled(self) -> None:
        """Writes down what TensorRT-RTX has compiled by now, for the next process."""
        if self._config is None:
            return
        serialised = self._runtime_cache.serialize()
        if serialised is None:
            _log.warning("TensorRT-RTX does not give what it compiled: it compiles again next time")
            return
        compiled = bytes(serialised)
        digest = hashlib.sha256(compiled).digest()
        if digest != self._cached:
            Cache("runtime").put(self._cache_key, compiled)
            self._cached = digest

    def enter(self) -> LoadedEngine:
        """One session more."""
        with self._counting:
            self._users += 1
        return self

    def leave(self) -> None:
        """One session less; with the last one goes the engine."""
        with self._counting:
            self._users -= 1
            last = self._users == 0
        if last and not self.cuda.forked:
            with self.cuda.for_freeing():
                # Config, engine, runtime: each needs those behind it to be destroyed.
                self._runtime_cache = self._config = None
                self._engine = None
                self._runtime = None
            self._resources.close()


def _outline(trt: ModuleType, engine: Any, name: str) -> Outline:
    found: dict[str, tuple[Any, tuple[int, ...]]] = {}
    picture: tuple[int, ...] = ()
    batch = (0, 0)
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        shape, dtype = tuple(engine.get_tensor_shape(tensor)), engine.get_tensor_dtype(tensor)
        if engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT:
            fits = tensor == INPUT and dtype == trt.DataType.UINT8 and len(shape) == 4
            if not fits or picture:
                break
            low, _, high = engine.get_tensor_profile_shape(tensor, 0)
            picture, batch = shape[1:], (int(low[0]), int(high[0]))
        else:
            found[tensor] = dtype, shape[1:]
    wrong = [
        key for key, (dtype, shape) in found.items() if dtype != trt.DataType.FLOAT or -1 in shape
    ]
    if (
        len(picture) != 3
        or picture[2] != 3
        or MAP not in found
        or wrong
        or set(found) - set(OUTPUTS)
    ):
        raise EngineMismatch(
            f"{name} is not the engine of a Conv-cut model (uint8 {INPUT} [N, H, W, 3] -> float32 "
            f"{', '.join(OUTPUTS)}): build it with convcut-trt build"
        )
    outputs = {key: found[key][1] for key in OUTPUTS if key in found}
    return Outline((picture[0], picture[1], picture[2]), batch, outputs)


def _check_end(name: str, outline: Outline, tail: Tail | None) -> None:
    wanted = set(OUTPUTS) if tail is None else {MAP}
    if set(outline.outputs) != wanted:
        raise EngineMismatch(
            f"{name} gives {', '.join(outline.outputs)}, and by its manifest it gives "
            f"{', '.join(sorted(wanted))}: build it again with convcut-trt build"
        )
