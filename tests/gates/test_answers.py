"""What a network and an engine answer on the gates' faces, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from convcut_trt import backends
from convcut_trt.gates.answers import Reference, answers, reference
from convcut_trt.gates.judged import bundled
from convcut_trt.gates.parity import check_invariance
from convcut_trt.spec import OUTPUTS
from tests import models

FACES = bundled(models.zoo().spec.size, 20).faces


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return models.network("zoo")


@pytest.fixture(scope="module")
def wanted(network: onnx.ModelProto) -> Reference:
    return reference(network, FACES, models.quiet)


@pytest.mark.parametrize("batch", [(1, 1, 1), (2, 2, 2), (3, 5, 7)])
def test_every_profile_gives_every_face_its_answer(
    network: onnx.ModelProto, wanted: Reference, batch: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "typed.onnx"
    path.write_bytes(network.SerializeToString())
    faces = FACES[:11]
    with backends.get("onnxruntime").open(path) as session:
        given = answers(session, faces, batch, "", models.quiet)
        gate = check_invariance(session, faces, batch, 1e-5, models.quiet)
    assert list(given) == list(OUTPUTS)
    for name, values in given.items():
        np.testing.assert_allclose(values, wanted.answers[name][:11], rtol=1e-4, atol=1e-5)
    assert gate.verdict == "pass"
    assert gate.detail.startswith("5 faces in batches of ")
    assert gate.detail.endswith(str(batch[2]))


def test_the_reference_of_a_fixed_batch(network: onnx.ModelProto, wanted: Reference) -> None:
    fixed = reference(models.of_batch(network, 3), FACES[:10], models.quiet)
    np.testing.assert_allclose(fixed.answers["map"], wanted.answers["map"][:10], rtol=1e-4)
    assert set(fixed.largest) == set(wanted.largest)


def test_the_reference_watches_every_float_tensor(
    network: onnx.ModelProto, wanted: Reference
) -> None:
    made = {
        name for node in network.graph.node for name in node.output if node.op_type != "Constant"
    }
    assert made <= set(wanted.largest)
    (cast,) = [node for node in network.graph.node if node.op_type == "Cast"]
    assert wanted.largest[cast.output[0]] == FACES.max()


def test_progress_is_told(network: onnx.ModelProto) -> None:
    told: list[tuple[str, int, int]] = []
    reference(network, FACES, lambda *args: told.append(args))
    assert told == [("reference", 0, 20), ("reference", 16, 20), ("reference", 20, 20)]
