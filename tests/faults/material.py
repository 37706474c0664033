"""What the commands work on: a network that is quick to build, its successor of the same name, and faces."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from convcut_trt.gates import judged
from convcut_trt.gates.judged import Judged
from convcut_trt.home import ZOO, Model
from tests import models
from tests.calib import tiny

COUNTS = {"happiness": 20, "sadness": 20, "anger": 4}


def model(folder: Path, number: int) -> Model:
    """``tiny.onnx`` with one witness, and weights of its own for each number."""
    network = tiny.network()
    weights = next(t for t in network.graph.initializer if t.name == "head.w")
    moved = numpy_helper.to_array(weights) + np.float32(number)
    weights.CopyFrom(numpy_helper.from_array(moved, weights.name))
    plain = tiny.exported(folder, network)
    witness = models.zoo().spec.witnesses[number]
    (folder / witness.file).parent.mkdir(exist_ok=True)
    shutil.copyfile(ZOO / witness.file, folder / witness.file)
    # what the trained model answers is what the untrained one does
    faces, _ = replace(plain.spec, witnesses=(witness,)).witness_faces(folder)
    answers = models.run(onnx.load(plain.onnx), faces)["probabilities"][0]
    known = replace(witness, probabilities=tuple(map(float, answers)))
    return models.write(folder, network, replace(plain.spec, witnesses=(known,)))


def faces(folder: Path) -> Path:
    """Class folders whose ranges are stable, both of all their 44 pictures and of 30."""
    for seed, (name, count) in enumerate(COUNTS.items()):
        tiny.save(folder / "train" / name, tiny.drawn(count, seed))
        tiny.save(folder / "test" / name, tiny.drawn(1, 100 + seed))
    return folder


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def few(model: Model) -> Judged:
    """Two faces for the gates of a model."""
    return judged.bundled(model.spec.size, 2)
