"""The gates: honest engines pass, and each way to break one is seen by the gate that is there for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from convcut_trt import backends, build, gates
from convcut_trt.backends.stored import stored_shares
from convcut_trt.errors import InputError
from convcut_trt.gates import Gate, Reference
from convcut_trt.spec import OUTPUTS, ModelSpec
from tests import models

BATCH = (1, 4, 16)
EVERY_PRECISION = pytest.mark.parametrize("precision", gates.BUDGETS)


@dataclass(frozen=True)
class Bench:
    """The bundled model on the gates' table."""

    spec: ModelSpec
    folder: Path
    network: onnx.ModelProto
    faces: NDArray[np.uint8]
    wanted: Reference
    scratch: Path
    known: dict[tuple[str, str], dict[str, Gate]] = field(default_factory=dict)

    def broken(self, change: str) -> onnx.ModelProto:
        """The network after one of the changes of ``models.BROKEN``."""
        return models.changed(self.network, models.BROKEN[change])

    def judge_broken(self, change: str, precision: str) -> dict[str, Gate]:
        """All gates on the typed graph of a broken network, against the sound one."""
        if (change, precision) not in self.known:
            self.known[change, precision] = self.judge(self.broken(change), precision)
        return self.known[change, precision]

    def judge(
        self,
        network: onnx.ModelProto,
        precision: str,
        wanted: Reference | None = None,
        stored_as: str | None = None,
    ) -> dict[str, Gate]:
        """All gates on the typed graph of a network, by name."""
        limits = gates.budgets(precision)
        path = self.scratch / "typed.onnx"
        path.write_bytes(build.typed(network, stored_as or precision).SerializeToString())
        with backends.get("onnxruntime").open(path) as session:
            values = gates.answers(session, self.faces, BATCH, "", models.quiet)
            results = [
                gates.check_witnesses(
                    session, self.spec, self.folder, BATCH, limits["witnesses"], models.quiet
                ),
                *gates.check_loss(values, wanted or self.wanted, limits),
                gates.check_flips(values, wanted or self.wanted, limits["flip_margin"]),
                gates.check_invariance(
                    session, self.faces[:8], BATCH, limits["invariance"], models.quiet
                ),
                *gates.check_finite(values, wanted or self.wanted, limits["largest_activation"]),
            ]
        stored = stored_shares(path)
        results += gates.check_precision(precision, stored, {"fp32": 1.0}, True, limits)
        return {gate.name: gate for gate in results}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    model, network = models.zoo(), models.network("zoo")
    faces = build.bundled_faces(model.spec.size)[::8]
    wanted = gates.reference(network, faces, models.quiet)
    scratch = tmp_path_factory.mktemp("gates")
    return Bench(model.spec, model.folder, network, faces, wanted, scratch)


@EVERY_PRECISION
def test_the_honest_graph_passes_with_headroom(bench: Bench, precision: str) -> None:
    results = bench.judge(bench.network, precision)
    assert {gate.verdict for gate in results.values()} <= {"pass", "not run"}
    assert len(results) == (9 if precision == "fp16" else 7)
    for name in ("witnesses", "loss, median", "loss, 99 %", "batch invariance"):
        value, budget = results[name].value, results[name].budget
        assert value is not None
        assert budget is not None
        assert value < budget / 2


@EVERY_PRECISION
@pytest.mark.parametrize(
    "change",
    [
        "other weights",
        "first block removed",
        "last block removed",
        "dead channel",
        "epsilon 1e-3",
        "one pixel of shift",
        "colours swapped",
        "not normalised",
        "NaN",
        "neighbours",
    ],
)
def test_loss_sees_what_is_not_the_network(bench: Bench, change: str, precision: str) -> None:
    results = bench.judge_broken(change, precision)
    measured = {name: (gate.value, gate.budget) for name, gate in results.items()}
    assert "fail" in {results["loss, median"].verdict, results["loss, 99 %"].verdict}, measured


@EVERY_PRECISION
@pytest.mark.parametrize("change", ["other weights", "colours swapped", "not normalised"])
def test_witnesses_see_what_was_wrong_before_the_build(
    bench: Bench, change: str, precision: str
) -> None:
    # NAME.onnx itself is broken, so comparing with it shows nothing.
    broken = bench.broken(change)
    wanted = gates.reference(broken, bench.faces, models.quiet)
    results = bench.judge(broken, precision, wanted)
    failed = {name for name, gate in results.items() if gate.verdict == "fail"}
    assert failed == {"witnesses"}, results["witnesses"]


