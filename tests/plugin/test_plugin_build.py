"""The plugin as CMake builds it: for GPUs, with nvcc, for this machine alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.kernels.host import KERNELS, random_tail
from tests.kernels.ptxas import checked_kernels
from tests.plugin.conftest import HEADERS
from tests.plugin.host import Driver, fields_of
from tests.plugin.host import build as build_for_host
from tests.test_packaging import ROOT, configure, fake_nvcc, run

SYSTEM = {
    "libstdc++",
    "libgcc_s",
    "libm",
    "libc",
    "libdl",
    "librt",
    "libpthread",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
}


@pytest.mark.slow
def test_the_library_needs_no_tensorrt_and_no_cuda(nvcc: str, tmp_path: Path) -> None:
    if not HEADERS:
        pytest.skip("CONVCUT_TRT_HEADERS names no folder with headers of TensorRT")
    if not shutil.which("readelf"):
        pytest.skip("no readelf here")
    options = (f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DTRT_ROOT={HEADERS[0].parent}")
    build = tmp_path / "build"
    assert "target convcut_plugin" in configure(build, *options)
    run(["cmake", "--build", build, "--target", "convcut_plugin"], tmp_path)
    library = build / "libconvcut_plugin.so"
    needed = re.findall(
        r"NEEDED.*\[([^\]]+)\.so[^\]]*\]", run(["readelf", "-d", library], tmp_path)
    )
    assert set(needed) <= SYSTEM
    symbols = run(["readelf", "--dyn-syms", "--wide", library], tmp_path)
    exported = {
        line.split()[7] for line in symbols.splitlines() if "GLOBAL" in line and " UND " not in line
    }
    assert {"getCreators", "setLoggerFinder"} <= exported
    assert not {name for name in exported if name.startswith("cuda")}

    driver = Driver(replace(build_for_host(nvcc, HEADERS[0], tmp_path), plugin=library))
    tail = random_tail(np.random.default_rng(0), "channel", (24, 3, 3))
    with driver.create(fields_of(tail)) as plugin:
        assert plugin is not None
        if plugin.shape_change((1, 24, 3, 3)) != 0:  # as where there is no GPU
            assert "could not copy its parameters to the GPU: " in driver.message()


@pytest.mark.slow
def test_its_kernels_are_held_to_the_limits_of_the_others(nvcc: str, tmp_path: Path) -> None:
    strict = (f"-I{KERNELS}", "-Xcompiler=-Wall,-Wextra,-Werror")
    found = checked_kernels(nvcc, "../plugin/tail_launch.cu", 87, tmp_path, *strict)
    assert len(found) == 6  # two types, three kinds of attention


def test_it_is_built_on_request_only(tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "NvInfer.h").touch()
    build = tmp_path / "build"
    configure(
        build, f"-DCMAKE_CUDA_COMPILER={fake_nvcc(tmp_path, '12.6')}", f"-DTRT_ROOT={tmp_path}"
    )
    dry_run = ("cmake", "--build", build, "--target")
    assert "libconvcut_plugin.so" in run([*dry_run, "convcut_plugin", "--", "-n"], tmp_path)
    everything = run([*dry_run, "all", "--", "-n"], tmp_path)
    assert "tail.fatbin" in everything
    assert "libconvcut_plugin.so" not in everything


def test_there_is_no_target_without_headers(tmp_path: Path) -> None:
    options = (
        f"-DCMAKE_CUDA_COMPILER={fake_nvcc(tmp_path, '12.6')}",
        "-DTRT_INCLUDE=TRT_INCLUDE-NOTFOUND",
    )
    if any(Path(folder).exists() for folder in Path("/usr/include").glob("*-linux-gnu/NvInfer.h")):
        pytest.skip("TensorRT is installed here")
    assert "convcut_plugin" not in configure(tmp_path / "build", *options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-DTRT_ROOT=/nonexistent",), "no NvInfer.h in /nonexistent/include"),
        (("-DTRT_ROOT=/nonexistent", "-DCMAKE_CUDA_COMPILER="), "the plugin needs nvcc"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    command = ["cmake", "-S", str(ROOT), "-B", str(tmp_path / "build")]
    command += [f"-DCMAKE_CUDA_COMPILER={fake_nvcc(tmp_path, '12.6')}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert says in " ".join(done.stderr.split())
