"""The wheel, the build and the project files: what a fresh machine gets from this tree."""

import email
import email.message
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
# The tools of the environment that runs the tests, before those of the machine.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
NO_COMPILER = {"CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": PATH, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def fake_nvcc(folder: Path, release: str, size: int = 0) -> Path:
    """An nvcc that says its version, and compiles everything to this many zero bytes."""
    nvcc = folder / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        f"[ $1 = --version ] && echo 'Cuda compilation tools, release {release}, V{release}.1' && exit\n"
        "while [ $1 != -o ]; do shift; done\n"
        f"head -c {size} /dev/zero > $2\n"
    )
    nvcc.chmod(0o755)
    return nvcc


def configure(build: Path, *options: str, source: Path = ROOT) -> str:
    """What CMake says on its first pass over the project, with no compiler to be found."""
    return run(["cmake", "-S", source, "-B", build, *options], build.parent, **NO_COMPILER)


def build_wheel(out: Path, *options: str) -> Path:
    """The wheel as a machine without a C compiler builds it, offline."""
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation"]
    settings = [f"--config-settings={o}" for o in (f"build-dir={out / 'build'}", *options)]
    run([*command, *settings, "--wheel-dir", str(out)], out, **NO_COMPILER)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a machine without nvcc."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), "cmake.define.CMAKE_CUDA_COMPILER=")


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: list[str]) -> email.message.Message:
    (name,) = (n for n in names if n.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The python command of an environment with the wheel, numpy and Pillow, and nothing else.

    -S leaves out the environment that runs the tests, in which an editable install would win.
    """
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    run([*pip, str(site), str(wheel)], site)
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs"):
        package = Path(np.__file__).parents[1] / name
        if package.exists():
            (site / name).symlink_to(package)
    start = f"import sys; sys.path.insert(0, {str(site)!r}); exec(sys.argv.pop(1))"
    return [sys.executable, "-I", "-S", "-c", start]


def test_wheel_holds_the_robot_side_and_nothing_else(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"convcut_trt"}
    assert "convcut_trt/py.typed" in names
    assert not [name for name in names if "__pycache__" in name]


def test_wheel_holds_every_file_of_the_package(names: list[str]) -> None:
    package = ROOT / "convcut_trt"
    files = {p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p.relative_to(ROOT).as_posix() for p in files} <= set(names)


def test_wheel_holds_what_compiles_the_kernels_elsewhere(names: list[str]) -> None:
    """Without nvcc it is NVRTC that compiles them, and the plugin is always compiled on the robot."""
    kernels = {
        f"convcut_trt/kernels/{k}.{end}" for k in ("tail", "preprocess") for end in ("cu", "cuh")
    }
    sources = {
        "convcut_plugin.cpp",
        "tail_fields.cpp",
        "tail_fields.h",
        "tail_launch.cu",
        "tail_launch.h",
    }
    assert kernels | {f"convcut_trt/plugin/{name}" for name in sources} <= set(names)
    assert not [name for name in names if name.endswith((".fatbin", ".so"))]


def test_wheel_fits_any_machine_and_a_slow_line(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 12_000_000


def test_core_needs_only_numpy_and_pillow(metadata: email.message.Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    core = [requirement for requirement in requirements if "extra ==" not in requirement]
    assert {re.split(r"[<>=\[; ]", requirement)[0].lower() for requirement in core} == {
        "numpy",
        "pillow",
    }


def test_no_extra_of_the_robot_side_brings_torch_or_tensorrt(
    metadata: email.message.Message,
) -> None:
    for requirement in metadata.get_all("Requires-Dist", []):
        name = re.split(r"[<>=\[; ]", requirement)[0].lower()
        assert name != "tensorrt"  # it belongs to JetPack; a wheel of it would break that
        if name in {"torch", "torchvision", "timm", "lightning"}:
            assert re.search(r"extra == ['\"]lab['\"]", requirement)


def test_the_wheel_runs_outside_the_checkout(
    installed: list[str], metadata: email.message.Message, tmp_path: Path
) -> None:
    said = run(
        [*installed, "import convcut_trt as cc; print(cc.__version__); print(cc.__file__)"],
        tmp_path,
    ).split()
    assert said[0] == metadata["Version"]
    assert not Path(said[1]).is_relative_to(ROOT)


def test_the_command_explains_itself_with_no_backend_installed(
    installed: list[str], tmp_path: Path
) -> None:
    help_text = run([*installed, "from convcut_trt.cli import main; main()", "--help"], tmp_path)
    assert "build" in help_text


def test_import_costs_at_most_30_ms_beyond_numpy() -> None:
    code = (
        "import time, numpy; start = time.perf_counter(); import convcut_trt;"
        "print(time.perf_counter() - start)"
    )
    # The least of several: whatever else the machine does can only add.
    assert min(float(run([sys.executable, "-c", code], ROOT)) for _ in range(7)) <= 0.030


def test_import_loads_no_backend() -> None:
    code = "import sys, convcut_trt; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run([sys.executable, "-c", code], ROOT).split()}
    backends = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda"}
    assert not loaded & backends


def test_cmake_configures_without_nvcc(tmp_path: Path) -> None:
    said = configure(tmp_path / "build", "-DCMAKE_CUDA_COMPILER=")
    assert "nvcc not found" in said


@pytest.mark.parametrize(
    ("release", "architectures"),
    [("12.6", "75;80;86;87;89;90"), ("13.0", "75;80;86;87;89;90;110;120")],
)
def test_cmake_takes_the_architectures_from_the_version_of_nvcc(
    tmp_path: Path, release: str, architectures: str
) -> None:
    nvcc = fake_nvcc(tmp_path, release)
    said = configure(tmp_path / "build", f"-DCMAKE_CUDA_COMPILER={nvcc}")
    assert f"CUDA {release} " in said
    assert f"architectures {architectures}," in said


@pytest.mark.parametrize(
    ("release", "compress"), [("12.6", "-compress-all"), ("13.0", "--compress-mode=size")]
)
def test_fatbins_are_compressed_and_run_on_gpus_to_come(
    tmp_path: Path, release: str, compress: str
) -> None:
    nvcc = fake_nvcc(tmp_path, release)
    run(["cmake", "-S", ROOT, "-B", tmp_path, f"-DCMAKE_CUDA_COMPILER={nvcc}"], tmp_path)
    said = run(["cmake", "--build", tmp_path, "--verbose"], tmp_path)
    for kernel in ("tail", "preprocess"):
        (line,) = (line for line in said.splitlines() if f"-o {kernel}.fatbin" in line)
        assert compress in line
        assert "arch=compute_75,code=compute_75" in line


@pytest.mark.parametrize(("size", "installed"), [(999_999, True), (1_000_000, False)])
def test_kernels_that_are_too_large_stay_out_of_the_wheel(
    tmp_path: Path, size: int, installed: bool
) -> None:
    nvcc = fake_nvcc(tmp_path, "13.0", size)
    build, to = tmp_path / "build", tmp_path / "to"
    run(["cmake", "-S", ROOT, "-B", build, f"-DCMAKE_CUDA_COMPILER={nvcc}"], tmp_path)
    run(["cmake", "--build", build], tmp_path)
    run(["cmake", "--install", build, "--prefix", to], tmp_path)
    found = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    both = {f"convcut_trt/kernels/{kernel}.fatbin" for kernel in ("tail", "preprocess")}
    assert found == (both if installed else set())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
def test_cmake_compiles_a_kernel_for_every_architecture(tmp_path: Path) -> None:
    kernels = tmp_path / "convcut_trt" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "fill.cu").write_text(
        'extern "C" __global__ void fill(float *to) { to[threadIdx.x] = 1.0f; }\n'
    )
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    said = run(["cmake", "-S", tmp_path, "-B", tmp_path / "build"], tmp_path)
    found = re.search(r"architectures ([\d;]+), 1 kernel file", said)
    assert found
    built = run(["cmake", "--build", tmp_path / "build", "--verbose"], tmp_path)
    for architecture in found[1].split(";"):
        assert f"arch=compute_{architecture},code=sm_{architecture}" in built
    assert "arch=compute_75,code=compute_75" in built
    run(["cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "to"], tmp_path)
    fatbin = (tmp_path / "to" / "convcut_trt" / "kernels" / "fill.fatbin").read_bytes()
    assert fatbin[:4] == bytes.fromhex("50ed55ba")  # the magic number of a fat binary


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
def test_wheel_with_compiled_kernels(tmp_path: Path) -> None:
    built = build_wheel(tmp_path)
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        sizes = {file.filename: file.file_size for file in archive.infolist()}
    fatbins = {name: size for name, size in sizes.items() if name.endswith(".fatbin")}
    assert set(fatbins) == {f"convcut_trt/kernels/{k}.fatbin" for k in ("tail", "preprocess")}
    assert sum(fatbins.values()) < 2_000_000
    assert not [name for name in sizes if name.endswith(".so")]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    ci = ROOT / ".ci" / "run"
    assert ci.stat().st_mode & stat.S_IXUSR
    command = ci.read_text().splitlines()[-1]
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    documented = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert command == "make test"
    assert command in documented


@pytest.mark.slow
def test_the_demo_runs_from_a_wheel_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    venv.create(demo, with_pip=True)
    pins = ROOT / "constraints.txt"
    run(
        [demo / "bin" / "python", "-m", "pip", "install", "-c", pins, f"{wheel}[rtx,faces]"],
        tmp_path,
    )
    recipe = run(["make", "--dry-run", "demo", f"DEMO={demo}"], ROOT)
    commands = [line for line in recipe.splitlines() if line.startswith(f"{demo}/bin/convcut-trt")]
    assert len(commands) == 4
    for command in commands:
        run(command.split(), tmp_path)
    assert (demo / "astronaut.png").is_file()
    assert (demo / "faces.mp4").is_file()
