"""Stands in for the modules ``tensorrt`` and ``tensorrt_rtx``, above a fake driver.

    cuda = FakeCuda()
    trt = FakeTensorRT(cuda, "10.3.0")
    plan("model.onnx".read_bytes(), batch=(1, 4, 16))  # what stands for an engine's file

It has what sessions use, under the names of the real ones, and in each version only what that version has. Runs are
enqueued on the fake driver's streams and give the true result. A call that cannot be done answers as the real one
does, with None or False and a message to the logger; ``FakeCuda.fail`` counts these calls among its own.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from tests.gpu import fake_trt_context, fake_trt_engine
from tests.gpu.fake_calls import Refused, timed
from tests.gpu.fake_cuda import FakeCuda
from tests.gpu.fake_trt_calls import ILogger, IProfiler, Logger, TrtObject, trt_call
from tests.gpu.fake_trt_engine import ExecutionContextAllocationStrategy, Header, read_plan

_RUNTIME_CONFIG_FROM = (10, 13)
_CACHE_MAGIC = b"FAKECACHE"


def plan(
    model: bytes,
    batch: tuple[int, int, int] = (1, 4, 16),
    **header: Any,
) -> bytes:
    """The engine of an ONNX file; see ``fake_trt_engine.Header``."""
    return Header(batch, **header).plan(model)


class EngineValidity(Enum):
    """Whether an RTX engine fits here."""

    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(Enum):
    """Why not, added up."""

    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


class CudaGraphStrategy(Enum):
    """Whether RTX captures graphs of its own."""

    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(Enum):
    """When RTX compiles for a shape."""

    LAZY = 0
    EAGER = 1
    NONE = 2


class Runtime(TrtObject):
    """Loads engines."""

    kind = "runtimes"
    trt: Any

    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError(f"__init__(): incompatible argument {logger!r}")
        self.cuda, self.logger = self.trt.cuda, logger
        self.engine_host_code_allowed = False
        if not self._begin():
            raise TypeError("pybind11::init(): factory function returned nullptr")

    @timed
    def _begin(self) -> bool:
        if self.cuda.begin("Runtime") is not None or self.cuda.dead is not None:
            return False
        try:
            self.born(self.cuda, self.logger)
        except Refused:
            self.cuda.violation("a Runtime was made in a thread without a current context")
            return False
        return True

    @trt_call()
    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """An engine, or None."""
        content = bytes(serialized_engine)
        found = read_plan(content)
        if found is None:
            self.error("Serialization (magic tag does not match)")
            return None
        version = found[0].version
        if version and version != self.trt.__version__:
            self.error(f"Serialization (version {version} where {self.trt.__version__} runs)")
            return None
        return self.trt.ICudaEngine(self, content)


class RtxRuntime(Runtime):
    """A runtime of TensorRT-RTX."""

    engine_header_size = 64

    @trt_call((EngineValidity.INVALID, EngineInvalidityDiagnostics.CUDA_ERROR.value))
    def get_engine_validity(self, buffer: Any) -> tuple[EngineValidity, int]:
        """Whether an engine fits here, and why not."""
        found = read_plan(bytes(buffer))
        diagnostics = 0
        if found is None:
            diagnostics = EngineInvalidityDiagnostics.MALFORMED_ENGINE.value
        elif found[0].version not in ("", self.trt.__version__):
            diagnostics = EngineInvalidityDiagnostics.VERSION_MISMATCH.value
        return (EngineValidity.INVALID if diagnostics else EngineValidity.VALID), diagnostics


class IRuntimeConfig(TrtObject):
    """How execution contexts are to be."""

    kind = "runtime configs"
    trt: Any
    own_graphs = False

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.born(engine.cuda, engine.logger)

    def set_execution_context_allocation_strategy(
        self,
        strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC,
    ) -> None:
        """Of contexts made from here on."""
        self.strategy = strategy

    def get_execution_context_allocation_strategy(self) -> ExecutionContextAllocationStrategy:
        """See ``set_execution_context_allocation_strategy``."""
        return self.strategy

    def compiled(self, shapes: tuple[Any, ...]) -> None:
        """The fake's: a context ran with these shapes."""


