"""Both kernels on a real GPU, every form: against float64 and bit by bit, outputs poisoned, inputs drawn anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from convcut_trt.frames import FORMATS
from convcut_trt.gpu import nvrtc
from convcut_trt.gpu.cache import Cache
from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.kernels import Kernels
from convcut_trt.gpu.resources import Resources
from convcut_trt.kernels.tail import ATTENTIONS, DTYPES, LAYOUTS, Attention, Layout
from tests.gpu.on_gpu import GpuPreprocess, GpuTail, fresh
from tests.kernels import test_preprocess_host as preprocess_tests
from tests.kernels import test_tail_host as tail_tests
from tests.kernels.host import HostTail, random_map, random_tail
from tests.kernels.test_preprocess_host import HostPreprocess, random_case

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
LIMITS = (((512, 8, 8), 512, 64), ((1, 8, 8), 0, 64), ((512, 1, 1), 0, 1))

# The tests of the host shim, here with the fixtures below in the place of the shim.
test_values_that_hurt = tail_tests.test_values_that_hurt
test_a_score_scale_of_any_sign = tail_tests.test_a_score_scale_of_any_sign
test_a_face_that_is_no_number_has_no_answer_and_the_others_keep_theirs = (
    tail_tests.test_a_face_that_is_no_number_has_no_answer_and_the_others_keep_theirs
)
test_a_face_has_the_same_bits_in_any_batch = tail_tests.test_a_face_has_the_same_bits_in_any_batch
test_attention_across_the_batch_is_the_identity_for_one_face_and_mixes_two = (
    tail_tests.test_attention_across_the_batch_is_the_identity_for_one_face_and_mixes_two
)
test_edges = preprocess_tests.test_edges
test_whole_4k_faces = preprocess_tests.test_whole_4k_faces


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cuda, Resources]]:
    """The GPU, its context current, and a cache of kernels of its own."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("CONVCUT_HOME", str(tmp_path_factory.mktemp("home")))
        with Cuda() as cuda:
            resources = Resources(cuda)
            try:
                yield cuda, resources
            finally:
                resources.close()


@pytest.fixture(scope="module")
def host_tail(real: tuple[Cuda, Resources]) -> HostTail:
    """The tail on the GPU."""
    return cast(HostTail, GpuTail(*real))


@pytest.fixture(scope="module")
def host_preprocess(real: tuple[Cuda, Resources]) -> HostPreprocess:
    """The preprocessing on the GPU."""
    return cast(HostPreprocess, GpuPreprocess(*real))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_shape(host_tail: HostTail, attention: Attention, dtype: str, layout: Layout) -> None:
    random = fresh(f"every shape {attention} {dtype} {layout}")
    for map_shape, units, classes in (*tail_tests.SHAPES, *tail_tests.MORE, *LIMITS):
        tail = random_tail(random, attention, map_shape, units, classes)
        map = random_map(random, tail, 5, dtype)
        tail_tests.check(host_tail, tail, map, layout, tail_tests.MEASURED)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name != "batch"])
def test_a_face_alone_has_the_bits_that_it_has_among_hundreds(
    host_tail: HostTail, attention: Attention, dtype: str, layout: Layout
) -> None:
    random = fresh(f"bits {attention} {dtype} {layout}")
    tail = random_tail(random, attention, (256, 3, 3), 32)
    map = random_map(random, tail, 700, dtype)
    together = host_tail(tail, map, layout)
    for _ in range(3):  # the same again, whoever ran beside whom
        for values, before in zip(host_tail(tail, map, layout), together, strict=True):
            np.testing.assert_array_equal(values, before)
    order = random.permutation(len(map))
    for chosen in (order, order[:133], *order[:10, None]):
        for values, before in zip(host_tail(tail, map[chosen], layout), together, strict=True):
            np.testing.assert_array_equal(values, before[chosen])


@pytest.mark.parametrize("format", FORMATS)
def test_faces_of_any_frame_are_those_of_twin_and_pillow_bit_by_bit(
    host_preprocess: HostPreprocess, format: str
) -> None:
    random = fresh(f"frames {format}")
    for most, sizes in ((90, (1, 3, 8, 17)), (700, (2, 16, 48, 112, 224))):
        for _ in range(30):
            case = random_case(random, format, most, sizes)
            preprocess_tests.check(host_preprocess, case)
            enqueued = cast(GpuPreprocess, host_preprocess).enqueued(case)
            np.testing.assert_array_equal(enqueued, case.twin())


def test_a_kernel_is_compiled_once(
    real: tuple[Cuda, Resources], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any((nvrtc.KERNELS / f"{name}.fatbin").is_file() for name in ("tail", "preprocess")):
        pytest.skip("this package brings its kernels compiled")
    cuda, _ = real
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path))
    plan = random_tail(np.random.default_rng(0), "channel", (8, 2, 2)).launch(1, "float32", "nchw")
    compiled: list[str] = []
    put = Cache.put

    def counted(self: Cache, key: str, content: bytes) -> None:
        compiled.append(key)
        put(self, key, content)

    monkeypatch.setattr(Cache, "put", counted)
    for _ in range(2):  # as two processes would
        resources = Resources(cuda)
        try:
            assert Kernels(cuda, resources).function("tail", plan.name, plan.defines)
        finally:
            resources.close()
    assert len(compiled) == 1


def sanitizer() -> str:
    """compute-sanitizer, from PATH or where CUDA puts it."""
    places = [
        shutil.which("compute-sanitizer"),
        *sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer")),
    ]
    found = [str(place) for place in places if place]
    if not found:
        pytest.skip("no compute-sanitizer here: it comes with the CUDA toolkit")
    return found[0]


def sanitized(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sanitizer(), "--tool", tool, "--error-exitcode", "9", sys.executable]
    return subprocess.run(
        [*command, "-m", "tests.gpu.sanitized", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def cannot(done: subprocess.CompletedProcess[str]) -> None:
    """Skips where the tool does not work on this machine, which is not the kernels' fault."""
    said = done.stdout + done.stderr
    for words in ("Device not supported", "Unable to initialize", "not supported on this device"):
        if words in said:
            pytest.skip(f"compute-sanitizer: {words}")


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    done = sanitized(tool)
    cannot(done)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all launches done" in done.stdout
    assert "0 errors" in done.stdout or "0 hazards" in done.stdout


def test_compute_sanitizer_finds_a_planted_write_out_of_bounds() -> None:
    done = sanitized("memcheck", "--planted")
    cannot(done)
    assert done.returncode != 0
    assert "Invalid __global__ write" in done.stdout


def test_an_illegal_access_ends_the_context_and_not_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.illegal"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["lost", "lost", "alive"]
