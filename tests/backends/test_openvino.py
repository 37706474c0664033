"""OpenVINO: what its sessions answer, what its builds tell, and what it refuses."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("onnxruntime")
if importlib.util.find_spec("openvino") is None:  # importing it here would tell its maker
    pytest.skip("openvino is not installed", allow_module_level=True)

from convcut_trt import backends, home, request
from convcut_trt.backends import openvino
from convcut_trt.backends.base import BuildOptions, Session, computed_shares
from convcut_trt.backends.stored import in_words, stored_shares
from convcut_trt.devices import find
from convcut_trt.errors import BackendMissing, BuildError, EngineMismatch, InputError
from convcut_trt.request import Request
from tests.backends import models

OV, ORT = backends.get("openvino"), backends.get("onnxruntime")
HAS_BF16 = OV.refuses("bf16") is None


@pytest.fixture
def session(tmp_path: Path) -> Any:
    with OV.open(models.write(tmp_path / "small.onnx"), threads=2) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 3, 70])  # compiled for one; for any; more than at a time
def test_answers_are_those_of_onnxruntime(tmp_path: Path, count: int) -> None:
    path = models.write(tmp_path / "small.onnx", "fp32")
    pictures = models.images(count)
    with OV.open(path) as session, ORT.open(path) as reference:
        answers, expected = session.run(pictures), reference.run(pictures)
        assert session.outputs == tuple(answers) == ("logits", "probabilities", "map")
    for name, values in expected.items():
        assert answers[name].dtype == np.float32
        np.testing.assert_allclose(answers[name], values, rtol=1e-5, atol=1e-5)


def test_no_faces_are_no_answers(session: Session) -> None:
    shapes = {name: values.shape for name, values in session.run(models.images(0)).items()}
    assert shapes == {"logits": (0, 5), "probabilities": (0, 5), "map": (0, 8, 4, 4)}


@pytest.mark.parametrize("count", [1, 2])
def test_out_is_written_in_place_and_no_later_call_writes_to_it(
    session: Session, count: int
) -> None:
    pictures = models.images(count)
    logits = np.full((count, 5), np.nan, np.float32)
    results = session.run(pictures, {"logits": logits})
    assert results["logits"] is logits
    kept = {name: array.copy() for name, array in results.items()}
    other = session.run(models.images(count, seed=1))
    for name, array in results.items():
        assert np.array_equal(array, kept[name])
        assert not np.array_equal(array, other[name])


@pytest.mark.parametrize("how", ["mirrored", "read-only", "unaligned"])
def test_pictures_are_taken_as_they_lie(session: Session, how: str) -> None:
    pictures = models.images(2)
    if how == "mirrored":
        given = pictures[:, :, ::-1]
        pictures = np.ascontiguousarray(given)
    elif how == "read-only":
        given = pictures.copy()
        given.flags.writeable = False
    else:
        room = np.zeros(pictures.size + 1, np.uint8)
        given = room[1:].reshape(pictures.shape)
        given[:] = pictures
    assert np.array_equal(session.run(given)["map"], session.run(pictures)["map"])


@pytest.mark.parametrize(
    ("images", "out", "said"),
    [
        (models.images(1).astype(np.float32), None, "this engine takes"),
        (models.images(1)[0], None, "this engine takes"),
        (models.images(1).transpose(0, 3, 1, 2), None, "this engine takes"),
        ([[1, 2]], None, "numpy array"),
        (models.images(2), {"logits": np.zeros((2, 5))}, "float32"),
        (models.images(2), {"logits": np.zeros((5, 2), np.float32).T}, "C-contiguous"),
        (models.images(2), {"scores": np.zeros((2, 5), np.float32)}, "no output is named 'scores'"),
    ],
)
def test_unusable_arrays_are_refused(session: Session, images: Any, out: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        session.run(images, out)


def test_arrays_in_gpu_memory_are_refused(session: Session) -> None:
    with pytest.raises(InputError, match="on the CPU"):
        session.run_on_device(object())
    with pytest.raises(InputError, match="on the CPU"):
        session.run_frame(object(), "rgb8", [], 0.1)


def test_a_clone_is_closed_by_itself_and_a_closed_session_says_so(session: Session) -> None:
    clone = session.clone()
    clone.close()
    clone.close()
    for call in (lambda: clone.run(models.images(1)), clone.clone):
        with pytest.raises(InputError, match="closed"):
            call()
    assert len(session.run(models.images(1))["logits"]) == 1


def test_threads_get_the_same_answers_from_one_session_and_from_clones(session: Session) -> None:
    pictures = {count: models.images(count, seed=count) for count in (1, 4)}
    expected = {count: session.run(images) for count, images in pictures.items()}

    def twenty(number: int) -> bool:
        opened = session.clone() if number % 2 else session
        return all(
            np.array_equal(array, expected[count][name])
            for _ in range(20)
            for count, images in pictures.items()
            for name, array in opened.run(images).items()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(twenty, range(8)))


def test_a_fixed_batch_takes_any_number_and_is_held_to_in_a_build(tmp_path: Path) -> None:
    path = models.write(tmp_path / "two.onnx", batch=2)
    pictures = models.images(5)
    with OV.open(path) as session, OV.open(models.write(tmp_path / "any.onnx")) as free:
        for count in (1, 2, 5):
            given, expected = session.run(pictures[:count]), free.run(pictures[:count])
            for name, values in expected.items():
                np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="--batch 2:2:2"):
        OV.build(path, BuildOptions())
    built = OV.build(path, BuildOptions(batch=(2, 2, 2)))
    assert sum(layer.multiply_adds for layer in built.layers) == sum(models.MULTIPLY_ADDS)


@pytest.mark.parametrize(
    ("precision", "int8", "words"),
    [
        ("fp32", False, "fp32 stored, fp32 computed"),
        ("fp16", False, "fp16 stored, fp32 computed"),
        ("fp32", True, "fp32 stored, fp32 computed"),
        ("fp16", True, "fp16 stored, fp32 computed"),
    ],
)
def test_a_build_tells_what_is_computed(
    tmp_path: Path, precision: str, int8: bool, words: str
) -> None:
    path = models.write(tmp_path / "small.onnx", precision, int8=int8)
    told: list[tuple[str, int, int]] = []
    built = OV.build(path, BuildOptions(), lambda *args: told.append(args))
    assert (built.flavour, built.engine) == ("openvino", path.read_bytes())
    assert built.version == OV.versions()["openvino"]
    stem, point, head = models.MULTIPLY_ADDS
    counted = {layer.name: layer.multiply_adds for layer in built.layers if layer.multiply_adds}
    assert sorted(counted.values()) == sorted(models.MULTIPLY_ADDS)
    assert counted["stem"] == stem
    shares = computed_shares(built.layers)
    assert shares.get("int8", 0) == pytest.approx(int8 * point / (stem + point + head))
    assert set(shares) == {"fp32", "int8"} if int8 else {"fp32"}
    assert in_words(stored_shares(path), shares) == words
    assert built.operations == len(OV.describe(path) or ()) > 4
    assert [done for _, done, _ in told] == [0, 1, 2]


def test_grouped_convolutions_count_what_they_multiply() -> None:
    """The zoo's: every multiply-add of its depthwise layers and of its classifier, none of its attention."""
    model = home.find_model("conv-cut-mini")
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(onnx.load(model.onnx)).graph.value_info
    }
    graph = onnx.load(model.onnx).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    wanted = sum(
        int(np.prod(shapes[node.output[0]][1:]) * np.prod(weights[node.input[1]][1:]))
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in shapes
    )
    layers = OV.describe(model.onnx) or []
    found = sum(layer.multiply_adds for layer in layers if layer.kind == "Convolution")
    assert wanted <= found < wanted * 1.02  # the last one's output is the map, no inner value


