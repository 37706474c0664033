"""``calibrate`` and ``train``, killed or failing at every operation on files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.ranges import Ranges
from tests.faults import material
from tests.faults.scenes import Scene, without
from tests.faults.shim import FULL, KILLED, LOST, ONCE, READ_ONLY, Ended, Fault, Warm

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from export import checkpoint  # noqa: E402
from export.model import create_backbone  # noqa: E402
from export.run_folder import MODEL, NOTE, STATE  # noqa: E402

FAULTS = [KILLED, FULL, LOST, READ_ONLY, ONCE]
TRUNK = {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8], "patch_size": 2}
RECIPE = """
name = "tiny"
[network]
trunk = "convnext_tiny"
trunk_options = { depths = [1, 1, 1, 1], dims = [8, 8, 8, 8], patch_size = 2 }
weights = "WEIGHTS"
cut = "stage2"
detail = [[4, 1], [2, 1]]
width = 8
[input]
size = 32
mean = [0.5, 0.5, 0.5]
std = [0.2, 0.2, 0.2]
[training]
epochs = 2
batch = 16
frozen_trunk = true
views = 2
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm("lab", tmp_path_factory.mktemp("warm")) as process:
        yield process


class Calibrating(Scene):
    """``calibrate`` over the ranges of fewer pictures."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        self.model = material.model(folder / "model", 0)
        self.faces = material.faces(folder / "faces")
        super().__init__(warm, folder)

    def arguments(self, root: Path) -> list[object]:
        output = root / "out" / "tiny.ranges.json"
        return ["calibrate", self.model.onnx, "--data", self.faces, "-o", output]

    def prepare(self, root: Path) -> None:
        ended = self.warm.run(root, [*self.arguments(root), "--images", 30, "--seed", 5])
        assert ended.code == 0, ended.err

    def found(self, root: Path) -> Any:
        return dataclasses.asdict(Ranges.read(root / "out" / "tiny.ranges.json"))


class Training(Scene):
    """``train`` of a head on the features of a frozen trunk, and again with ``--resume`` where that can be."""

    def __init__(self, warm: Warm, folder: Path) -> None:
        weights = folder / "trunk.pth"
        torch.manual_seed(0)
        torch.save(create_backbone("convnext_tiny", TRUNK).state_dict(), weights)
        self.recipe = folder / "tiny.toml"
        self.recipe.write_text(RECIPE.replace("WEIGHTS", str(weights)))
        super().__init__(warm, folder)

    def prepare(self, root: Path) -> None:
        """Nothing is there."""

    def arguments(self, root: Path) -> list[object]:
        out = root / "out"
        more = ["--resume"] if (out / STATE).exists() else []
        return ["train", self.recipe, "--data", "synthetic:16", "-o", out, *more]

    def found(self, root: Path) -> Any:
        out = root / "out"
        if not (out / STATE).exists():
            assert not (out / MODEL).exists()
            return None
        state, note = checkpoint.read(out / STATE)
        model = checkpoint.read(out / MODEL)[0] if (out / MODEL).exists() else {}
        told = json.loads((out / NOTE).read_text())
        return [
            {name: tensor.tolist() for name, tensor in {**state, **model}.items()},
            _progress(note),
            _progress(told),
        ]

    def check_left(self, left: Any, ended: Ended, fault: Fault) -> None:
        """Whatever it had reached is whole, which reading it has shown."""
        if ended.code == 0:
            assert left == self.whole


def _progress(note: dict[str, Any]) -> dict[str, Any]:
    progress = without(note["progress"], "seconds")
    history = [without(epoch, "seconds", "images_per_second") for epoch in progress["history"]]
    return {**progress, "history": history}


SCENES = {"calibrate": Calibrating, "train": Training}


@pytest.fixture(scope="module")
def scenes(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    return {name: kind(warm, tmp_path_factory.mktemp(name)) for name, kind in SCENES.items()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("name", "killed", "disturbed"), [("calibrate", 5, 1), ("train", 3, 1)])
def test_a_fault_leaves_what_was_there_or_what_comes(
    scenes: dict[str, Scene],
    tmp_path: Path,
    name: str,
    killed: int,
    disturbed: int,
    fault: Fault,
) -> None:
    scenes[name].suffers(tmp_path, fault, killed if fault is KILLED else disturbed)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("name", SCENES)
def test_a_fault_at_every_operation(
    scenes: dict[str, Scene], tmp_path: Path, name: str, fault: Fault
) -> None:
    scenes[name].suffers(tmp_path, fault)
