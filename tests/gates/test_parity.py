"""Gates on answers alone, on drawn arrays and sessions: what is compared, and what no gate may swallow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt import gates
from convcut_trt.backends.base import Arrays
from convcut_trt.gates import parity
from tests import models

F32 = NDArray[np.float32]
Faces = NDArray[np.uint8]


@dataclass
class Drawn:
    """A session that answers with a function of the faces."""

    answer: Callable[[Faces], F32]
    outputs = ("logits", "probabilities", "map")

    def run(self, images: Faces, out: Arrays | None = None) -> dict[str, F32]:
        answer = self.answer(images)
        return dict.fromkeys(self.outputs, answer)

    def close(self) -> None: ...

    def __enter__(self) -> Drawn:
        return self

    def __exit__(self, *error: object) -> None: ...


def brightness(faces: Faces) -> F32:
    """Two probabilities of each face alone."""
    share = faces.mean(axis=(1, 2, 3)) / 255
    return np.stack([share, 1 - share], axis=1).astype(np.float32)


def faces(count: int = 12) -> Faces:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("check", [parity.check_loss, parity.check_fidelity])
def test_the_error_is_relative_and_per_image(check: Callable[..., list[gates.Gate]]) -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(100, 4, 2, 2)).astype(np.float32)
    maps *= 10.0 ** random.integers(-3, 4, (100, 1, 1, 1))
    wanted = {"map": maps}
    one = maps.copy()
    one[7] *= 2  # one image of a hundred: the median does not see it, 99 % does
    names = ("loss_median", "loss_p99", "fidelity_median", "fidelity_p99")
    limits = dict(zip(names, (3e-3, 5e-3) * 2, strict=True))
    median, tail = check({"map": one}, wanted, limits)
    assert (median.verdict, tail.verdict) == ("pass", "fail")
    median, tail = check({"map": maps * np.float32(1.004)}, wanted, limits)
    assert (median.verdict, tail.verdict) == ("fail", "pass")
    assert median.value == pytest.approx(0.004, rel=1e-3)


def test_loss_and_fidelity_have_budgets_and_names_of_their_own() -> None:
    maps = np.ones((4, 2, 1, 1), np.float32)
    given, wanted = {"map": maps * np.float32(1.01)}, {"map": maps}
    limits = {"loss_median": 1.0, "loss_p99": 1.0, "fidelity_median": 1e-3, "fidelity_p99": 1.0}
    names = [gate.name for gate in parity.check_loss(given, wanted, limits)]
    assert names == ["loss, median", "loss, 99 %"]
    found = parity.check_fidelity(given, wanted, limits)
    assert [gate.name for gate in found] == ["fidelity, median", "fidelity, 99 %"]
    assert [gate.verdict for gate in found] == ["fail", "pass"]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_value_of_one_image_passes_no_tail(bad: float) -> None:
    maps = np.ones((10, 2, 1, 1), np.float32)
    given = maps.copy()
    given[3, 0] = bad
    found = parity.check_loss({"map": given}, {"map": maps}, gates.budgets("int8"))
    assert found[1].verdict == "fail"
    found = parity.check_loss({"map": maps}, {"map": np.zeros_like(maps)}, gates.budgets("int8"))
    assert {gate.verdict for gate in found} == {"fail"}  # a map of zeros has no relative error


def test_a_flip_is_allowed_only_where_fp32_was_undecided() -> None:
    before = np.array([[0.51, 0.49], [0.9, 0.1]], np.float32)
    wanted = {"probabilities": before}
    near = np.array([[0.49, 0.51], [0.9, 0.1]], np.float32)
    far = np.array([[0.51, 0.49], [0.4, 0.6]], np.float32)
    assert parity.check_flips(wanted, wanted, 0.03).verdict == "pass"
    gate = parity.check_flips({"probabilities": near}, wanted, 0.03)
    assert gate.verdict == "pass"
    assert gate.value == pytest.approx(0.02)
    assert gate.detail.startswith("1 of 2 labels changed")
    assert parity.check_flips({"probabilities": far}, wanted, 0.03).verdict == "fail"


@pytest.mark.parametrize(
    ("count", "changed", "verdict"),
    [(256, 1, "pass"), (256, 2, "fail"), (255, 255, "not shown"), (1, 0, "not shown")],
)
def test_agreement_is_a_share_of_enough_faces(count: int, changed: int, verdict: str) -> None:
    wanted = np.tile(np.array([[0.6, 0.4]], np.float32), (count, 1))
    given = wanted.copy()
    given[:changed] = given[:changed, ::-1]
    gate = parity.check_agreement({"probabilities": given}, {"probabilities": wanted}, 0.995)
    assert gate.verdict == verdict
    assert gate.value == pytest.approx(1 - changed / count)
    assert gate.detail.startswith(f"{count - changed} of {count} labels")
    assert ("256 faces would show it" in gate.detail) == (verdict == "not shown")


def test_all_answers_have_to_be_finite_and_activations_far_from_the_end_of_fp16() -> None:
    values = {"map": np.ones((2, 3), np.float32), "logits": np.zeros((2, 1), np.float32)}
    finite, largest = parity.check_finite(values, {"a": 3.0, "b": 20000.0}, 16384)
    assert (finite.verdict, largest.verdict) == ("pass", "fail")
    assert (largest.value, largest.detail) == (20000, "of FP32, at b")
    values["map"][1, 1:] = [np.nan, -np.inf]
    finite, largest = parity.check_finite(values, {"a": 3.0, "b": 4.0}, 16384)
    assert (finite.value, finite.verdict, largest.verdict) == (2, "fail", "pass")
    assert parity.check_finite(values, {"a": float("nan"), "b": 4.0}, 16384)[1].verdict == "fail"


def test_invariance_takes_every_size_of_batch_and_every_face() -> None:
    seen: list[Faces] = []

    def answer(images: Faces) -> F32:
        seen.append(images)
        return brightness(images)

    gate = parity.check_invariance(Drawn(answer), faces(), (1, 2, 5), 1e-6, models.quiet)
    assert (gate.value, gate.verdict) == (0, "pass")
    assert gate.detail == "6 faces in batches of 2, 3, 5"
    assert {len(images) for images in seen} == {1, 2, 3, 5}
    for size in (1, 2, 3, 5):
        met = np.concatenate([images for images in seen if len(images) == size])
        assert {face.tobytes() for face in faces()[:6]} <= {face.tobytes() for face in met}


@pytest.mark.parametrize("size", [2, 3, 5])
def test_invariance_sees_what_happens_in_one_size_of_batch_only(size: int) -> None:
    def answer(images: Faces) -> F32:
        given = brightness(images)
        return given + (0.1 * given.mean(axis=0) if len(images) == size else 0)

    gate = parity.check_invariance(Drawn(answer), faces(), (1, 2, 5), 1e-2, models.quiet)
    assert gate.verdict == "fail"


@pytest.mark.parametrize("count", [1, 2, 3, 300])
def test_invariance_of_few_and_of_many_faces(count: int) -> None:
    session = Drawn(brightness)
    gate = parity.check_invariance(session, faces(count), (1, 4, 16), 1e-6, models.quiet)
    assert gate.verdict == "pass"
    assert gate.detail.startswith(f"{min(64, max(1, count // 2))} faces")
    fixed = parity.check_invariance(session, faces(count), (1, 1, 1), 1e-6, models.quiet)
    assert fixed.detail.endswith("in batches of 1")  # an engine for one face has no neighbours


def test_witnesses_that_are_nan_fail() -> None:
    model = models.zoo()
    nan = Drawn(lambda images: np.full((len(images), 8), np.nan, np.float32))
    gate = parity.check_witnesses(nan, model.spec, model.folder, (1, 4, 4), 1.0, models.quiet)
    assert (gate.value, gate.verdict) == (np.inf, "fail")
    wanted = model.spec.witness_faces(model.folder)[1]
    assert gate.detail.startswith(f"{len(wanted)} pictures")


def test_the_faces_of_a_witness_are_cut_out_of_its_picture() -> None:
    model = models.zoo()
    shown: list[Faces] = []

    def answer(images: Faces) -> F32:
        shown.append(images)
        return np.zeros((len(images), 8), np.float32)

    parity.check_witnesses(Drawn(answer), model.spec, model.folder, (1, 4, 4), 1.0, models.quiet)
    expected = model.spec.witness_faces(model.folder)[0]
    np.testing.assert_array_equal(np.concatenate(shown), expected)
