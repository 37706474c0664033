"""Real builds with TensorRT-RTX, which needs no GPU for them."""

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx")

from convcut_trt import backends
from convcut_trt.backends import tensorrt, trt_build, trt_plan
from convcut_trt.backends.base import BuildOptions, BuiltEngine, computed_shares, no_progress
from convcut_trt.backends.trt_flavours import Feature
from convcut_trt.devices import find
from convcut_trt.errors import BackendMissing, BuildError, EngineMismatch, InputError
from tests.backends import models

trt: Any = pytest.importorskip("tensorrt_rtx")
RTX = backends.get("tensorrt-rtx")
SM86, SM89, SM120 = find("sm86"), find("sm89"), find("sm120")
# What the readable text of a plan is like is known for this version only.
KNOWN_PLAN = pytest.mark.skipif(
    not trt.__version__.startswith("1.7.1"), reason="plan text of another version"
)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu", lambda: "no NVIDIA driver here")


def build(path: Path, **options: Any) -> BuiltEngine:
    return RTX.build(path, BuildOptions(**{"targets": (SM89,), **options}))


@KNOWN_PLAN
@pytest.mark.parametrize(
    ("targets", "batch"),
    [((SM86,), (1, 1, 1)), ((SM89,), (1, 2, 4)), ((SM86, SM89, SM120), (1, 1, 1))],
)
def test_an_engine_is_for_what_was_asked(
    tmp_path: Path, targets: Any, batch: tuple[int, int, int]
) -> None:
    built = build(models.write(tmp_path / "small.onnx"), targets=targets, batch=batch)
    assert built.compute_capabilities == tuple(device.compute_capability for device in targets)
    names = {device.sm.replace("_", "") for device in targets}
    assert set(trt_plan.accelerators(built.engine)) == names
    assert trt_plan.version(built.engine) == built.version == trt.__version__
    assert built.operations == 7
    assert built.flavour == "tensorrt-rtx"
    assert built.seconds > 0
    assert (built.peak_memory or 0) > 50 << 20
    assert "Engine generation completed" in built.log


@KNOWN_PLAN
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("int8", [False, True])
def test_network_and_plan_agree_on_what_is_computed(
    tmp_path: Path, precision: str, int8: bool
) -> None:
    built = build(models.write(tmp_path / "small.onnx", precision, int8=int8))
    stem, point, head = models.MULTIPLY_ADDS
    expected: dict[str, int] = {"fp32": head}
    for count, dtype in ((stem, precision), (point, "int8" if int8 else precision)):
        expected[dtype] = expected.get(dtype, 0) + count
    shares = {dtype: count / (stem + point + head) for dtype, count in expected.items()}
    assert built.plan is not None
    assert computed_shares(built.layers) == pytest.approx(shares)
    assert computed_shares(built.plan) == pytest.approx(shares)
    for layers in (built.layers, built.plan):
        assert sum(layer.multiply_adds for layer in layers) == stem + point + head
    engine = tmp_path / "small.engine"
    engine.write_bytes(built.engine)
    described = RTX.describe(engine) or []
    assert [layer.dtype for layer in described] == [layer.dtype for layer in built.plan]


