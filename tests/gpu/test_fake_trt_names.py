"""The fake TensorRT has the names of the version it stands for, and those of the real one."""

from __future__ import annotations

import enum
import inspect
import re
from typing import Any

import pytest

from tests.gpu.fake_cuda import with_context
from tests.gpu.fake_trt import FakeTensorRT
from tests.gpu.machine import VERSIONS

ABSENT = {
    ("10.3.0", False): (
        "IRuntimeConfig",
        "ICudaEngine.create_runtime_config",
        "IRuntimeCache",
        "CudaGraphStrategy",
        "Runtime.get_engine_validity",
        "IExecutionContext.is_stream_capturable",
    ),
    ("10.13.3", False): ("IRuntimeCache", "IRuntimeConfig.create_runtime_cache", "EngineValidity"),
    ("11.4.0", False): ("CudaGraphStrategy", "ICudaEngine.device_memory_size"),
    ("1.7.1.116", True): (),
}


def has(module: Any, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


@pytest.mark.parametrize(("version", "rtx"), VERSIONS)
def test_a_version_has_its_names_alone(version: str, rtx: bool) -> None:
    trt = FakeTensorRT(with_context(), version, rtx=rtx)
    assert not [path for path in ABSENT[version, rtx] if has(trt, path)]
    newer = rtx or tuple(int(part) for part in version.split(".")[:2]) >= (10, 13)
    assert has(trt, "ICudaEngine.create_runtime_config") == has(trt, "IRuntimeConfig") == newer


def test_every_name_is_one_of_the_real_module() -> None:
    real = pytest.importorskip("tensorrt_rtx")
    fake = FakeTensorRT(with_context(), "1.7.1.116", rtx=True)
    of_the_fake = {"trt", "kind", "logger", "cuda", "born", "error", "gone", "compiled"}
    of_the_fake |= {"header", "plan", "tensors", "own_graphs", "strategy", "shapes"}
    for name, found in vars(FakeTensorRT).items() | vars(fake).items():
        if name.startswith("_") or not isinstance(found, type):
            continue
        theirs = getattr(real, name)
        if issubclass(found, enum.Enum):
            assert {m.name: m.value for m in found} == {
                m: int(theirs.__members__[m]) for m in found.__members__
            }
            continue
        for member in set(dir(found)) - of_the_fake:
            if member.startswith("_"):
                continue
            assert hasattr(theirs, member), f"{name}.{member}"
            ours, text = getattr(found, member), getattr(theirs, member).__doc__ or ""
            signatures = re.findall(rf"{member}\(self: [\w.]+(?:, (.*))?\) ->", text)
            if signatures and inspect.isfunction(ours) and member != "create_execution_context":
                wanted = [re.findall(r"(?:^|, )(\w+): ", arguments) for arguments in signatures]
                arguments = list(inspect.signature(ours).parameters)[1:]
                assert arguments in wanted, f"{name}.{member}"