def test_witnesses_see_a_picture_cut_out_wrongly(bench: Bench) -> None:
    # One pixel, in FP32: the budgets of FP16 leave that to the twin tests of preprocessing.
    broken = bench.broken("one pixel of shift")
    wanted = gates.reference(broken, bench.faces, models.quiet)
    assert bench.judge(broken, "fp32", wanted)["witnesses"].verdict == "fail"


@EVERY_PRECISION
@pytest.mark.parametrize("change", ["neighbours", "attention over the batch"])
def test_invariance_sees_that_neighbours_matter(bench: Bench, change: str, precision: str) -> None:
    results = bench.judge_broken(change, precision)
    assert results["batch invariance"].verdict == "fail", results["batch invariance"]


@EVERY_PRECISION
def test_flips_see_other_labels(bench: Bench, precision: str) -> None:
    results = bench.judge_broken("not normalised", precision)
    assert results["flips"].verdict == "fail", results["flips"]


@EVERY_PRECISION
def test_nan_is_not_finite_and_passes_nowhere(bench: Bench, precision: str) -> None:
    results = bench.judge_broken("NaN", precision)
    assert results["finite"].verdict == "fail"
    for name in ("witnesses", "loss, median", "loss, 99 %", "batch invariance"):
        assert results[name].verdict == "fail"


@EVERY_PRECISION
def test_a_nan_in_the_reference_does_not_hide(bench: Bench, precision: str) -> None:
    broken = bench.broken("NaN")
    wanted = gates.reference(broken, bench.faces, models.quiet)
    results = bench.judge(broken, precision, wanted)
    assert results["finite"].verdict == "fail"
    assert results["loss, median"].verdict == "fail"
    assert results["largest activation"].verdict == "fail"


def test_an_activation_beyond_fp16_is_seen(bench: Bench) -> None:
    # onnxruntime's CPU computes in FP32 and may drop the casts: there the answers need not show it.
    scaled = models.scaled(bench.network)
    wanted = gates.reference(scaled, bench.faces, models.quiet)
    np.testing.assert_allclose(
        wanted.answers["probabilities"], bench.wanted.answers["probabilities"], atol=1e-6
    )
    gate = bench.judge(scaled, "fp16", wanted)["largest activation"]
    assert gate.verdict == "fail"
    assert (gate.value or 0) > 65504
    name = models.convolutions(scaled)[-3].output[0]
    assert gate.detail == f"of FP32, at {name}" or "Relu" in gate.detail


def test_a_graph_left_in_fp32_is_not_fp16(bench: Bench) -> None:
    results = bench.judge(bench.network, "fp16", stored_as="fp32")
    assert {name for name, gate in results.items() if gate.verdict == "fail"} == {"stored"}
    assert results["stored"].value == 0
    assert results["stored"].detail == "fp32 100.0%"


@pytest.mark.parametrize(
    ("stored", "computed", "on_cpu", "verdicts"),
    [
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 1.0}, False, ("pass", "pass")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 0.5, "fp32": 0.5}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp32": 1.0}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {}, False, ("pass", "fail")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp32": 1.0}, True, ("pass", "not run")),
        ({"fp16": 0.99, "fp32": 0.01}, {"fp16": 1.0}, True, ("pass", "pass")),
        ({"fp16": 0.9, "fp32": 0.1}, {"fp32": 1.0}, True, ("fail", "not run")),
        ({}, {"fp32": 1.0}, True, ("fail", "not run")),
    ],
)
def test_what_is_stored_and_what_is_computed(
    stored: Mapping[str, float],
    computed: Mapping[str, float],
    on_cpu: bool,
    verdicts: tuple[str, str],
) -> None:
    found = gates.check_precision("fp16", stored, computed, on_cpu, gates.budgets("fp16"))
    assert tuple(gate.verdict for gate in found) == verdicts


