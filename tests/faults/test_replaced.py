"""An engine in the place of another one of its name: what lies there where the last step fails, and afterwards."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from convcut_trt import engine
from convcut_trt.doctor import examine
from convcut_trt.errors import InputError, ManifestError
from convcut_trt.inspection import describe
from convcut_trt.manifest import EngineManifest, find_manifest, manifests
from convcut_trt.publish import publish
from convcut_trt.verify import verify
from tests import models
from tests.building import FACES, ZOO, check_published


@pytest.fixture
def former(own_engines: Path) -> EngineManifest:
    """An engine that is there, of one file."""
    (path,) = manifests(own_engines)
    return EngineManifest.read(path)


def fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def replace(former: EngineManifest, content: bytes) -> None:
    """Publishes an engine of the same name."""
    typed = former.path.parent.with_name("typed.onnx")
    typed.write_bytes(content)
    publish(ZOO, former, typed, content)


def replace_in_vain(former: EngineManifest) -> EngineManifest:
    """What lies in the place of an engine where the manifest of its successor cannot be put there."""
    rename = Path.replace

    def all_but_the_last(self: Path, target: Path) -> Path:
        if self.name == former.path.name:
            fail()
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", all_but_the_last)
        with pytest.raises(InputError, match="no engine was published"):
            replace(former, b"the successor")
    return EngineManifest.read(former.path)


@pytest.mark.parametrize("links", [True, False])
def test_a_failure_in_the_last_step_leaves_the_former_engine(
    former: EngineManifest, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    content = former.engine.read_bytes()
    if not links:
        monkeypatch.setattr(os, "link", fail)  # as on a stick formatted for Windows
    left = replace_in_vain(former)
    assert left.engine.name == "conv-cut-mini.fp16.onnxruntime.former.onnx"
    assert left.engine.read_bytes() == content
    assert former.engine.read_bytes() == b"the successor"
    for given in (former.path.parent, former.path, former.engine):
        with engine.load(given) as opened:
            assert opened.manifest == left
    replace(former, content)
    check_published(former, former.path.parent)


def test_it_is_one_engine_to_all_that_look(former: EngineManifest) -> None:
    content = former.engine.read_bytes()
    left = replace_in_vain(former)
    (state,) = examine(former.path.parent)["engines"].values()
    assert state.startswith("runs here")
    assert describe(former.path)["files"]["engine"] == left.engine.name
    with pytest.raises(ManifestError, match="has no manifest"):
        find_manifest(left.engine)
    checked = verify(left, ZOO, FACES, models.quiet)
    assert checked.engine == left.engine
    assert EngineManifest.read(former.path) == checked
    assert replace_in_vain(former) == checked  # and once more
    replace(former, content)
    check_published(former, former.path.parent)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_what_an_engine_links_to_is_left_alone(former: EngineManifest, tmp_path: Path) -> None:
    content, store = former.engine.read_bytes(), tmp_path / "store"
    former.engine.rename(store)
    former.engine.symlink_to(store)
    left = replace_in_vain(former)
    left.check_files()
    assert not former.engine.is_symlink()
    replace(former, content)
    check_published(former, former.path.parent)
    assert store.read_bytes() == content


def test_what_is_no_engine_any_more_is_replaced(former: EngineManifest) -> None:
    """One that was damaged, beside a file of an earlier one that no manifest names, and a file of the user's."""
    content, mine = former.engine.read_bytes(), former.path.with_name("mine.former.onnx")
    mine.write_bytes(b"mine")
    former.engine.write_bytes(b"damaged")
    former.engine.with_suffix(".former.onnx").write_bytes(b"of a build killed at its very end")
    replace(former, content)
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    check_published(former, former.path.parent)
