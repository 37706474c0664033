"""Every name of TensorRT that our source uses exists in every version that we say we support.

The fast half reads ``api.json``, what the versions have of the names in question, and the installed
TensorRT-RTX. The slow half reads the wheels themselves, and holds ``api.json`` to them.
"""

from __future__ import annotations

import textwrap
from importlib.util import find_spec

import pytest

from convcut_trt.backends.trt_flavours import FLAVOURS, Feature
from tests.contract import contract, update, wheels
from tests.contract.contract import Version

COMMITTED = contract.committed()
EVERY = pytest.mark.parametrize("version", COMMITTED, ids=str)
UPDATE = "if a version has it: python -m tests.contract.update"


def check(texts: dict[str, str], versions: list[Version]) -> list[str]:
    """All that is wrong with the sources."""
    uses, problems = contract.scan(texts, contract.merged(COMMITTED))
    return problems + [text for version in versions for text in contract.violations(uses, version)]


def planted(code: str, versions: list[Version] = COMMITTED) -> list[str]:
    """All that is wrong with some lines of code, inside a function and a method."""
    head = "class Held:\n    def method(self, flavour: Flavour, trt: ModuleType, builder: Any, "
    head += "config: Any, context: Any, engine: Any, network: Any, thing: Any) -> None:\n"
    return check({"planted.py": head + textwrap.indent(code, " " * 8)}, versions)


@EVERY
def test_our_source_uses_only_what_every_version_has(version: Version) -> None:
    wrong = check(contract.sources(), [version])
    assert not wrong, UPDATE


def test_the_files_that_handle_tensorrt_are_found() -> None:
    assert {"backends/tensorrt.py", "backends/trt_build.py", "backends/trt_network.py"} <= set(
        contract.sources()
    )
    uses, _ = contract.scan(contract.sources(), contract.merged(COMMITTED))
    used = {use.path for use in uses}
    # By a class, an object, a loop over objects, and the class that a layer is given.
    assert {"OnnxParser", "Builder.create_network", "ITensor.shape"} <= used
    assert {"ILayer.num_outputs", "IConvolutionLayer.num_groups", "ILogger.log"} <= used
    assert "IMatrixMultiplyLayer.num_groups" not in used


@EVERY
def test_the_table_of_features_is_true(version: Version) -> None:
    assert not contract.table_errors(version)
    assert version.flavour in FLAVOURS


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "11.4.0.106 has no BuilderFlag.FP16"),
        ("context.execute_async_v2(1)", "IExecutionContext.execute_async_v2"),
        ("config.max_workspace_size = 1 << 30", "IBuilderConfig.max_workspace_size"),
        ("trt.init_libnvinfer_pluginz()", "init_libnvinfer_pluginz"),
        ("network.get_layer(0).get_output(0).dtipe", "ITensor.dtipe"),
        ("x = [network.get_input(i) for i in range(2)]\nx[0].nombre", "ITensor.nombre"),
        ("for i, l in enumerate([network.get_layer(0)]):\n    l.op0", "ILayer.op0"),
        ("a, b = 1, network.get_layer(0)\nb.kernal", "ILayer.kernal"),
        ("m = network.get_layer\nlayer: Any = m(0)\nlayer.nam", "ILayer.nam"),
        ("self._engine: Any = None\nself._engine.bindings", "ICudaEngine.bindings"),
        ("self._e = trt.Builder(None)\nself._e.bild()", "Builder.bild"),
        ("f = lambda: engine.binding_is_input(0)", "ICudaEngine.binding_is_input"),
        ("print(f'{engine.max_batch}')", "ICudaEngine.max_batch"),
        ("with_it = builder and builder.fp16_mode", "Builder.fp16_mode"),
        ("thing.shape", "thing is Any"),
        ("self._thing: Any = 1\nself._thing.shape", "_thing is Any"),
        ("y: dict[str, Any] = {}\ny['a'].shape", "it is Any"),
        ("config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)", "takes"),
        ("config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size=1)", "takes"),
        ("config.set_flag(trt.BuilderFlag.TF32, True)", "takes"),
        ("engine.num_io_tensors = 2", "does not let ICudaEngine.num_io_tensors be set"),
        ("class M(trt.IProgressMonitor):\n    def phase_end(self): ...", "phase_end"),
        ("class L(trt.ILogger):\n    def log(self, severity): ...", "takes"),
        ("context.is_stream_capturable(1)", "without asking for Feature.STREAM_CAPTURABLE"),
        ("trt.CudaGraphStrategy.DISABLED", "without asking for Feature.CUDA_GRAPH_STRATEGY"),
        ("engine.create_execution_context(runtime_config=None)", "Feature.RUNTIME_CONFIG"),
        (
            "if flavour.has(Feature.RUNTIME_CONFIG, trt):\n    context.is_stream_capturable(1)",
            "without asking for Feature.STREAM_CAPTURABLE",
        ),
    ],
)
def test_a_planted_mistake_is_found(code: str, said: str) -> None:
    wrong = planted(code)
    assert any(said in text and text.startswith("planted.py:") for text in wrong), wrong