def test_bf16_is_computed_as_such_or_refused_with_what_the_cpu_lacks(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx", "bf16")
    if HAS_BF16:
        shares = computed_shares(OV.build(path, BuildOptions()).layers)
        assert set(shares) == {"bf16", "fp32"}  # the classifier stays FP32
        return
    with pytest.raises(BuildError, match="AVX512-BF16 or AMX"):
        OV.build(path, BuildOptions())
    with pytest.raises(EngineMismatch, match=r"small.onnx cannot run here: .*AVX512-BF16 or AMX"):
        OV.open(path)
    with pytest.raises(InputError, match="choose fp32, fp16 or int8"):
        request.check(Request("bf16", tmp_path, backend="openvino"))


def test_where_the_cpu_has_bf16_the_types_of_the_graph_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO imitates BF16 on a CPU with AVX-512 but without BF16: the kernels show, the answers may be wrong."""
    capabilities = openvino.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    monkeypatch.setattr(openvino, "_no_bf16", lambda core: None)
    path = models.write(tmp_path / "small.onnx", "bf16")
    stem, point, head = models.MULTIPLY_ADDS
    built = OV.build(path, BuildOptions())
    shares = computed_shares(built.layers)
    if "BF16" not in capabilities and "bf16" not in shares:
        pytest.skip("a CPU without AVX-512")
    assert shares == pytest.approx(
        {
            "bf16": (stem + point) / (stem + point + head),
            "fp32": head / (stem + point + head),
        }
    )


@pytest.mark.parametrize("call", [OV.open, OV.describe])
@pytest.mark.parametrize("kept", [0, 1, 500, -1])
def test_a_broken_file_is_refused(tmp_path: Path, call: Any, kept: int) -> None:
    path = models.write(tmp_path / "small.onnx")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"small\.onnx") as caught:
        call(path)
    assert "\n" not in str(caught.value)
    with pytest.raises((InputError, BuildError), match=r"small\.onnx"):
        OV.build(path, BuildOptions())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for call in (OV.open, OV.describe, lambda path: OV.build(path, BuildOptions())):
        with pytest.raises(InputError, match="no such file"):
            call(tmp_path / "none.onnx")


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="Frobnicate") as caught:
        OV.build(models.write(tmp_path / "small.onnx", unknown_op=True), BuildOptions())
    assert "\n" not in str(caught.value)
    assert "src/frontends" in caught.value.log


@pytest.mark.parametrize(
    ("taken", "given", "said"),
    [
        ((TensorProto.FLOAT, ["N", 4, 4, 3]), (TensorProto.FLOAT, ["N", 4]), "takes x float32"),
        ((TensorProto.UINT8, ["N", "H", 4, 3]), (TensorProto.FLOAT, ["N", 4]), r"\[\?, \?, 4, 3\]"),
        ((TensorProto.UINT8, ["N", 48]), (TensorProto.FLOAT, ["N", 4]), "one uint8"),
        ((TensorProto.UINT8, ["N", 4, 4, 3]), (TensorProto.UINT8, ["N", 4, 4, 3]), "float32 of a"),
    ],
)
def test_a_foreign_graph_is_refused_by_both_cpu_backends(
    tmp_path: Path, taken: Any, given: Any, said: str
) -> None:
    kind = "Identity" if taken[0] == given[0] else "Cast"
    node = helper.make_node(kind, ["x"], ["y"], **({"to": given[0]} if kind == "Cast" else {}))
    graph = helper.make_graph(
        [node],
        "foreign",
        [helper.make_tensor_value_info("x", *taken)],
        [helper.make_tensor_value_info("y", given[0], taken[1])],
    )
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "f.onnx")
    for backend in (OV, ORT):
        with pytest.raises(InputError, match=rf"f\.onnx .*{said}"):
            backend.open(tmp_path / "f.onnx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": (find("l4"),)}, "leave out --target"),
        ({"workspace_mib": 64}, "--workspace is for TensorRT, openvino has none"),
        ({"timing_cache": Path("timings")}, "--timing-cache is for TensorRT"),
    ],
)
def test_options_for_gpus_are_refused(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        OV.build(models.write(tmp_path / "small.onnx"), BuildOptions(**options))


def test_threads_and_a_tail_kernel_are_checked(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    with pytest.raises(InputError, match="1 or more"):
        OV.open(path, threads=0)
    with pytest.raises(InputError, match="--tail native"):
        OV.open(path, tail=path)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    path = models.write(tmp_path / "small.onnx")
    line = r"openvino is not installed: pip install 'convcut-trt\[openvino\]'"
    for reason in (OV.missing(), OV.can_run()):
        assert "convcut-trt[openvino]" in (reason or "")
    assert OV.refuses("bf16") is None  # what is missing is said first
    for call in (OV.versions, lambda: OV.open(path), lambda: OV.build(path, BuildOptions())):
        with pytest.raises(BackendMissing, match=line):
            call()


def test_a_graph_is_compiled_when_it_is_first_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int | None] = []
    compile_for = openvino._Graph.compiled

    def noted(self: openvino._Graph, batch: int | None, threads: int | None = None) -> Any:
        compiled.append(batch)
        return compile_for(self, batch, threads)

    monkeypatch.setattr(openvino._Graph, "compiled", noted)
    with OV.open(models.write(tmp_path / "small.onnx")) as session:
        assert compiled == []
        for count in (3, 1, 2):
            session.run(models.images(count))
        with session.clone() as clone:
            clone.run(models.images(1))
    assert compiled == [None, 1]
