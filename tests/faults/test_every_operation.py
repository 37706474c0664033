"""``build`` and the publishing of an engine, killed or failing at every operation on files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcut_trt import engine
from convcut_trt.home import Model
from convcut_trt.inspection import describe
from convcut_trt.manifest import EngineManifest, manifests
from convcut_trt.publish import publish
from tests.calib.tiny import SIDE
from tests.faults import material
from tests.faults.scenes import Scene, digests, without
from tests.faults.shim import FULL, KILLED, LOST, ONCE, READ_ONLY, Fault, Warm

FACES = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
FAULTS = [KILLED, FULL, LOST, READ_ONLY, ONCE]
OPTIONS = ["--backend", "onnxruntime", "--batch", "1", "--gate-pictures", "2"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm("robot", tmp_path_factory.mktemp("warm")) as process:
        yield process


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """A model and its successor of the same name."""
    folder = tmp_path_factory.mktemp("models")
    return material.model(folder / "0", 0), material.model(folder / "1", 1)


class Building(Scene):
    """``build`` of a model's successor into the folder of its FP32 engine, where its FP16 one lies too."""

    def __init__(self, warm: Warm, folder: Path, two: tuple[Model, Model]) -> None:
        self.former, self.latter = two
        super().__init__(warm, folder)

    def _build(self, model: Model, root: Path, precision: str) -> list[object]:
        return ["build", model.onnx, "--precision", precision, *OPTIONS, "-o", root / "out"]

    def prepare(self, root: Path) -> None:
        for precision in ("fp32", "fp16"):
            ended = self.warm.run(root, self._build(self.former, root, precision))
            assert ended.code == 0, ended.err

    def arguments(self, root: Path) -> list[object]:
        return self._build(self.latter, root, "fp32")

    def found(self, root: Path) -> Any:
        with engine.load(root / "out", "fp32") as opened:
            manifest = opened.manifest
            answers = opened.infer(FACES)["logits"].tolist()
        manifest.spec.witness_faces(root / "out")
        told = without(describe(manifest.path), "path", "date", "build", "files")
        return {"answers": answers, "files": digests([manifest.engine]), "told": told}

    def mine(self, root: Path) -> dict[str, bytes]:
        out = root / "out"
        files = {path.name: path.read_bytes() for path in out.glob("tiny.fp16.*")}
        return {**super().mine(root), **files}


class Publishing(Scene):
    """The publishing of an engine of two files, as TensorRT's are, over a former one."""

    def __init__(self, warm: Warm, folder: Path, two: tuple[Model, Model]) -> None:
        self.two, self.prepared = two, folder / "prepared"
        super().__init__(warm, folder)

    def prepare(self, root: Path) -> None:
        for number, model in enumerate(self.two):
            built = self.prepared / f"{number} of one file"
            ended = self.warm.run(
                root, ["build", model.onnx, "--precision", "fp32", *OPTIONS, "-o", built]
            )
            assert ended.code == 0, ended.err
            (path,) = manifests(built)
            self._in_two(model, EngineManifest.read(path), self._folder(number))
        ended = self.warm.run(root, self._publish(0, root))
        assert ended.code == 0, ended.err

    def _folder(self, number: int) -> Path:
        return self.prepared / str(number)

    def _in_two(self, model: Model, one: EngineManifest, folder: Path) -> None:
        content = one.engine.read_bytes()[::-1]
        stem = one.path.stem
        both = replace(
            one,
            flavour="tensorrt-rtx",
            files={"engine": f"{stem}.engine", "typed_onnx": f"{stem}.onnx"},
            sha256={**one.sha256, "engine": material.sha256(content)},
            path=folder / one.path.name,
        )
        folder.mkdir()
        publish(model, both, one.typed_onnx, content)

    def _publish(self, number: int, root: Path) -> list[object]:
        (path,) = manifests(self._folder(number))
        return ["publish", self.two[number].onnx, path, root / "out"]

    def arguments(self, root: Path) -> list[object]:
        return self._publish(1, root)

    def found(self, root: Path) -> Any:
        (path,) = manifests(root / "out", "tiny.fp32")
        manifest = EngineManifest.read(path)
        manifest.check_files()
        manifest.spec.witness_faces(root / "out")
        return digests([manifest.engine, manifest.typed_onnx])


SCENES = {"build": Building, "publish": Publishing}


@pytest.fixture(scope="module")
def scenes(
    warm: Warm, two: tuple[Model, Model], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Scene]:
    return {name: kind(warm, tmp_path_factory.mktemp(name), two) for name, kind in SCENES.items()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize(("name", "killed", "disturbed"), [("build", 4, 1), ("publish", 14, 5)])
def test_a_fault_leaves_the_former_engine_or_the_new_one(
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


def test_an_engine_under_former_names_is_used_and_kept(
    warm: Warm, two: tuple[Model, Model], scenes: dict[str, Scene], tmp_path: Path
) -> None:
    """Killed wherever files change names; the next build, of another engine, leaves the former one as it is."""
    scene = scenes["publish"]
    first = next(number for number, done in enumerate(scene.operations, 1) if ".former." in done)
    other = ["build", two[0].onnx, "--precision", "fp16", *OPTIONS]
    former = 0
    for number in range(first, len(scene.operations) + 1):
        root = scene.place(tmp_path / str(number))
        scene.run(root, KILLED, number)
        assert scene.found(root) in (scene.before, scene.whole)
        (path,) = manifests(root / "out")
        if ".former." not in EngineManifest.read(path).engine.name:
            continue
        former += 1
        ended = warm.run(root, [*other, "-o", root / "out"])
        assert ended.code == 0, ended.err
        assert scene.found(root) == scene.before
        assert not [left for left in (root / "out").iterdir() if left.name.startswith(".")]
    assert former == 3  # two files and the manifest are to come


def test_a_read_only_folder_is_said_before_anything_is_built(
    scenes: dict[str, Scene], tmp_path: Path
) -> None:
    scene = scenes["build"]
    root = scene.place(tmp_path / "root")
    ended = scene.run(root, READ_ONLY, 1)
    scene.check_ended(ended, READ_ONLY)
    assert ended.code == 2
    assert scene.found(root) == scene.before
