"""Finding models and the folder of engines."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from convcut_trt import home
from convcut_trt.errors import InputError, SpecError

ZOO = home.find_model(home.DEFAULT_MODEL)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with the bundled model in it."""
    for name in (ZOO.onnx.name, f"{ZOO.spec.name}.spec.json"):
        shutil.copyfile(home.ZOO / name, tmp_path / name)
    return tmp_path


def test_a_model_is_found_by_name_file_and_folder(model_folder: Path) -> None:
    assert home.zoo_names() == [home.DEFAULT_MODEL]
    assert ZOO.folder == home.ZOO
    for given in (model_folder, model_folder / ZOO.onnx.name, str(model_folder / ZOO.onnx.name)):
        found = home.find_model(given)
        assert found.spec == ZOO.spec
        assert found.folder == model_folder


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model 'conv-cut-maxi': .*conv-cut-mini"):
        home.find_model("conv-cut-maxi")
    with pytest.raises(InputError, match=r"none\.onnx does not exist: give an \.onnx file"):
        home.find_model(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="holds 0 models"):
        home.find_model(tmp_path)


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".onnx", "a/" * 3000, "a\0b"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(InputError, match="give an"):
        home.find_model(name)


@pytest.mark.parametrize("name", ["model.pt", "model.engine", "model.json", "model"])
def test_what_is_no_onnx_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"is not an \.onnx file: a model is NAME\.onnx with"):
        home.find_model(tmp_path / name)


def test_two_models_in_a_folder(model_folder: Path) -> None:
    (model_folder / "other.spec.json").touch()
    with pytest.raises(InputError, match=r"holds 2 models .*: name the \.onnx file"):
        home.find_model(model_folder)


def test_a_spec_that_is_missing_or_of_another_file(model_folder: Path) -> None:
    path = model_folder / ZOO.onnx.name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpecError, match="does not belong to"):
        home.find_model(path)
    (model_folder / f"{ZOO.spec.name}.spec.json").unlink()
    with pytest.raises(SpecError, match=r"has no conv-cut-mini\.spec\.json beside it"):
        home.find_model(path)


def test_a_folder_with_a_spec_only(model_folder: Path) -> None:
    (model_folder / ZOO.onnx.name).unlink()
    with pytest.raises(InputError, match="does not exist"):
        home.find_model(model_folder)


def test_where_engines_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "mine"))
    assert home.engine_folder() == tmp_path / "mine"
    monkeypatch.setenv("CONVCUT_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home.engine_folder() == tmp_path / "cache" / "convcut-trt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert home.engine_folder() == tmp_path / ".cache" / "convcut-trt"


@pytest.mark.skipif(os.name == "nt", reason="users of POSIX")
def test_a_user_without_a_home_is_told_of_convcut_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(number: int) -> None:
        raise KeyError(number)  # as of a number that a container was started with

    for name in ("CONVCUT_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(InputError, match="set CONVCUT_HOME"):
        home.engine_folder()
    monkeypatch.setenv("CONVCUT_HOME", "engines")
    assert home.engine_folder() == Path("engines")


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "engines"
    former = os.umask(0)
    try:
        home.make_engine_folder(folder)
    finally:
        os.umask(former)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    home.make_engine_folder(folder)  # there already


@pytest.mark.parametrize("name", ["file", "file/engines"])
def test_a_folder_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be created .*: choose another with -o"):
        home.make_engine_folder(tmp_path / name)
