import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from convcut_trt import backends
from convcut_trt.backends.base import BuildOptions, Session, computed_shares
from convcut_trt.backends.onnxruntime import NO_SPINNING, SPINNING_IN_A_RUN
from convcut_trt.backends.stored import in_words, stored_shares
from convcut_trt.devices import find
from convcut_trt.engine import load
from convcut_trt.errors import BuildError, InputError
from convcut_trt.measuring import quiet
from tests.backends import models

ORT = backends.get("onnxruntime")


@pytest.fixture
def session(tmp_path: Path) -> Any:
    with ORT.open(models.write(tmp_path / "small.onnx")) as opened:
        yield opened


def test_outputs_have_the_order_types_and_shapes_of_the_contract(session: Session) -> None:
    results = session.run(models.images(3))
    shapes = {name: array.shape for name, array in results.items()}
    assert list(shapes.items()) == [
        ("logits", (3, 5)),
        ("probabilities", (3, 5)),
        ("map", (3, 8, 4, 4)),
    ]
    assert session.outputs == tuple(shapes)
    assert all(array.dtype == np.float32 for array in results.values())
    assert np.allclose(results["probabilities"].sum(1), 1)


def test_out_is_written_in_place_and_the_rest_is_new(session: Session) -> None:
    pictures = models.images(2)
    logits = np.full((2, 5), np.nan, np.float32)
    results = session.run(pictures, {"logits": logits})
    assert results["logits"] is logits
    fresh = session.run(pictures)
    for name in session.outputs:
        assert np.array_equal(results[name], fresh[name])


def test_a_later_call_leaves_earlier_answers_alone(session: Session) -> None:
    first = session.run(models.images(2, seed=1))
    kept = {name: array.copy() for name, array in first.items()}
    session.run(models.images(2, seed=2))
    for name, array in first.items():
        assert np.array_equal(array, kept[name])


