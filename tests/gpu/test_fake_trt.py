"""The fake TensorRT computes what the network does, and answers as the real one where it cannot."""

from __future__ import annotations

import gc
import json
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver

from convcut_trt.home import find_model
from convcut_trt.seam import split
from convcut_trt.spec import INPUT, OUTPUTS
from tests.gpu.fake_cuda import FakeCuda, ok, with_context
from tests.gpu.fake_trt import FakeTensorRT, plan
from tests.gpu.fake_trt_engine import SCRATCH_BYTES
from tests.gpu.machine import VERSIONS

onnx: Any = pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")
THREAD_LOCAL = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


@pytest.fixture(scope="module")
def model() -> bytes:
    return find_model("conv-cut-mini").onnx.read_bytes()


@pytest.fixture
def cuda() -> FakeCuda:
    return with_context()


class Said:
    """A module, a runtime, and what its logger was told."""

    def __init__(self, cuda: FakeCuda, version: str = "10.3.0", rtx: bool = False) -> None:
        self.cuda = cuda
        self.trt: Any = FakeTensorRT(cuda, version, rtx=rtx)
        said = self.errors = []  # type: ignore[var-annotated]

        class Logger(self.trt.ILogger):  # type: ignore[misc, name-defined]
            def log(self, severity: Any, msg: str) -> None:
                said.append(msg)

        self.runtime = self.trt.Runtime(Logger())

    def context(self, engine: Any) -> Any:
        """An execution context with memory of the caller's."""
        strategies = self.trt.ExecutionContextAllocationStrategy
        context = engine.create_execution_context(strategies.USER_MANAGED)
        scratch = int(ok(self.cuda.cuMemAlloc(engine.device_memory_size_v2)))
        context.set_device_memory(scratch, engine.device_memory_size_v2)
        return context

    def bind(self, context: Any, pictures: Any) -> dict[str, Any]:
        """Sets shapes and addresses; tensor -> (address, array of its shape)."""
        engine, cuda = context.engine, self.cuda
        assert context.set_input_shape(INPUT, pictures.shape)
        arrays = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype = np.uint8 if name == INPUT else np.float32
            array = np.zeros(tuple(context.get_tensor_shape(name)), dtype)
            arrays[name] = int(ok(cuda.cuMemAlloc(array.nbytes))), array
            assert context.set_tensor_address(name, arrays[name][0])
        ok(cuda.cuMemcpyHtoD(arrays[INPUT][0], pictures, pictures.nbytes))
        return arrays


def pictures(batch: int, size: int = 48) -> Any:
    return np.random.default_rng(batch).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def side(model: bytes) -> int:
    shape = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape
    return int(shape.dim[1].dim_value)


@pytest.mark.parametrize(("version", "rtx"), VERSIONS)
@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[-1:]])
def test_a_run_gives_what_the_network_gives(
    cuda: FakeCuda, model: bytes, outputs: tuple[str, ...], version: str, rtx: bool
) -> None:
    if outputs != OUTPUTS:
        model = split(onnx.load_from_string(model))[0].SerializeToString()
    it = Said(cuda, version, rtx)
    engine = it.runtime.deserialize_cuda_engine(plan(model, (1, 2, 4)))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == [INPUT, *outputs]
    assert [tuple(s)[0] for s in engine.get_tensor_profile_shape(INPUT, 0)] == [1, 2, 4]
    assert engine.get_tensor_shape(INPUT)[0] == -1
    context, given = it.context(engine), pictures(3, side(model))
    assert context.infer_shapes() == [INPUT]
    arrays = it.bind(context, given)
    assert context.infer_shapes() == []
    stream = ok(cuda.cuStreamCreate(1))
    assert context.execute_async_v3(int(stream))
    before = arrays["map"][1]
    ok(cuda.cuMemcpyDtoH(before, arrays["map"][0], before.nbytes))
    assert np.isnan(before).all()  # enqueued, not run
    ok(cuda.cuStreamSynchronize(stream))
    expected = onnxruntime.InferenceSession(model).run(list(outputs), {INPUT: given})
    for name, wanted in zip(outputs, expected, strict=True):
        address, array = arrays[name]
        ok(cuda.cuMemcpyDtoH(array, address, array.nbytes))
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5)
    assert not it.errors
    cuda.check()