class RtxRuntimeConfig(IRuntimeConfig):
    """A runtime configuration of TensorRT-RTX."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = (
            DynamicShapesKernelSpecializationStrategy.LAZY
        )
        self._cache: Any = None

    @property
    def own_graphs(self) -> bool:  # type: ignore[override]
        """Whether RTX captures by itself."""
        return self.cuda_graph_strategy != CudaGraphStrategy.DISABLED

    @trt_call(gpu=False)
    def create_runtime_cache(self) -> Any:
        """For what is compiled at the first run."""
        return self.trt.IRuntimeCache(self)

    @trt_call(False, gpu=False)
    def set_runtime_cache(self, cache: Any = None) -> bool:
        """Contexts made from here on compile into it."""
        self._cache = cache
        return True

    def get_runtime_cache(self) -> Any:
        """See ``set_runtime_cache``."""
        return self._cache

    def compiled(self, shapes: tuple[Any, ...]) -> None:
        """See IRuntimeConfig."""
        if self._cache is not None:
            self._cache.shapes.update(map(str, shapes))


class IRuntimeCache(TrtObject):
    """What RTX compiled."""

    kind = "runtime caches"
    trt: Any

    def __init__(self, config: Any) -> None:
        self.shapes: set[str] = set()
        self.born(config.cuda, config.logger)

    @trt_call(gpu=False)
    def serialize(self) -> memoryview:
        """All of it."""
        return memoryview(_CACHE_MAGIC + ";".join(sorted(self.shapes)).encode())

    @trt_call(False, gpu=False)
    def deserialize(self, blob: Any) -> bool:
        """Takes what ``serialize`` gave."""
        content = bytes(blob)
        if not content.startswith(_CACHE_MAGIC):
            self.error("Serialization (not a runtime cache)")
            return False
        self.shapes = set(filter(None, content[len(_CACHE_MAGIC) :].decode().split(";")))
        return True

    @trt_call(False, gpu=False)
    def reset(self) -> bool:
        """Empties it."""
        self.shapes.clear()
        return True


class FakeTensorRT:
    """The module.

    Args:
        cuda: The fake driver below.
        version: ``10.3.0`` ... ``11.4.0``, or of RTX.
        rtx: TensorRT-RTX.

    Attributes:
        tells: Whether profilers are told anything.
    """

    ILogger = ILogger
    IProfiler = IProfiler
    Logger = Logger
    TensorIOMode = fake_trt_engine.TensorIOMode
    DataType = fake_trt_engine.DataType
    TensorLocation = fake_trt_engine.TensorLocation
    TensorFormat = fake_trt_engine.TensorFormat
    LayerInformationFormat = fake_trt_engine.LayerInformationFormat
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy

    def __init__(self, cuda: FakeCuda, version: str = "10.3.0", *, rtx: bool = False) -> None:
        self.cuda = cuda
        self.rtx = rtx
        self.tells = True
        self.__version__ = version
        major, minor = (int(part) for part in version.split(".")[:2])
        configurable = rtx or (major, minor) >= _RUNTIME_CONFIG_FROM
        self.Runtime = self._class("Runtime", RtxRuntime if rtx else Runtime)
        engine = fake_trt_engine.ConfigurableEngine if configurable else fake_trt_engine.ICudaEngine
        self.ICudaEngine = self._class("ICudaEngine", engine)
        self.EngineInspector = self._class("EngineInspector", fake_trt_engine.EngineInspector)
        context = (
            fake_trt_context.RtxExecutionContext if rtx else fake_trt_context.IExecutionContext
        )
        self.IExecutionContext = self._class("IExecutionContext", context)
        if configurable:
            config = RtxRuntimeConfig if rtx else IRuntimeConfig
            self.IRuntimeConfig = self._class("IRuntimeConfig", config)
        if rtx:
            self.IRuntimeCache = self._class("IRuntimeCache", IRuntimeCache)
            self.CudaGraphStrategy = CudaGraphStrategy
            self.DynamicShapesKernelSpecializationStrategy = (
                DynamicShapesKernelSpecializationStrategy
            )
            self.EngineValidity = EngineValidity
            self.EngineInvalidityDiagnostics = EngineInvalidityDiagnostics

    def _class(self, name: str, base: Any) -> Any:
        """A class of this module's own: its objects know the version that they are of."""
        return type(name, (base,), {"trt": self})
