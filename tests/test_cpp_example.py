"""The C++ example: run above a TensorRT and a CUDA of the host, and compiled against TensorRT's own headers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.conftest import nvcc as nvcc
from tests.plugin.conftest import headers as headers

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "examples" / "cpp"
FAKES = Path(__file__).parent / "cpp"
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror")
OUTPUTS = "logits probabilities map"
FACE = 4 * 4 * 3
LABELS = ("neutral", "happiness", "surprise")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with every mistake of memory an error."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here")
    binary = tmp_path_factory.mktemp("cpp") / "classify"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    command = [compiler, *STRICT, *sanitizers, f"-I{FAKES}", str(SOURCE / "main.cpp")]
    command += ["-o", str(binary)]
    subprocess.run(command, check=True)
    return binary


def classify(
    program: Path, folder: Path, plan: str, faces: bytes, *labels: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "a.engine").write_text(plan)
    (folder / "faces.rgb").write_bytes(faces)
    command = [str(program), str(folder / "a.engine"), str(folder / "faces.rgb"), *labels]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_every_face_gets_its_label(program: Path, tmp_path: Path) -> None:
    faces = b"".join(bytes([first]) + bytes(FACE - 1) for first in (0, 1, 2, 4))
    done = classify(program, tmp_path, f"4 3 1 8 {OUTPUTS}", faces, *LABELS)
    assert (done.returncode, done.stderr) == (0, "")
    best = ("surprise", "happiness", "neutral", "happiness")
    assert done.stdout.splitlines() == [f"{label} {2 / 3:.4f}" for label in best]


@pytest.mark.parametrize(
    ("plan", "faces", "labels", "environment", "says"),
    [
        ("not a plan", FACE, 3, {}, "is no plan for this TensorRT"),
        ("", FACE, 3, {}, "a.engine cannot be read, or is empty"),
        (f"4 3 1 8 {OUTPUTS}", 0, 3, {}, "faces.rgb cannot be read, or is empty"),
        (f"4 3 1 8 {OUTPUTS}", FACE + 1, 3, {}, "does not hold whole faces of 48 bytes"),
        (f"4 3 1 8 {OUTPUTS}", 9 * FACE, 3, {}, "was not built for a batch of 9"),
        (f"4 3 1 8 {OUTPUTS}", FACE, 2, {}, "knows 3 classes, 2 labels are given"),
        ("4 3 1 8 map", FACE, 3, {}, "build it with --tail native"),
        (f"-1 3 1 8 {OUTPUTS}", FACE, 3, {}, "does not take uint8 `images`"),
        (f"4 3 1 8 {OUTPUTS}", FACE, 3, {"FAKE_NO_GPU": "1"}, "TensorRT does not start"),
        (f"4 3 1 8 {OUTPUTS}", FACE, 3, {"FAKE_NO_MEMORY": "1"}, "CUDA: out of memory"),
    ],
)
def test_what_is_wrong_is_said(
    program: Path,
    tmp_path: Path,
    plan: str,
    faces: int,
    labels: int,
    environment: dict[str, str],
    says: str,
) -> None:
    done = classify(program, tmp_path, plan, bytes(faces), *LABELS[:labels], **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr.splitlines()[-1]


def test_it_says_how_to_call_it(program: Path) -> None:
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.slow
def test_its_own_build_compiles_and_links_it(nvcc: str, headers: Path, tmp_path: Path) -> None:
    """With an empty libnvinfer: the program starts, and TensorRT does not."""
    stub = tmp_path / "nvinfer.cpp"
    stub.write_text(
        'extern "C" void* createInferRuntime_INTERNAL(void*, int) noexcept { return nullptr; }'
    )
    library = tmp_path / "libnvinfer.so"
    subprocess.run(["g++", "-shared", "-fPIC", stub, "-o", library], check=True)
    build = tmp_path / "build"
    configure = [
        "cmake",
        "-S",
        str(SOURCE),
        "-B",
        str(build),
        f"-DCUDAToolkit_ROOT={Path(nvcc).parents[1]}",
    ]
    configure += [
        f"-DTRT_INCLUDE={headers}",
        f"-DTRT_LIBRARY={library}",
        "-DCMAKE_CXX_FLAGS=-Werror",
    ]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(build)], check=True)
    done = classify(build / "classify", tmp_path, "a plan", bytes(FACE), *LABELS)
    assert (done.returncode, done.stdout) == (1, "")
    assert "TensorRT does not start" in done.stderr


def test_the_page_names_what_is_there() -> None:
    text = (ROOT / "docs" / "cpp.md").read_text()
    for path in re.findall(r"(?:examples|convcut_trt|tests|docs)/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path