def test_progress_is_told_and_never_falls(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    options = BuildOptions(targets=(SM89,))
    RTX.build(models.write(tmp_path / "small.onnx"), options, lambda *args: told.append(args))
    done = [entry[1] for entry in told]
    assert done == sorted(done)
    assert told[0] == ("parsing", 0, 1000)
    assert told[-1] == ("done", 1000, 1000)
    assert {entry[2] for entry in told} == {1000}
    assert len({entry[0] for entry in told}) > 3


def test_an_unknown_operation_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build(models.write(tmp_path / "odd.onnx", unknown_op=True))
    assert "cannot read odd.onnx" in str(caught.value)
    assert str(caught.value).count("Frobnicate") == 1
    assert "Plugin not found" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Frobnicate" in caught.value.log


@pytest.mark.parametrize("kept", [1, 500, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = models.write(tmp_path / "small.onnx")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BuildError, match=r"cannot read small.onnx\."):
        build(path)


def test_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    for name, said in (("empty.onnx", "is empty"), ("none.onnx", "no such file")):
        with pytest.raises(InputError, match=said):
            build(tmp_path / name)


def test_a_fixed_batch_graph_is_held_to(tmp_path: Path) -> None:
    path = models.write(tmp_path / "two.onnx", batch=2)
    with pytest.raises(InputError, match="--batch 2:2:2"):
        build(path)
    assert build(path, batch=(2, 2, 2)).engine


def test_limits_reach_the_builder(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    assert build(path, workspace_mib=64).engine


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = models.write(tmp_path / "small.onnx")
    build(path)
    with pytest.raises(BuildError, match="stopped after"):
        build(path, timeout_s=0.05)
    assert not list(folder.iterdir())


def test_without_a_gpu_a_target_is_asked_for(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    with pytest.raises(InputError, match=r"no NVIDIA driver here, .* --target rtx4060ti \(or "):
        build(path, targets=())


@pytest.mark.parametrize(("name", "said"), [("h200", "9.0"), ("orin-nano", "JetPack"), ("t4", "")])
def test_a_target_that_rtx_has_no_engines_for(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"no engines for .*{said}.*--target rtx4060ti"):
        build(models.write(tmp_path / "small.onnx"), targets=(find(name),))


def test_a_capability_the_builder_does_not_know(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    request = trt_build.Request("tensorrt-rtx", str(path), (1, 1, 1), ((9, 9),), None)
    with pytest.raises(InputError, match="does not build for SM99: it knows .*SM89"):
        trt_build.build(request, no_progress)


def test_full_tensorrt_refuses_targets_and_needs_its_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.write(tmp_path / "small.onnx")
    full = backends.get("tensorrt")
    with pytest.raises(BackendMissing, match="JetPack"):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        full.build(path, BuildOptions())
    monkeypatch.setattr("convcut_trt.backends.trt_flavours.Flavour.load", lambda self: None)
    with pytest.raises(InputError, match="leave out --target and build on the Jetson Orin Nano"):
        full.build(path, BuildOptions(targets=(find("orin-nano"),)))
    with pytest.raises(InputError, match="builds on the GPU it runs on.*--backend tensorrt-rtx"):
        full.build(path, BuildOptions())


@KNOWN_PLAN
def test_opening_without_a_gpu_says_where_it_runs(tmp_path: Path) -> None:
    engine = tmp_path / "small.engine"
    engine.write_bytes(build(models.write(tmp_path / "small.onnx")).engine)
    with pytest.raises(
        EngineMismatch,
        match=r"engine for sm_89 \(TensorRT-RTX 1\.7\.1\.\d+\): no NVIDIA driver here; "
        r"run it there, or here: convcut-trt build --backend onnxruntime",
    ):
        RTX.open(engine)


def test_what_is_no_engine_is_refused(tmp_path: Path) -> None:
    engine = tmp_path / "random.engine"
    engine.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a TensorRT-RTX engine"):
        RTX.open(engine)
    assert RTX.describe(engine) is None


@KNOWN_PLAN
def test_a_plan_without_its_markers_is_not_guessed_at(tmp_path: Path) -> None:
    plan = build(models.write(tmp_path / "small.onnx")).engine
    assert trt_plan.operations(plan.replace(b"\nshape_main {", b"\nshapes_main {")) is None
    assert trt_plan.operations(plan.replace(b"\nmain {", b"\nother {")) is None
    assert trt_plan.version(b"vtrt" + bytes(60)) is None
    assert trt_plan.accelerators(b"") == ()


@KNOWN_PLAN
def test_an_engine_allocates_nothing_while_it_runs_and_loses_nothing_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.write(tmp_path / "small.onnx")
    asked = build(path, batch=(1, 2, 4)).engine
    monkeypatch.setattr(Feature.USER_ALLOCATION, "first", {"tensorrt-rtx": None})
    request = trt_build.Request("tensorrt-rtx", str(path), (1, 2, 4), ((8, 9),), None)
    unasked = bytes(trt_build.build(request, no_progress)[1])
    # It drops one region of memory, that of the shapes, from the text of the plan, and no operation.
    assert 0 < len(unasked) - len(asked) < 1024
    assert len(trt_plan.operations(asked) or ()) == len(trt_plan.operations(unasked) or ()) == 7


def test_rtx_keeps_no_timings(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    request = trt_build.Request(
        "tensorrt-rtx", str(path), (1, 1, 1), ((8, 9),), None, str(tmp_path / "timings")
    )
    with pytest.raises(InputError, match="leave --timing-cache out"):
        trt_build.build(request, no_progress)
