"""The sdist and the wheel, as they would be published."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.test_packaging import NO_COMPILER, PATH, ROOT, run

BUILD = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
FILES = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-c", BUILD, folder], ROOT)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def wheel_of(source: Path, to: Path, *settings: str) -> Path:
    """Built offline, without a C compiler."""
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps"]
    options = [
        f"--config-settings={setting}" for setting in (f"build-dir={to / 'build'}", *settings)
    ]
    run([*command, "--no-build-isolation", *options, "--wheel-dir", to], to, **NO_COMPILER)
    (built,) = to.glob("*.whl")
    return built


def contents(wheel: Path) -> dict[str, int]:
    """Name -> CRC of what is not written anew for each build."""
    with zipfile.ZipFile(wheel) as archive:
        files = {file.filename: file.CRC for file in archive.infolist()}
    return {name: crc for name, crc in files.items() if not name.endswith("/RECORD")}


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir()} == {*FILES, "convcut_trt"}
    ours = {path.relative_to(ROOT) for path in (ROOT / "convcut_trt").rglob("*") if path.is_file()}
    inside = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert {path for path in ours if "__pycache__" not in path.parts} == {
        path for path in inside if path.parts[0] == "convcut_trt"
    }


def test_the_sdist_is_as_small_as_the_wheel_has_to_be(sdist: Path) -> None:
    assert sdist.stat().st_size < 12_000_000


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(
    unpacked: Path, wheel: Path, tmp_path: Path
) -> None:
    built = wheel_of(unpacked, tmp_path, "cmake.define.CMAKE_CUDA_COMPILER=")
    assert contents(built) == contents(wheel)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
def test_the_sdist_brings_the_kernels_to_a_machine_with_nvcc(
    unpacked: Path, tmp_path: Path
) -> None:
    built = wheel_of(unpacked, tmp_path)
    fatbins = {name for name in contents(built) if name.endswith(".fatbin")}
    assert fatbins == {f"convcut_trt/kernels/{k}.fatbin" for k in ("preprocess", "tail")}
    assert built.stat().st_size < 12_000_000
    run(["check-wheel-contents", built], tmp_path)


@pytest.mark.slow
def test_an_index_would_take_both(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    run(["twine", "check", "--strict", sdist, wheel], tmp_path)
    run(["check-wheel-contents", wheel], tmp_path)


@pytest.mark.slow
def test_those_checks_see_what_is_wrong(wheel: Path, tmp_path: Path) -> None:
    """A README that is no text of the kind it says, and a package that hides another one's."""
    broken = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(broken, "w") as target:
        for file in source.infolist():
            data = source.read(file)
            if file.filename.endswith("/METADATA"):
                data = data.replace(b"text/markdown", b"text/x-rst")
            if file.filename.endswith("/RECORD"):
                data += b"tests/__init__.py,,0\n"
            target.writestr(file, data)
        target.writestr("tests/__init__.py", b"")
    for command in (["twine", "check", "--strict"], ["check-wheel-contents"]):
        done = subprocess.run([*command, broken], env={"PATH": PATH}, capture_output=True)
        assert done.returncode == 1, command