def test_a_removed_name_is_wrong_only_where_it_is_removed() -> None:
    with_it = [v for v in COMMITTED if v.number.startswith("10.")]
    assert with_it
    assert not planted("config.set_flag(trt.BuilderFlag.FP16)", with_it)


@pytest.mark.parametrize(
    "code",
    [
        "if flavour.has(Feature.STREAM_CAPTURABLE, trt):\n    context.is_stream_capturable(1)",
        # RTX has both from the same version on, so one question answers for the other.
        "if flavour.has(Feature.RUNTIME_CACHE, trt):\n    engine.create_runtime_config()",
        "network.get_input(0).shape = (1, 2)",
        "config.set_flag(flag=trt.BuilderFlag.TF32)",
        "names = {}\nnames.get('a').upper()",
        "z: npt.NDArray[Any] = 1\nz.nbytes",
    ],
)
def test_sound_code_is_not_complained_of(code: str) -> None:
    assert not planted(code)


def test_a_wrong_row_of_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ten_three = next(v for v in COMMITTED if v.number == "10.3.0")
    newest = next(v for v in COMMITTED if v.number.startswith("11."))
    monkeypatch.setattr(Feature.RUNTIME_CONFIG, "first", {"tensorrt": (10, 3)})
    assert any("lacks IRuntimeConfig" in text for text in contract.table_errors(ten_three))
    monkeypatch.setattr(Feature.RUNTIME_CONFIG, "first", {"tensorrt": (12, 0)})
    assert any("has IRuntimeConfig" in text for text in contract.table_errors(newest))


def rtx() -> Version:
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    return update.rtx()


def test_the_installed_rtx_has_what_we_use() -> None:
    version = rtx()
    assert not check(contract.sources(), [version]), UPDATE
    assert not contract.table_errors(version)


@pytest.mark.slow
@pytest.mark.parametrize("number", wheels.WHEELS)
def test_the_wheel_of_a_version_has_what_we_use(number: str) -> None:
    try:
        version = update.tensorrt(number)
    except wheels.Unavailable as reason:
        pytest.skip(str(reason))
    uses, problems = contract.scan(contract.sources(), contract.merged([*COMMITTED, version]))
    assert not problems
    assert not contract.violations(uses, version)
    assert not contract.table_errors(version)


@pytest.mark.slow
def test_the_committed_table_is_what_the_wheels_say() -> None:
    installed = rtx()
    try:
        versions = [*map(update.tensorrt, wheels.WHEELS), installed]
    except wheels.Unavailable as reason:
        pytest.skip(str(reason))
    written = contract.COMMITTED.read_text("utf-8")
    assert update.as_text(versions) == written, "python -m tests.contract.update"
