"""An editable install is the checkout as it stands, also after its modules were moved."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_packaging import NO_COMPILER, ROOT, run

BUILD = (
    "import sys; from scikit_build_core.build import build_editable; build_editable(sys.argv[1])"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project files and the package, without its models."""
    checkout = tmp_path / "checkout"
    leave_out = shutil.ignore_patterns("__pycache__", "zoo")
    shutil.copytree(ROOT / "convcut_trt", checkout / "convcut_trt", ignore=leave_out)
    for name in ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    return checkout


@pytest.fixture
def python(checkout: Path, tmp_path: Path) -> list[str]:
    """A Python in which it is installed; -S leaves out the environment that runs the tests."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    run([sys.executable, "-c", BUILD, wheels], checkout, **NO_COMPILER)
    (built,) = wheels.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)
    start = f"import site, sys; site.addsitedir({str(site)!r}); exec(sys.argv.pop(1))"
    return [sys.executable, "-I", "-S", "-c", start]


WHERE = "from importlib.util import find_spec; print(find_spec(sys.argv[1]).origin)"


def test_modules_are_the_checkouts_before_and_after_a_move(
    checkout: Path, python: list[str], tmp_path: Path
) -> None:
    package = checkout / "convcut_trt"
    module = "convcut_trt.errors"
    where = [*python, f"import sys; {WHERE}", module]
    assert run(where, tmp_path).strip() == str(package / "errors.py")
    (package / "errors").mkdir()
    (package / "errors.py").rename(package / "errors" / "__init__.py")
    assert run(where, tmp_path).strip() == str(package / "errors" / "__init__.py")
    raising = "from convcut_trt.errors import InputError; print(InputError('a fix'))"
    assert run([*python, raising], tmp_path) == "a fix\n"


def test_a_module_that_is_gone_is_missing_and_a_new_one_is_found(
    checkout: Path, python: list[str], tmp_path: Path
) -> None:
    package = checkout / "convcut_trt"
    (package / "optional.py").rename(package / "extras.py")
    code = """if True:
        from convcut_trt.extras import how_to_install
        try:
            import convcut_trt.optional
        except ModuleNotFoundError as error:
            print(error.name)
    """
    assert run([*python, code], tmp_path) == "convcut_trt.optional\n"


def test_it_compiles_nothing_and_leaves_nothing_in_the_checkout(
    checkout: Path, python: list[str]
) -> None:
    found = {path.name for path in checkout.iterdir()}
    assert found == {"CMakeLists.txt", "LICENSE", "README.md", "convcut_trt", "pyproject.toml"}
