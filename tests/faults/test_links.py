"""Symbolic links among engines: followed where that is safe, and never written through to somewhere else."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from calib.__main__ import main as calibrate
from convcut_trt import engine, fields
from convcut_trt.errors import InputError, ManifestError, SpecError
from convcut_trt.gpu.cache import Cache
from convcut_trt.home import make_engine_folder
from convcut_trt.manifest import EngineManifest
from tests import models
from tests.building import ZOO, check_published, contents, make
from tests.faults import material

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


def elsewhere(tmp_path: Path) -> Path:
    """A folder with something of the user's."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    return folder


def only_mine(folder: Path) -> bool:
    """Whether nothing was written there."""
    return {path.name: path.read_text() for path in folder.iterdir()} == {"mine.txt": "mine"}


def test_a_folder_of_engines_may_be_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    built = make(link)
    with engine.load(link) as opened:
        assert opened.manifest == built
    check_published(replace(built, path=real / built.path.name), real)
    check_published(make(link), link)  # and again over what is there


@pytest.mark.parametrize("target", ["nowhere", "link", "nowhere/deeper"])
def test_a_folder_that_is_a_link_to_nowhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="a link that leads nowhere.: choose another with -o"):
        make_engine_folder(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("there", [True, False])
def test_files_that_are_links_are_replaced_and_not_followed(tmp_path: Path, there: bool) -> None:
    """At the place of every file of an engine, a link: to a file elsewhere, or to none."""
    out = tmp_path / "out"
    built = make(out)
    outside = elsewhere(tmp_path)
    witness = out / built.spec.witnesses[0].file
    for path in (built.path, built.engine, witness):
        path.unlink()
        path.symlink_to(outside / ("mine.txt" if there else "none"))
    again = make(out)
    check_published(again, out)
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert only_mine(outside)


def test_witnesses_that_lead_out_of_the_folder_are_not_written(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", elsewhere(tmp_path)
    out.mkdir()
    (out / "witnesses").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of .*: remove it, or .* with -o"):
        make(out)
    assert only_mine(outside)
    assert [path.name for path in out.iterdir()] == ["witnesses"]


def test_witnesses_that_lead_out_are_read(tmp_path: Path) -> None:
    """Where all of them are there nothing has to be written."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "witnesses").symlink_to(ZOO.folder / "witnesses")
    built = make(out)
    faces, _ = built.spec.witness_faces(out)
    assert len(faces) == len(ZOO.spec.witnesses)


def test_an_engine_may_be_a_link_to_the_very_file(tmp_path: Path) -> None:
    built = make(tmp_path / "out")
    store = tmp_path / "store"
    shutil.move(built.engine, store)
    built.engine.symlink_to(store)
    with engine.load(built.path) as opened:
        assert opened.manifest == built
    content = store.read_bytes()
    check_published(make(tmp_path / "out"), tmp_path / "out")
    assert store.read_bytes() == content  # the link was replaced, not what it led to
    built.engine.unlink()
    built.engine.symlink_to(store)
    store.write_bytes(content[:-1])
    with pytest.raises(ManifestError, match="other SHA-256"):
        engine.load(built.path)


def test_a_manifest_that_is_a_link_has_its_files_beside_it(tmp_path: Path) -> None:
    built = make(tmp_path / "out")
    linked = tmp_path / "linked" / built.path.name
    linked.parent.mkdir()
    linked.symlink_to(built.path)
    with pytest.raises(ManifestError, match="is missing"):
        engine.load(linked)
    (linked.parent / built.engine.name).symlink_to(built.engine)
    with engine.load(linked) as opened:
        assert opened.manifest == built
    with pytest.raises(SpecError, match="copy the folder"):
        EngineManifest.read(linked).spec.witness_faces(linked.parent)


def test_a_temporary_name_that_is_taken_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = elsewhere(tmp_path)
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    (tmp_path / ".a.json.guessed.tmp").symlink_to(outside / "mine.txt")
    with pytest.raises(InputError, match="File exists"):
        fields.write_file(tmp_path / "a.json", b"content")
    assert only_mine(outside)


def test_ranges_are_not_written_through_a_link(tmp_path: Path) -> None:
    model, outside = material.model(tmp_path / "model", 0), elsewhere(tmp_path)
    material.faces(tmp_path / "faces")
    output = model.onnx.with_name("tiny.ranges.json")
    output.symlink_to(outside / "mine.txt")
    assert calibrate(["calibrate", str(model.onnx), "--data", str(tmp_path / "faces")]) == 0
    assert not output.is_symlink() and only_mine(outside)
    folder = tmp_path / "folder"
    folder.mkdir()
    given = ["calibrate", str(model.onnx), "--data", str(tmp_path / "faces"), "-o", str(folder)]
    assert calibrate(given) == 2
    assert not list(folder.iterdir())


def test_compiled_code_behind_a_link_is_the_users_own_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path))
    Cache("kernels").put("key", b"code")
    (tmp_path / "kernels" / "key").rename(tmp_path / "moved")
    (tmp_path / "kernels" / "key").symlink_to(tmp_path / "moved")
    assert Cache("kernels").get("key") == b"code"
    (tmp_path / "moved").write_bytes(b"another")
    assert Cache("kernels").get("key") is None
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    shutil.rmtree(tmp_path / "kernels")
    (tmp_path / "kernels").symlink_to(open_to_all)
    Cache("kernels").put("key", b"code")
    assert not list(open_to_all.iterdir())
    assert Cache("kernels").get("key") is None
    (tmp_path / "kernels").unlink()
    (tmp_path / "kernels").symlink_to(tmp_path / "nowhere")
    Cache("kernels").put("key", b"code")
    assert Cache("kernels").get("key") is None


def test_a_failed_build_leaves_what_links_lead_to(tmp_path: Path) -> None:
    from convcut_trt.errors import GateFailed

    out, outside = tmp_path / "out", elsewhere(tmp_path)
    before = contents(outside)
    report = out / "conv-cut-mini.fp16.onnxruntime.failed.json"
    out.mkdir()
    report.symlink_to(outside / "mine.txt")
    with pytest.raises(GateFailed):
        make(out, models.zoo(), budgets={"loss_median": 1e-9})
    assert not report.is_symlink() and contents(outside) == before
