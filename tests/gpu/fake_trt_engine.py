"""The fake TensorRT's engine: a plan that is an ONNX file behind a header."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto

from tests.gpu.fake_trt_calls import TrtObject, trt_call

MAGIC = b"FAKEPLAN"
SCRATCH_BYTES = 64 << 10

Shape = tuple[int, ...]


class TensorIOMode(Enum):
    """Input or output."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(Enum):
    """Of a tensor."""

    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8


class TensorLocation(Enum):
    """Of a tensor's memory."""

    DEVICE = 0
    HOST = 1


class TensorFormat(Enum):
    """Of a tensor's memory; the fake has no other."""

    LINEAR = 0


class LayerInformationFormat(Enum):
    """Of the inspector's text."""

    ONELINE = 0
    JSON = 1


class ExecutionContextAllocationStrategy(Enum):
    """Who gives an execution context its memory."""

    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


_TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.BFLOAT16: DataType.BF16,
    TensorProto.INT8: DataType.INT8,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64,
    TensorProto.UINT8: DataType.UINT8,
    TensorProto.BOOL: DataType.BOOL,
}


@dataclass(frozen=True)
class Header:
    """What a plan says before its ONNX.

    Attributes:
        batch: Smallest, usual, largest.
        version: Of TensorRT that it is for; empty for any.
        capturable: Whether TensorRT-RTX can be captured with it: built with REQUIRE_USER_ALLOCATION.
        fused: Names of nodes that are one operation, for each that is; none at all make a change of layout.
    """

    batch: tuple[int, int, int]
    version: str = ""
    capturable: bool = True
    fused: tuple[tuple[str, ...], ...] = ()

    def plan(self, model: bytes) -> bytes:
        """The plan of an ONNX file."""
        return MAGIC + json.dumps(vars(self)).encode() + b"\n" + model


@functools.lru_cache(maxsize=8)
def read_plan(plan: bytes) -> tuple[Header, onnx.ModelProto] | None:
    """Header and ONNX of a plan; None where it is not one."""
    if not plan.startswith(MAGIC):
        return None
    head, model = plan[len(MAGIC) :].split(b"\n", 1)
    fields = json.loads(head)
    fields["batch"] = tuple(fields["batch"])
    fields["fused"] = tuple(map(tuple, fields["fused"]))
    return Header(**fields), onnx.load_from_string(model)