def test_a_fixed_batch_has_its_shape_from_the_start(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    engine = it.runtime.deserialize_cuda_engine(plan(model, (2, 2, 2)))
    assert engine.get_tensor_shape(INPUT)[0] == 2
    context = engine.create_execution_context()
    assert context.infer_shapes() == []
    assert context.get_tensor_shape("logits")[0] == 2


def test_what_cannot_be_done_is_refused_and_said(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    assert it.runtime.engine_host_code_allowed is False
    assert it.runtime.deserialize_cuda_engine(b"nonsense") is None
    assert it.runtime.deserialize_cuda_engine(plan(model, version="10.7.0")) is None
    engine = it.runtime.deserialize_cuda_engine(plan(model, (1, 2, 4), version="10.3.0"))
    strategies = it.trt.ExecutionContextAllocationStrategy
    context = engine.create_execution_context(strategies.USER_MANAGED)
    small, stream = pictures(1, side(model)), ok(cuda.cuStreamCreate(1))
    shape = small.shape[1:]
    refused = [
        context.set_input_shape(INPUT, (5, *shape)),
        context.set_input_shape(INPUT, shape),
        context.set_input_shape("logits", (1, 8)),
        context.set_tensor_address("nothing", 256),
        context.set_optimization_profile_async(1, int(stream)),
        context.execute_async_v3(int(stream)),  # no shape
        context.set_input_shape(INPUT, (1, *shape)) and context.execute_async_v3(int(stream)),
        context.set_device_memory(256, SCRATCH_BYTES - 1),
        context.execute_async_v3(int(stream)),
        context.set_device_memory(int(ok(cuda.cuMemAlloc(SCRATCH_BYTES))), SCRATCH_BYTES),
        context.execute_async_v3(int(stream)),  # no addresses
    ]
    assert not any(refused)
    assert len(it.errors) == 12
    it.bind(context, small)
    assert not context.execute_async_v3(12345)  # no stream
    assert context.execute_async_v3(int(stream))
    with pytest.raises(TypeError):
        context.set_input_shape(INPUT, 5)
    with pytest.raises(TypeError):
        it.trt.Runtime(object())
    cuda.check()


def test_addresses_have_to_be_aligned(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    context = it.context(it.runtime.deserialize_cuda_engine(plan(model)))
    arrays = it.bind(context, pictures(1, side(model)))
    assert context.set_tensor_address("map", arrays["map"][0] + 4)
    assert not context.execute_async_v3(int(ok(cuda.cuStreamCreate(1))))
    assert cuda.violations


def capture(cuda: FakeCuda, context: Any, stream: Any) -> Any:
    ok(cuda.cuStreamBeginCapture(stream, THREAD_LOCAL))
    done = context.execute_async_v3(int(stream))
    code, graph = cuda.cuStreamEndCapture(stream)
    assert done == (code == driver.CUresult.CUDA_SUCCESS)
    if not done:
        return None
    return ok(cuda.cuGraphInstantiate(graph, 0))


def test_the_first_run_of_a_shape_cannot_be_captured(cuda: FakeCuda, model: bytes) -> None:
    it, stream = Said(cuda), ok(cuda.cuStreamCreate(1))
    context = it.context(it.runtime.deserialize_cuda_engine(plan(model)))
    arrays = it.bind(context, pictures(1, side(model)))
    assert capture(cuda, context, stream) is None
    assert context.execute_async_v3(int(stream))
    executable = capture(cuda, context, stream)
    ok(cuda.cuStreamSynchronize(stream))
    again = pictures(2, side(model))[:1]
    ok(cuda.cuMemcpyHtoD(arrays[INPUT][0], again, again.nbytes))
    ok(cuda.cuGraphLaunch(executable, stream))
    ok(cuda.cuStreamSynchronize(stream))
    address, array = arrays["logits"]
    ok(cuda.cuMemcpyDtoH(array, address, array.nbytes))
    wanted = onnxruntime.InferenceSession(model).run(["logits"], {INPUT: again})[0]
    np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5)
    assert context.set_input_shape(INPUT, (2, *again.shape[1:]))
    assert capture(cuda, context, stream) is None
    cuda.check()
    del context
    ok(cuda.cuGraphLaunch(executable, stream))  # of a context that is gone
    assert cuda.cuStreamSynchronize(stream)[0] == driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    assert cuda.violations


def test_rtx_says_whether_it_can_be_captured(cuda: FakeCuda, model: bytes) -> None:
    it, stream = Said(cuda, "1.7.1.116", rtx=True), ok(cuda.cuStreamCreate(1))
    answers = []
    for content in (plan(model), plan(model, capturable=False)):
        engine = it.runtime.deserialize_cuda_engine(content)
        config = engine.create_runtime_config()
        strategies = it.trt.ExecutionContextAllocationStrategy
        for strategy in (strategies.USER_MANAGED, strategies.STATIC):
            config.set_execution_context_allocation_strategy(strategy)
            for config.cuda_graph_strategy in it.trt.CudaGraphStrategy:
                context = engine.create_execution_context(config)
                answers.append(context.is_stream_capturable(int(stream)))
    assert answers == [True, False, False, False, False, False, False, False]


def test_rtx_keeps_what_it_compiled(cuda: FakeCuda, model: bytes) -> None:
    it, stream = Said(cuda, "1.7.1.116", rtx=True), ok(cuda.cuStreamCreate(1))
    engine = it.runtime.deserialize_cuda_engine(plan(model))
    config = engine.create_runtime_config()
    cache = config.create_runtime_cache()
    empty = bytes(cache.serialize())
    assert config.set_runtime_cache(cache)
    context = engine.create_execution_context(runtime_config=config)
    it.bind(context, pictures(1, side(model)))
    assert context.execute_async_v3(int(stream))
    filled = bytes(cache.serialize())
    assert len(filled) > len(empty)
    other = config.create_runtime_cache()
    assert other.deserialize(filled)
    assert bytes(other.serialize()) == filled
    assert not other.deserialize(b"nonsense")
    ok(cuda.cuStreamSynchronize(stream))
    validity = it.trt.EngineValidity
    assert it.runtime.get_engine_validity(plan(model)) == (validity.VALID, 0)
    assert it.runtime.get_engine_validity(b"nonsense")[0] == validity.INVALID


def test_the_inspector_lists_layers(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    engine = it.runtime.deserialize_cuda_engine(plan(model))
    inspector, formats = engine.create_engine_inspector(), it.trt.LayerInformationFormat
    layers = json.loads(inspector.get_engine_information(formats.JSON))["Layers"]
    assert len(layers) == engine.num_layers
    kinds = {layer["LayerType"] for layer in layers}
    assert {"Conv", "LayerNormalization"} <= kinds
    written = {out["Format/Datatype"] for layer in layers for out in layer["Outputs"]}
    assert "Row major linear FP32" in written
    one = inspector.get_layer_information(0, formats.JSON)
    assert json.loads(one) == layers[0]


@pytest.mark.parametrize(("version", "rtx"), VERSIONS)
def test_a_profiler_is_told_after_a_run_and_never_of_a_captured_one(
    cuda: FakeCuda, model: bytes, version: str, rtx: bool
) -> None:
    it = Said(cuda, version, rtx)
    engine = it.runtime.deserialize_cuda_engine(plan(model, (1, 2, 4)))
    context = it.context(engine)
    arrays = it.bind(context, pictures(1, side(model)))
    told: list[tuple[str, float]] = []

    class Profiler(it.trt.IProfiler):  # type: ignore[misc, name-defined]
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            told.append((layer_name, ms))

    context.profiler = Profiler()
    stream = ok(cuda.cuStreamCreate(1))
    assert context.execute_async_v3(int(stream))  # waits by itself
    assert [name for name, _ in told] == [operation.name for operation in engine.operations]
    assert all(ms > 0 for _, ms in told)
    before = arrays["map"][1]
    ok(cuda.cuMemcpyDtoH(before, arrays["map"][0], before.nbytes))
    assert not np.isnan(before).any()
    assert not context.report_to_profiler()  # of that run it has told

    told.clear()
    context.enqueue_emits_profile = False
    assert context.execute_async_v3(int(stream)) and not told
    assert context.report_to_profiler() and len(told) == engine.num_layers

    told.clear()
    executable = capture(cuda, context, stream)
    ok(cuda.cuGraphLaunch(executable, stream))
    ok(cuda.cuStreamSynchronize(stream))
    assert not context.report_to_profiler() and not told
    assert len(it.errors) == 2
    context.profiler = None
    assert context.execute_async_v3(int(stream)) and not context.report_to_profiler()


def test_fused_nodes_are_one_operation(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    names = tuple(node.name for node in onnx.load_from_string(model).graph.node[3:6])
    alone = it.runtime.deserialize_cuda_engine(plan(model))
    engine = it.runtime.deserialize_cuda_engine(plan(model, fused=(names, ())))
    assert engine.num_layers == alone.num_layers - 2 + 1
    inspector, formats = engine.create_engine_inspector(), it.trt.LayerInformationFormat
    layers = json.loads(inspector.get_engine_information(formats.JSON))["Layers"]
    assert layers[0]["Metadata"] == "" and "Reformatting" in layers[0]["Name"]
    (fused,) = (layer for layer in layers if layer["Name"].startswith("__myl_"))
    assert fused["Metadata"] == "\x1e".join(f"[ONNX Layer: {name}]" for name in names)


FAILURES = {
    "deserialize_cuda_engine": None,
    "create_execution_context": None,
    "set_input_shape": False,
    "set_tensor_address": False,
    "execute_async_v3": False,
}


def steps(it: Said, content: bytes, stream: int) -> dict[str, Any]:
    """What each call answered, up to the first that failed."""
    answers: dict[str, Any] = {}
    engine = answers["deserialize_cuda_engine"] = it.runtime.deserialize_cuda_engine(content)
    if engine is None:
        return answers
    context = answers["create_execution_context"] = engine.create_execution_context()
    if context is None:
        return answers
    shape = (1, *engine.get_tensor_shape(INPUT)[1:])
    answers["set_input_shape"] = context.set_input_shape(INPUT, shape)
    for name in (INPUT, *OUTPUTS):
        place = int(ok(it.cuda.cuMemAlloc(1 << 20)))
        if not context.set_tensor_address(name, place):
            return answers | {"set_tensor_address": False}
    answers["execute_async_v3"] = context.execute_async_v3(stream)
    ok(it.cuda.cuStreamSynchronize(stream))
    return answers


@pytest.mark.parametrize("name", FAILURES)
def test_calls_fail_with_those_of_the_driver(cuda: FakeCuda, model: bytes, name: str) -> None:
    it, stream = Said(cuda), int(ok(cuda.cuStreamCreate(1)))
    content = plan(model)
    assert all(steps(it, content, stream).values())
    cuda.fail(name=name)
    answers = steps(it, content, stream)
    assert answers[name] is FAILURES[name]
    assert it.errors
    # by its place among calls of all kinds
    cuda.fail(list(cuda.log).index(name) - list(cuda.log).index("deserialize_cuda_engine") + 1)
    assert steps(it, content, stream)[name] is FAILURES[name]
    answers.clear()
    assert "engines" not in cuda.leaks()
    cuda.check()


def test_nothing_goes_on_a_lost_context(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    cuda.fail(code=driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
    assert it.runtime.deserialize_cuda_engine(plan(model)) is None
    assert cuda.cuCtxSynchronize() == (driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,)
    with pytest.raises(TypeError):
        Said(cuda)


def test_objects_are_counted_and_deleted_in_their_context(cuda: FakeCuda, model: bytes) -> None:
    before = cuda.leaks()
    it = Said(cuda)
    context = it.runtime.deserialize_cuda_engine(plan(model)).create_execution_context()
    alive = {"runtimes": 1, "engines": 1, "execution contexts": 1, "device": 1}
    assert cuda.leaks() == {**before, **alive}  # the context keeps the engine
    del context
    gc.collect()
    assert cuda.leaks() == {**before, "runtimes": 1}
    cuda.check()
    ok(cuda.cuCtxPushCurrent(cuda.foreign_context()))
    del it
    gc.collect()
    assert cuda.violations
    assert cuda.leaks() == before


def test_a_call_without_a_context_is_a_violation(cuda: FakeCuda, model: bytes) -> None:
    it = Said(cuda)
    context = ok(cuda.cuCtxPopCurrent())
    assert it.runtime.deserialize_cuda_engine(plan(model)) is None
    assert cuda.violations
    ok(cuda.cuCtxPushCurrent(context))


def test_null_runs_cost_nothing(model: bytes) -> None:
    cuda = with_context(null=True)
    it, stream = Said(cuda), ok(cuda.cuStreamCreate(1))
    context = it.context(it.runtime.deserialize_cuda_engine(plan(model)))
    arrays = it.bind(context, pictures(1, side(model)))
    assert context.execute_async_v3(int(stream))
    assert capture(cuda, context, stream) is not None
    ok(cuda.cuStreamSynchronize(stream))
    address, array = arrays["map"]
    assert np.isnan(cuda.heap.view(address, array.nbytes, "map", None).view(np.float32)).all()
