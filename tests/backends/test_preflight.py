"""A build on a device whose GPU shares its memory with all programs: refused where it would not fit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from convcut_trt.backends import preflight, trt_build
from convcut_trt.backends.base import no_progress
from convcut_trt.backends.preflight import Memory, free_memory
from convcut_trt.backends.probe import Gpu
from convcut_trt.backends.trt_flavours import Flavour
from convcut_trt.errors import InputError

MEMINFO = "MemTotal: 7802436 kB\nMemFree: 181248 kB\nMemAvailable: 4194304 kB\nSwapFree: 9 kB\n"
SWAPS = "Filename Type Size Used Priority\n"
ZRAM = "/dev/zram0 partition 650196 0 5\n"
DISK = "/swapfile file 8388604 1048572 -2\n"


def proc(folder: Path, meminfo: str = MEMINFO, swaps: str = SWAPS) -> Path:
    (folder / "meminfo").write_text(meminfo)
    (folder / "swaps").write_text(swaps)
    return folder


def onnx(folder: Path, mib: int) -> Path:
    path = folder / "model.onnx"
    with path.open("wb") as file:
        file.truncate(mib << 20)  # a hole: no disk is used
    return path


@pytest.mark.parametrize(
    ("swaps", "swap"),
    [(SWAPS, 0), (SWAPS + ZRAM, 0), (SWAPS + DISK, 7168), (SWAPS + ZRAM + DISK, 7168)],
)
def test_what_is_free_is_read_as_linux_tells_it(tmp_path: Path, swaps: str, swap: int) -> None:
    assert free_memory(proc(tmp_path, swaps=swaps)) == Memory(4096, swap)


@pytest.mark.parametrize(
    "meminfo", ["", "MemFree: 181248 kB\n", "MemAvailable: much kB\n", "MemAvailable:\n"]
)
def test_where_it_is_not_told_nothing_is_refused(tmp_path: Path, meminfo: str) -> None:
    assert free_memory(proc(tmp_path, meminfo)) is None
    assert free_memory(tmp_path / "none") is None
    preflight.check(onnx(tmp_path, 4), 512, None)


@pytest.mark.parametrize(
    ("weights", "workspace", "memory"),
    [
        (4, 512, Memory(2100, 0)),
        (197, 512, Memory(3300, 0)),
        (197, 512, Memory(1000, 2300)),  # the host's part may go to swap
        (4, 64, Memory(1700, 0)),
    ],
)
def test_a_build_that_fits(tmp_path: Path, weights: int, workspace: int, memory: Memory) -> None:
    preflight.check(onnx(tmp_path, weights), workspace, memory)


@pytest.mark.parametrize(
    ("weights", "workspace", "memory", "said"),
    [
        (4, 512, Memory(2000, 0), "needs about 2072 MiB .*2000 MiB are free.*--workspace 256"),
        (197, 512, Memory(3200, 0), "close other programs.*or add swap"),
        (197, 2048, Memory(2000, 99999), "or add swap .for all but 2442 MiB"),  # the GPU's may not
    ],
)
def test_a_build_that_does_not_fit_says_what_to_do(
    tmp_path: Path, weights: int, workspace: int, memory: Memory, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        preflight.check(onnx(tmp_path, weights), workspace, memory)


def test_the_smallest_workspace_is_not_made_smaller(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        preflight.check(onnx(tmp_path, 4), 64, Memory(900, 0))
    assert "--workspace" not in str(caught.value)


class Stopped(Exception):
    """Ends a build; carries what it was about to do."""


@pytest.mark.parametrize("given", [None, 96])
@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("capabilities", [(), ((8, 9),)])
def test_only_a_build_for_a_gpu_that_shares_its_memory_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: tuple[tuple[int, int], ...],
    integrated: bool,
    given: int | None,
) -> None:
    def check(path: Path, workspace_mib: int, memory: Memory | None) -> None:
        raise Stopped(path.name, workspace_mib, memory)

    def logger(trt: object, problems: list[str]) -> None:
        raise Stopped("building")

    found = Gpu("Orin", (8, 7), "12.6", integrated=integrated)
    monkeypatch.setattr(Flavour, "load", lambda self: ModuleType("tensorrt"))
    monkeypatch.setattr(trt_build, "gpu", lambda: found)
    monkeypatch.setattr(trt_build, "_logger", logger)
    monkeypatch.setattr(preflight, "check", check)
    monkeypatch.setattr(preflight, "free_memory", lambda: Memory(1, 2))
    request = trt_build.Request(
        "tensorrt-rtx", str(tmp_path / "model.onnx"), (1, 1, 1), capabilities, given
    )
    with pytest.raises(Stopped) as caught:
        trt_build.build(request, no_progress)
    if integrated and not capabilities:
        assert caught.value.args == (
            "model.onnx",
            given or preflight.WORKSPACE_MIB,
            Memory(1, 2),
        )
    else:
        assert caught.value.args == ("building",)
