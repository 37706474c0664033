"""The lower bounds of ``pyproject.toml``, all at once, on the oldest Python: each is a version that works."""

import re
import sys
from pathlib import Path

import pytest

from tests.packaging import smokes
from tests.packaging.environments import Environment, make
from tests.test_jetpack import python_3_10
from tests.test_packaging import ROOT, run

EXTRAS = (
    "rtx",
    "peers",
    "zenoh",
    "dds",
    "mcap",
)  # with what they bring along: ort, openvino, faces, cuda13


def oldest(requirement: str) -> tuple[str, str]:
    """The name and the lower bound of a requirement such as ``onnx>=1.19``."""
    found = re.match(r"([\w.-]+)>=([\d.]+)", requirement)
    assert found, f"{requirement} has no lower bound"
    return found[1].lower(), found[2]


def bounds(extras: set[str]) -> dict[str, str]:
    """The lower bounds of the core and of some extras."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r"^(dependencies|\w+) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    wanted = {"dependencies", *extras}
    found = [
        r for name, all_of in listed if name in wanted for r in re.findall(r'"([^"]+)"', all_of)
    ]
    return dict(oldest(r) for r in found if not r.startswith("convcut-trt["))


@pytest.fixture(scope="module")
def env(uv: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Python 3.10 where this machine has it, with the lowest version of everything direct."""
    folder = tmp_path_factory.mktemp("oldest")
    python = python_3_10() or sys.executable
    version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], folder)
    resolve: list[str | Path] = [uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct"]
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    target: list[str | Path] = [
        "--python-version",
        version.strip(),
        "--output-file",
        folder / "lowest.txt",
    ]
    run([*resolve, *target, *extras, "pyproject.toml"], ROOT)
    package = f"convcut-trt[{','.join(EXTRAS)}] @ {wheel.as_uri()}"
    return make(uv, folder, "-c", folder / "lowest.txt", package, python=python)


@pytest.mark.slow
def test_the_versions_are_the_lower_bounds(env: Environment) -> None:
    expected = bounds({"ort", "openvino", "faces", "cuda13", *EXTRAS})
    assert {"numpy", "onnx", "onnxruntime", "cuda-bindings", "mcap"} <= set(expected)
    for package, bound in expected.items():
        assert f"{env.version(package)}.".startswith(f"{bound}."), f"{package}>={bound}"


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["ort", "openvino", "rtx", "faces", "zenoh", "dds", "mcap"])
def test_an_extra_works_there(env: Environment, extra: str) -> None:
    getattr(smokes, extra)(env)
