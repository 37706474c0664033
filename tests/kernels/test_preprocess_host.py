"""The preprocessing kernel on the host: bit-equal to its twin and to Pillow, and clean in the sanitizers."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt.errors import InputError
from convcut_trt.frames import FORMATS, Layout, rgb
from convcut_trt.kernels.preprocess import SHARED_BYTES, Launch, launch
from convcut_trt.preprocess import crop_box, faces, resize
from tests.kernels.host import HERE, KERNELS, compile_host

Boxes = NDArray[np.float64]
# The rule is IEEE arithmetic without fusing: what nvcc is told by __dmul_rn.
FLAGS = ("-ffp-contract=off",)


@dataclass(frozen=True)
class Case:
    """A frame in memory, and the faces wanted of it."""

    layout: Layout
    data: NDArray[np.uint8]
    boxes: Boxes
    size: int
    margin: float
    multiprocessors: int

    def plan(self, frame: int = 4096, crops_at: int = 4096, faces_at: int = 4096) -> Launch:
        return launch(
            self.layout,
            self.boxes,
            self.size,
            self.margin,
            frame=frame,
            crops_at=crops_at,
            faces_at=faces_at,
            multiprocessors=self.multiprocessors,
        )

    def twin(self) -> NDArray[np.uint8]:
        frame = self.layout.view(self.data)
        return faces(frame, self.boxes, self.size, self.margin, self.layout.format)

    def pillow(self) -> NDArray[np.uint8]:
        width, height = self.layout.width, self.layout.height
        picture = rgb(
            self.layout.view(self.data), self.layout.format, slice(0, height), slice(0, width)
        )
        if self.layout.format == "mono8":
            picture = picture[..., 0]
        crops = [crop_box(box, width, height, self.margin) for box in self.boxes]
        return np.stack([resize(picture, self.size, box=crop) for crop in crops])

    def header(self, plan: Launch, threads: int) -> bytes:
        """``Case`` of ``host_preprocess.cpp``; the numbers are those that a GPU would get."""
        width, height, *_ = (argument.value for argument in plan.arguments[3:5])
        pitch = plan.arguments[2].value
        chroma = plan.arguments[1].value - plan.arguments[0].value
        size, rows, columns, taps = (argument.value for argument in plan.arguments[7:])
        across, down, count = plan.grid
        order = list(FORMATS).index(plan.name.removeprefix("preprocess_"))
        numbers = (order, pitch, chroma, width, height, count, size, rows, columns, taps)
        launched = (across, down, threads, plan.shared_bytes, self.data.size)
        return np.array(numbers + launched, np.int64).tobytes()


def random_case(
    random: np.random.Generator, format: str, most: int = 90, sizes: tuple[int, ...] = (1, 3, 8, 17)
) -> Case:
    """Any frame: contents, size, pitch; 1 to 3 boxes with and without fractions, leaning over the edges."""
    width, height = (int(side) for side in random.integers(1, most, 2))
    if format == "nv12":
        width, height = 2 * width, 2 * height
    gap = int(random.choice([0, 1, 13]))
    layout = Layout(width, height, format, width * FORMATS[format] + gap)
    data = random.integers(0, 256, layout.rows * layout.pitch - gap, dtype=np.uint8)
    if random.random() < 0.3:
        data = np.where(data > 127, 255, 0).astype(np.uint8)
    count = int(random.integers(1, 4))
    sides = random.uniform(0.2, 1.2 * max(width, height), (count, 2))
    corners = random.uniform(0, 1, (count, 2)) * [width, height] - sides / 3
    boxes = np.hstack([corners, sides])
    if random.random() < 0.3:
        boxes = np.floor(boxes)
        boxes[:, 2:] += 1
    boxes = np.maximum(boxes, [[0.01 - side[0], 0.01 - side[1], 0, 0] for side in boxes[:, 2:]])
    margin = float(random.choice([0.0, 0.1]))
    return Case(layout, data, boxes, int(random.choice(sizes)), margin, int(random.choice([1, 64])))


class HostPreprocess:
    """``preprocess.cuh`` on the host."""

    def __init__(self, library: Path) -> None:
        self._run: Any = ctypes.CDLL(str(library)).host_preprocess
        self._run.restype = ctypes.c_char_p

    def __call__(self, case: Case, threads: int = 32, backward: bool = False) -> NDArray[np.uint8]:
        crops = np.zeros(4 * len(case.boxes) + 4, np.float32)
        crops = crops[-crops.ctypes.data // 4 % 4 :]  # aligned as device memory is
        plan = case.plan(case.data.ctypes.data, crops.ctypes.data)
        crops[: plan.crops.size] = plan.crops.ravel()
        result = np.full((len(case.boxes), case.size, case.size, 3), 77, np.uint8)
        header = case.header(plan, threads)
        pointers = (case.data, crops, result)
        error = self._run(
            header, *(ctypes.c_void_p(p.ctypes.data) for p in pointers), ctypes.c_bool(backward)
        )
        assert error is None, error
        return result


@pytest.fixture(scope="module")
def host_preprocess(tmp_path_factory: pytest.TempPathFactory) -> HostPreprocess:
    library = tmp_path_factory.mktemp("host") / "host_preprocess.so"
    return HostPreprocess(
        compile_host(HERE / "host_preprocess.cpp", library, "-O1", "-shared", "-fPIC", *FLAGS)
    )


def check(host: HostPreprocess, case: Case, **options: Any) -> None:
    seen = host(case, **options)
    np.testing.assert_array_equal(seen, case.twin())
    np.testing.assert_array_equal(seen, case.pillow())


@pytest.mark.parametrize("format", FORMATS)
def test_random_frames(host_preprocess: HostPreprocess, format: str) -> None:
    random = np.random.default_rng(len(format))
    for _ in range(40):
        check(host_preprocess, random_case(random, format))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_many_random_frames(host_preprocess: HostPreprocess, format: str) -> None:
    random = np.random.default_rng(100 + len(format))
    for _ in range(60):
        check(host_preprocess, random_case(random, format, 400, (1, 2, 16, 48, 64, 112)))


@pytest.mark.parametrize(
    ("width", "height", "box", "size"),
    [
        (1, 1, (0, 0, 1, 1), 9),  # one pixel
        (9, 1, (2.5, 0, 1, 1), 4),
        (50, 40, (7, 9, 16, 16), 16),  # a copy
        (50, 40, (7.5, 9.25, 16, 16), 16),
        (50, 40, (49.999, 39.999, 1e-3, 1e-3), 8),  # enlarged 8000 times, at the last corner
        (50, 40, (20.1, 20.2, 1e-30, 1e-30), 3),  # an edge that float32 cannot tell from the other
        (701, 613, (0, 0, 613, 613), 1),  # 613 to 1
        (1200, 700, (3.3, 1.1, 690, 690), 7),
    ],
)
def test_edges(
    host_preprocess: HostPreprocess, width: int, height: int, box: tuple[float, ...], size: int
) -> None:
    random = np.random.default_rng(width)
    data = random.integers(0, 256, width * height * 3, dtype=np.uint8)
    case = Case(Layout(width, height, "rgb8"), data, np.array([box]), size, 0.0, 1)
    check(host_preprocess, case)


def test_the_answer_hangs_on_neither_threads_nor_tiles(host_preprocess: HostPreprocess) -> None:
    random = np.random.default_rng(5)
    case = random_case(random, "nv12", sizes=(33,))
    expected = case.twin()
    for threads in (1, 33, 256):
        for backward in (False, True):
            seen = host_preprocess(case, threads=threads, backward=backward)
            np.testing.assert_array_equal(seen, expected)
    for multiprocessors in (1, 8, 10**6):
        other = Case(case.layout, case.data, case.boxes, case.size, case.margin, multiprocessors)
        np.testing.assert_array_equal(host_preprocess(other), expected)


@pytest.mark.parametrize("size", [48, 224])
@pytest.mark.parametrize("format", ["rgba8", "nv12"])
def test_a_4k_frame_fits_the_shared_memory(format: str, size: int) -> None:
    for side in (20, 300, 1000, 2160):
        for multiprocessors in (8, 132):
            layout = Layout(3840, 2160, format)
            boxes = np.array([(0, 0, side, side)] * 8)
            case = Case(layout, np.empty(0, np.uint8), boxes, size, 0.1, multiprocessors)
            plan = case.plan()
            assert plan.shared_bytes <= SHARED_BYTES
            assert plan.grid[0] * plan.grid[1] * 8 >= min(multiprocessors, 4 * size)


@pytest.mark.slow
def test_whole_4k_faces(host_preprocess: HostPreprocess) -> None:
    random = np.random.default_rng(6)
    layout = Layout(3840, 2160, "nv12", 3904)
    data = random.integers(0, 256, layout.rows * layout.pitch, dtype=np.uint8)
    for size in (48, 224):
        boxes = np.array([(400.25, 3.5, 2150.5, 2000), (9, 9, 120, 100)])
        check(host_preprocess, Case(layout, data, boxes, size, 0.0, 8))


def sanitizer_cases(format: str) -> Iterator[Case]:
    random = np.random.default_rng(9)
    for size in (1, 5, 20):
        for _ in range(3):
            yield random_case(random, format, 40, (size,))


def write_cases(path: Path, threads: int) -> int:
    """For the program of ``host_preprocess.cpp``; returns how many."""
    count = 0
    with path.open("wb") as file:
        for format in FORMATS:
            for case in sanitizer_cases(format):
                plan = case.plan()
                file.write(case.header(plan, threads))
                for array in (plan.crops, case.data, case.twin()):
                    file.write(array.tobytes())
                count += 1
    return count


SANITIZERS = {
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-fsanitize=thread",),
}


def run_sanitized(
    folder: Path, sanitizer: str, kernels: Path = KERNELS
) -> tuple[int, subprocess.CompletedProcess[str]]:
    program = compile_host(
        HERE / "host_preprocess.cpp",
        folder / sanitizer,
        "-O1",
        "-g",
        *FLAGS,
        *SANITIZERS[sanitizer],
        kernels=kernels,
    )
    count = write_cases(folder / "cases", threads=40)
    command = [str(program), str(folder / "cases")]
    return count, subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    count, done = run_sanitized(tmp_path, sanitizer)
    assert (done.returncode, done.stdout) == (0, f"{count} cases\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sanitizer", "sound", "broken", "said"),
    [
        # A barrier left out: the weights are used while others still make them.
        (
            "thread",
            "        taps[item] = int(0.5 + mul(weight, 1 << kBits));\n    }\n    __syncthreads();",
            "        taps[item] = int(0.5 + mul(weight, 1 << kBits));\n    }",
            "data race",
        ),
        # The window not cut off at the frame's edge: reads behind it.
        (
            "address",
            "min(int(centre[i] + support + 0.5), across ? frame.width : frame.height)",
            "int(centre[i] + support + 0.5)",
            "heap-buffer-overflow",
        ),
        # One line more than the host made room for.
        ("address", "(bottom - top) * columns;", "(bottom - top + 2) * columns;", "overflow"),
    ],
)
def test_sanitizers_find_planted_bugs(
    tmp_path: Path, sanitizer: str, sound: str, broken: str, said: str
) -> None:
    kernel = (KERNELS / "preprocess.cuh").read_text()
    assert kernel.count(sound) == 1
    (tmp_path / "preprocess.cuh").write_text(kernel.replace(sound, broken))
    _, done = run_sanitized(tmp_path, sanitizer, kernels=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr


GOOD = {"frame": 4096, "crops_at": 4096, "faces_at": 4096, "multiprocessors": 8}
BOX = [(10.0, 10.0, 20.0, 20.0)]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"frame": 0}, "frame is null"),
        ({"chroma": 0}, "chroma is null"),
        ({"faces_at": 0}, "faces is null"),
        ({"crops_at": 0}, "aligned to 16"),
        ({"crops_at": 4104}, "crops lie at 0x1008"),
        ({"boxes": []}, "no face boxes"),
        ({"boxes": np.empty((0, 4))}, "no face boxes"),
        ({"boxes": [(10, 10, 0, 20)]}, "has no area"),
        ({"boxes": [(10, 10, 20, -1)]}, "has no area"),
        ({"boxes": [(10, float("nan"), 20, 20)]}, "has no area"),
        ({"boxes": np.array([[np.inf, 0, 1, 1]])}, "has no area"),
        ({"boxes": [(100, 10, 20, 20)]}, "outside"),
        ({"boxes": [(1, 2, 3)]}, r"face boxes are \[1, 3\]"),
        ({"boxes": BOX * 65536}, "at most 65535"),
        ({"size": 0}, "at least 1"),
        ({"margin": float("nan")}, "margin"),
        ({"margin": -0.1}, "margin"),
    ],
)
def test_bad_input_is_refused_before_a_launch(changed: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = GOOD | {"boxes": BOX, "size": 48} | changed
    with pytest.raises(InputError, match=said):
        launch(Layout(64, 64, "nv12"), **arguments)


def test_a_crop_too_large_for_any_tile() -> None:
    with pytest.raises(InputError, match=r"use preprocess\.faces"):
        launch(Layout(8000, 8000, "rgb8"), [(0.0, 0.0, 8000.0, 8000.0)], 1, **GOOD)