def test_a_flip_is_allowed_only_where_fp32_was_undecided() -> None:
    before = np.array([[0.51, 0.49], [0.9, 0.1]], np.float32)
    wanted = Reference({"probabilities": before}, {})
    near = np.array([[0.49, 0.51], [0.9, 0.1]], np.float32)
    far = np.array([[0.51, 0.49], [0.4, 0.6]], np.float32)
    assert gates.check_flips({"probabilities": before}, wanted, 0.03).verdict == "pass"
    gate = gates.check_flips({"probabilities": near}, wanted, 0.03)
    assert gate.verdict == "pass"
    assert gate.detail.startswith("1 of 2 labels changed")
    assert gates.check_flips({"probabilities": far}, wanted, 0.03).verdict == "fail"


def test_loss_is_relative_and_per_image() -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(100, 4, 2, 2)).astype(np.float32)
    maps *= 10.0 ** random.integers(-3, 4, (100, 1, 1, 1))
    wanted = Reference({"map": maps}, {})
    one = maps.copy()
    one[7] *= 2  # one image of a hundred: the median does not see it, 99 % does
    limits = gates.budgets("fp16")
    median, tail = gates.check_loss({"map": one}, wanted, limits)
    assert (median.verdict, tail.verdict) == ("pass", "fail")
    median, tail = gates.check_loss({"map": maps * np.float32(1.004)}, wanted, limits)
    assert (median.verdict, tail.verdict) == ("fail", "pass")
    assert median.value == pytest.approx(0.004, rel=1e-3)


@pytest.mark.parametrize("batch", [(1, 1, 1), (2, 2, 2), (3, 5, 7)])
def test_every_profile_gives_every_face_its_answer(
    bench: Bench, batch: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "typed.onnx"
    path.write_bytes(bench.network.SerializeToString())
    faces = bench.faces[:11]
    with backends.get("onnxruntime").open(path) as session:
        given = gates.answers(session, faces, batch, "", models.quiet)
        gate = gates.check_invariance(session, faces, batch, 1e-5, models.quiet)
    assert list(given) == list(OUTPUTS)
    for name, values in given.items():
        np.testing.assert_allclose(values, bench.wanted.answers[name][:11], rtol=1e-4, atol=1e-5)
    assert gate.verdict == "pass"
    assert gate.detail.startswith("5 faces in batches of ")
    assert gate.detail.endswith(str(batch[2]))


def test_the_reference_of_a_fixed_batch(bench: Bench) -> None:
    fixed = gates.reference(models.of_batch(bench.network, 3), bench.faces[:10], models.quiet)
    np.testing.assert_allclose(fixed.answers["map"], bench.wanted.answers["map"][:10], rtol=1e-4)
    assert set(fixed.largest) == set(bench.wanted.largest)


def test_the_reference_watches_every_float_tensor(bench: Bench) -> None:
    made = {name for node in bench.network.graph.node for name in node.output}
    assert set(bench.wanted.largest) == made
    (cast,) = [node for node in bench.network.graph.node if node.op_type == "Cast"]
    assert bench.wanted.largest[cast.output[0]] == 255


def test_progress_is_told(bench: Bench) -> None:
    told: list[tuple[str, int, int]] = []
    gates.reference(bench.network, bench.faces[:20], lambda *args: told.append(args))
    assert told == [("reference", 0, 20), ("reference", 16, 20), ("reference", 20, 20)]


def test_budgets_are_the_users_to_change() -> None:
    assert gates.budgets("fp16") == gates.BUDGETS["fp16"]
    assert gates.budgets("fp16", {"witnesses": 0.5})["witnesses"] == 0.5
    assert gates.BUDGETS["fp16"]["witnesses"] == 1e-2
    with pytest.raises(InputError, match="--budget stored is not known for fp32: choose from wit"):
        gates.budgets("fp32", {"stored": 0.5})
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="give a positive number"):
            gates.budgets("fp16", {"witnesses": value})


def test_the_table_names_every_gate() -> None:
    found = [
        Gate("finite", 0.0, 0.0, "pass", "values that are not finite"),
        Gate("computed", None, None, "not run"),
    ]
    head, first, second = gates.table(found).splitlines()
    assert head.split() == ["gate", "measured", "budget", "verdict"]
    assert first.split()[:4] == ["finite", "0", "0", "pass"]
    assert second.split() == ["computed", "-", "-", "not", "run"]
    assert first.endswith("values that are not finite")
