"""A model repository for Triton, whose writing is killed at every operation on files, or fails.

Every sixth operation is tried here; the slow tests try all of them.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from convcut_trt.manifest import EngineManifest, manifests
from convcut_trt.triton import config
from tests.faults import material
from tests.faults.scenes import names
from tests.faults.shim import FULL, KILLED, LOST, Fault, Warm

OPTIONS = ["--precision", "fp32", "--backend", "onnxruntime", "--batch", "1"]


def versions(repository: Path, manifest: EngineManifest) -> int:
    """How many there are, all of them whole."""
    if not list(repository.iterdir()):
        return 0
    assert (repository / "tiny" / "config.pbtxt").read_text() == config(manifest)
    labels = (repository / "tiny" / "labels.txt").read_text()
    assert labels == "".join(f"{name}\n" for name in manifest.spec.classes)
    count = len(list((repository / "tiny").iterdir())) - 2
    files = {f"tiny/{version}/model.onnx" for version in range(1, count + 1)}
    folders = {"tiny", *(f"tiny/{version}" for version in range(1, count + 1))}
    assert names(repository) == {"tiny/config.pbtxt", "tiny/labels.txt", *files, *folders}
    for file in files:
        assert (repository / file).read_bytes() == manifest.engine.read_bytes()
    return count


@pytest.mark.parametrize(
    ("before", "every"),
    [
        (0, 6),
        (1, 6),
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(1, 1, marks=pytest.mark.slow),
    ],
)
def test_a_fault_leaves_whole_versions(tmp_path: Path, before: int, every: int) -> None:
    with Warm("robot", tmp_path) as warm:
        model = material.model(tmp_path / "model", 0)
        built = tmp_path / "built"
        command = ["build", model.onnx, *OPTIONS, "--gate-pictures", "2", "-o", built]
        assert warm.run(tmp_path, command).code == 0
        manifest = EngineManifest.read(manifests(built)[0])
        template = tmp_path / "template"
        (template / "models").mkdir(parents=True)
        for _ in range(before):
            assert warm.run(template, ["serve", manifest.path, template / "models"]).code == 0
        whole = shutil.copytree(template, tmp_path / "whole")
        done = warm.run(whole, ["serve", manifest.path, whole / "models"]).operations
        for start, fault in enumerate((KILLED, LOST, FULL)):
            for number in range(1 + start % every, len(done) + 1, every):
                root = tmp_path / f"{fault.name} {number}"
                _suffers(warm, shutil.copytree(template, root), manifest, fault, number, before)


def _suffers(
    warm: Warm, root: Path, manifest: EngineManifest, fault: Fault, number: int, before: int
) -> None:
    repository = root / "models"
    ended = warm.run(root, ["serve", manifest.path, repository], fault, number)
    left = versions(repository, manifest)
    if fault is KILLED:
        assert ended.code == -signal.SIGKILL
        assert left in (before, before + 1)
    else:
        assert (ended.code, left) in ((0, before + 1), (2, before)), ended.err
        assert "Traceback" not in ended.err
    again = warm.run(root, ["serve", manifest.path, repository])
    assert again.code == 0, again.err
    assert versions(repository, manifest) == left + 1
    assert {path.name for path in root.iterdir()} == {"models", "tmp", "home"}