def test_strided_pictures_are_taken(session: Session) -> None:
    pictures = models.images(2)
    mirrored = pictures[:, :, ::-1]
    expected = session.run(np.ascontiguousarray(mirrored))
    assert np.array_equal(session.run(mirrored)["map"], expected["map"])


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ({"logits": np.zeros((2, 5))}, "float32"),
        ({"logits": np.zeros((1, 5), np.float32)}, "float32"),
        ({"logits": np.zeros((5, 2), np.float32).T}, "C-contiguous"),
        ({"scores": np.zeros((2, 5), np.float32)}, "no output is named 'scores'"),
    ],
)
def test_an_unusable_out_is_refused(session: Session, out: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        session.run(models.images(2), out)


def test_any_number_of_faces_is_answered(session: Session) -> None:
    images = models.images(70)  # more than are taken at a time
    answers = session.run(images)
    assert len(answers["logits"]) == 70
    np.testing.assert_allclose(
        answers["logits"][65:66], session.run(images[65:66])["logits"], rtol=1e-5
    )
    assert {
        name: values.shape[0] for name, values in session.run(images[:0]).items()
    } == dict.fromkeys(answers, 0)


def test_a_clone_is_closed_by_itself(session: Session) -> None:
    clone = session.clone()
    clone.close()
    with pytest.raises(InputError, match="closed"):
        clone.run(models.images(1))
    assert len(session.run(models.images(1))["logits"]) == 1


@pytest.mark.parametrize(
    "images",
    [
        models.images(1).astype(np.float32),
        models.images(1)[0],
        models.images(1)[:, :8],
        models.images(1).transpose(0, 3, 1, 2),
        [[1, 2]],
    ],
)
def test_unusable_images_are_refused(session: Session, images: Any) -> None:
    with pytest.raises(InputError, match="this engine takes|numpy array"):
        session.run(images)


def test_a_fixed_batch_takes_any_number_and_is_held_to_in_a_build(tmp_path: Path) -> None:
    path = models.write(tmp_path / "two.onnx", batch=2)
    pictures = models.images(5)
    with ORT.open(path) as session, ORT.open(models.write(tmp_path / "any.onnx")) as free:
        for count in (1, 2, 5):
            given, expected = session.run(pictures[:count]), free.run(pictures[:count])
            for name, values in expected.items():
                np.testing.assert_allclose(given[name], values, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="--batch 2:2:2"):
        ORT.build(path, BuildOptions())
    built = ORT.build(path, BuildOptions(batch=(2, 2, 2)))
    assert sum(layer.multiply_adds for layer in built.layers) == sum(models.MULTIPLY_ADDS)


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run(models.images(1))


def test_threads_get_the_same_answers(tmp_path: Path) -> None:
    pictures = models.images(4)
    with ORT.open(models.write(tmp_path / "small.onnx"), threads=2) as session:
        expected = session.run(pictures)

        def fifty(_: int) -> bool:
            return all(
                np.array_equal(array, expected[name])
                for _ in range(50)
                for name, array in session.run(pictures).items()
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(fifty, range(8)))


@pytest.mark.parametrize("spin", [False, True])
@pytest.mark.skipif(
    not quiet.THREADS.is_dir(), reason="this system does not tell of threads in /proc"
)
def test_threads_do_not_spin_when_a_call_is_done(engines: Path, spin: bool) -> None:
    """onnxruntime's would for 45 ms."""
    waits = []
    with load(engines, threads=2, spin=spin) as engine:
        faces = np.zeros((1, engine.spec.size, engine.spec.size, 3), np.uint8)
        for _ in range(10):
            engine.infer(faces)
            start = time.perf_counter()
            quiet.until_quiet()
            waits.append(time.perf_counter() - start)
    assert min(waits) < 0.02  # others of this process may be at work now and then


@pytest.mark.parametrize(
    ("precision", "int8", "computed"),
    [("fp32", False, {"fp32"}), ("fp16", False, {"fp32"}), ("fp32", True, {"fp32", "int8"})],
)
def test_a_build_tells_what_is_computed(
    tmp_path: Path, precision: str, int8: bool, computed: set[str]
) -> None:
    path = models.write(tmp_path / "small.onnx", precision, int8=int8)
    told: list[tuple[str, int, int]] = []
    built = ORT.build(path, BuildOptions(), lambda *args: told.append(args))
    assert built.engine == path.read_bytes()
    assert built.compute_capabilities == ()
    stem, point, head = models.MULTIPLY_ADDS
    shares = computed_shares(built.layers)
    assert set(shares) == computed
    assert shares.get("int8", 0) == pytest.approx(int8 * point / (stem + point + head))
    assert sum(layer.multiply_adds for layer in built.layers) == sum(models.MULTIPLY_ADDS)
    stored = stored_shares(path)
    words = {"fp32": "fp32 stored, fp32 computed", "fp16": "fp16 stored, fp32 computed"}
    assert in_words(stored, shares) == words[precision]
    assert sum(stored.values()) == pytest.approx(1)
    assert ORT.describe(path) == list(built.layers)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (3, 3)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    ORT.build(models.write(tmp_path / "small.onnx"), BuildOptions())
    assert not list((tmp_path / "temporary").iterdir())


def test_bf16_says_what_to_build_instead(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no BF16 kernels on a CPU: build fp32 or fp16"):
        ORT.build(models.write(tmp_path / "small.onnx", "bf16"), BuildOptions())


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="Frobnicate") as caught:
        ORT.build(models.write(tmp_path / "small.onnx", unknown_op=True), BuildOptions())
    assert "Frobnicate" in caught.value.log


@pytest.mark.parametrize("kept", [0, 1, 500, -1])
def test_a_broken_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = models.write(tmp_path / "small.onnx")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"small.onnx"):
        ORT.open(path)
    with pytest.raises((InputError, BuildError), match=r"small.onnx"):
        ORT.build(path, BuildOptions())
    if kept >= 0:
        with pytest.raises(InputError, match=r"small.onnx"):
            stored_shares(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for call in (ORT.open, ORT.describe):
        with pytest.raises(InputError, match="no such file"):
            call(tmp_path / "none.onnx")


def test_targets_and_threads_are_checked(tmp_path: Path) -> None:
    path = models.write(tmp_path / "small.onnx")
    with pytest.raises(InputError, match="leave out --target"):
        ORT.build(path, BuildOptions(targets=(find("l4"),)))
    with pytest.raises(InputError, match="1 or more"):
        ORT.open(path, threads=0)


@pytest.mark.parametrize(
    ("spin", "key", "value"),
    [(False, *NO_SPINNING), (True, *SPINNING_IN_A_RUN)],
)
def test_threads_spin_within_a_call_where_asked(
    engines: Path, spin: bool, key: str, value: str
) -> None:
    with load(engines, spin=spin) as engine:
        session: Any = engine._session
        options = session._engine.get_session_options()
        assert options.get_session_config_entry(key) == value