@functools.lru_cache(maxsize=8)
def computer(plan: bytes) -> onnxruntime.InferenceSession:
    """Computes what the engine of a plan would."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = plan.split(b"\n", 1)[1]
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Tensor:
    """An input or output; ``shape`` has -1 for a batch that varies."""

    mode: TensorIOMode
    dtype: DataType
    shape: Shape


@dataclass(frozen=True)
class Operation:
    """One of an engine, and the nodes of the network that it computes, if any."""

    name: str
    nodes: tuple[onnx.NodeProto, ...]

    @classmethod
    def of(cls, nodes: Sequence[onnx.NodeProto]) -> Operation:
        """Of one node or of several, by the names that TensorRT gives."""
        if len(nodes) == 1:
            return cls(nodes[0].name or nodes[0].output[0], tuple(nodes))
        if not nodes:
            return cls("Reformatting CopyNode for Network Input images", ())
        kinds = "".join(node.op_type for node in nodes)
        return cls(f"__myl_{kinds}_{nodes[0].output[0]}", tuple(nodes))


class ICudaEngine(TrtObject):
    """An engine."""

    kind = "engines"
    trt: Any  # the module, set by it
    num_optimization_profiles = 1
    device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, runtime: Any, plan: bytes) -> None:
        self._runtime = runtime  # lives at least as long
        self.plan = plan
        found = read_plan(plan)
        assert found is not None
        self.header, model = found
        self._graph = model.graph
        low, _, high = self.header.batch
        constants = {tensor.name for tensor in self._graph.initializer}
        inputs = [value for value in self._graph.input if value.name not in constants]
        self.tensors: dict[str, Tensor] = {}
        for mode, values in (
            (TensorIOMode.INPUT, inputs),
            (TensorIOMode.OUTPUT, self._graph.output),
        ):
            for value in values:
                kind = value.type.tensor_type
                sizes = tuple(size.dim_value for size in kind.shape.dim)
                shape = (low if low == high else -1, *sizes[1:])
                self.tensors[value.name] = Tensor(mode, _TYPES[kind.elem_type], shape)
        self.operations = self._operations()
        self.born(runtime.cuda, runtime.logger)

    def _operations(self) -> list[Operation]:
        """Of the fake, in their order: a fused one comes where its last node was."""
        fused = {node: names for names in self.header.fused for node in names}
        nodes = {node.name: node for node in self._graph.node}
        found = [Operation.of(()) for names in self.header.fused if not names]
        for node in self._graph.node:
            names = fused.get(node.name, (node.name,))
            if node.name == names[-1]:
                found.append(Operation.of([nodes[name] for name in names] if names[0] else [node]))
        return found

    @property
    def name(self) -> str:
        """Of the network."""
        return str(self._graph.name)

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self.tensors)

    @property
    def num_layers(self) -> int:
        """Layers after fusion; the fake fuses what the plan's header names."""
        return len(self.operations)

    def get_tensor_name(self, index: int) -> str:
        """By number, the inputs first."""
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """NONE where there is no such tensor."""
        tensor = self.tensors.get(name)
        return TensorIOMode.NONE if tensor is None else tensor.mode

    def get_tensor_dtype(self, name: str) -> DataType:
        """Of its elements."""
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Shape:
        """With -1 for a batch that varies."""
        return self.tensors[name].shape

    def get_tensor_location(self, name: str) -> TensorLocation:
        """Where it has to be."""
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> TensorFormat:
        """How it lies in memory."""
        return TensorFormat.LINEAR

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        """Smallest, usual, largest; of inputs only, as the real one."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.mode != TensorIOMode.INPUT or profile_index != 0:
            self.error(f"API Usage Error (no profile {profile_index} of an input {name})")
            return []
        return [(batch, *tensor.shape[1:]) for batch in self.header.batch]

    @trt_call()
    def create_execution_context(
        self,
        strategy: Any = None,
        *,
        runtime_config: Any = None,
    ) -> Any:
        """A new context, with memory by a strategy, or by what a runtime configuration says."""
        config = runtime_config
        if isinstance(strategy, ExecutionContextAllocationStrategy):
            chosen = strategy
        else:
            config = config if strategy is None else strategy
            chosen = getattr(config, "strategy", ExecutionContextAllocationStrategy.STATIC)
        known = getattr(self.trt, "IRuntimeConfig", None)
        if config is not None and (known is None or not isinstance(config, known)):
            raise TypeError(f"create_execution_context(): incompatible argument {config!r}")
        return self.trt.IExecutionContext(self, chosen, config)

    @trt_call(gpu=False)
    def create_engine_inspector(self) -> Any:
        """Tells what is in the engine."""
        return self.trt.EngineInspector(self)


class ConfigurableEngine(ICudaEngine):
    """An engine of TensorRT 10.13 or later, or of RTX."""

    @trt_call(gpu=False)
    def create_runtime_config(self) -> Any:
        """How contexts are to be."""
        return self.trt.IRuntimeConfig(self)


class EngineInspector:
    """The layers of an engine built with ProfilingVerbosity.DETAILED."""

    trt: Any

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.execution_context: Any = None

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        """All layers: one line each, or a JSON object."""
        layers = [self._layer(operation) for operation in self._engine.operations]
        if format == LayerInformationFormat.ONELINE:
            return "\n".join(layer["Name"] for layer in layers)
        return json.dumps({"Layers": layers, "Bindings": list(self._engine.tensors)})

    def get_layer_information(self, layer_index: int, format: LayerInformationFormat) -> str:
        """One layer."""
        layer = self._layer(self._engine.operations[layer_index])
        return layer["Name"] if format == LayerInformationFormat.ONELINE else json.dumps(layer)

    def _layer(self, operation: Operation) -> dict[str, Any]:
        types = _value_types(self._engine.plan)
        nodes = operation.nodes

        def tensors(names: Any) -> list[dict[str, str]]:
            return [
                {
                    "Name": name,
                    "Location": "Device",
                    "Format/Datatype": f"Row major linear {types[name]}",
                }
                for name in names
                if name in types
            ]

        return {
            "Name": operation.name,
            "LayerType": nodes[0].op_type if len(nodes) == 1 else "kgen" if nodes else "Reformat",
            "Inputs": tensors(nodes[0].input) if nodes else [],
            "Outputs": tensors(nodes[-1].output) if nodes else [],
            "Metadata": "\x1e".join(f"[ONNX Layer: {node.name}]" for node in nodes),
        }


@functools.lru_cache(maxsize=8)
def _value_types(plan: bytes) -> dict[str, str]:
    """Tensor -> type as the inspector writes it, of activations."""
    names = {DataType.FLOAT: "FP32", DataType.HALF: "FP16"}
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(plan.split(b"\n", 1)[1]))
    graph = model.graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dtype = _TYPES.get(value.type.tensor_type.elem_type)
        if dtype is not None:
            found[value.name] = names.get(dtype, dtype.name)
    return found
