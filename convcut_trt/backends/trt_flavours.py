"""What differs between TensorRT and TensorRT-RTX, and between their versions. All else is one code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from types import ModuleType

from convcut_trt.errors import BackendMissing
from convcut_trt.optional import how_to_install, load


class Feature(Enum):
    """What not every flavour or version has. Its row: first version of TensorRT, of RTX, names.

    The first version is the first of those whose API is checked (10.3, 10.7, 10.13, 10.16, 11.4;
    RTX 1.7) that has the names; None: not offered at all. A name is ``Class.member``, or
    ``Class.method(keyword)``. A function or class that uses one asks ``Flavour.has`` for it, or for
    what is nowhere without it.
    """

    # RTX has the names too, but times nothing: a cache does nothing there and asks for a GPU.
    TIMING_CACHE = (
        (10, 3),
        None,
        (
            "IBuilderConfig.create_timing_cache",
            "IBuilderConfig.set_timing_cache",
            "IBuilderConfig.get_timing_cache",
            "ITimingCache",
        ),
    )
    COMPUTE_CAPABILITY = (
        None,
        (1, 7),
        (
            "ComputeCapability",
            "IBuilderConfig.num_compute_capabilities",
            "IBuilderConfig.set_compute_capability",
        ),
    )
    USER_ALLOCATION = (None, (1, 7), ("BuilderFlag.REQUIRE_USER_ALLOCATION",))
    RUNTIME_CONFIG = (
        (10, 13),
        (1, 7),
        (
            "IRuntimeConfig",
            "ICudaEngine.create_runtime_config",
            "ICudaEngine.create_execution_context(runtime_config)",
        ),
    )
    RUNTIME_CACHE = (
        None,
        (1, 7),
        (
            "IRuntimeCache",
            "IRuntimeConfig.create_runtime_cache",
            "IRuntimeConfig.get_runtime_cache",
            "IRuntimeConfig.set_runtime_cache",
        ),
    )
    CUDA_GRAPH_STRATEGY = (
        None,
        (1, 7),
        ("CudaGraphStrategy", "IRuntimeConfig.cuda_graph_strategy"),
    )
    KERNEL_SPECIALIZATION = (
        None,
        (1, 7),
        (
            "DynamicShapesKernelSpecializationStrategy",
            "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
        ),
    )
    STREAM_CAPTURABLE = (None, (1, 7), ("IExecutionContext.is_stream_capturable",))
    ENGINE_VALIDITY = (
        None,
        (1, 7),
        (
            "EngineValidity",
            "EngineInvalidityDiagnostics",
            "Runtime.engine_header_size",
            "Runtime.get_engine_validity",
        ),
    )

    def __init__(
        self,
        tensorrt: tuple[int, int] | None,
        rtx: tuple[int, int] | None,
        names: tuple[str, ...],
    ) -> None:
        self.first = {"tensorrt": tensorrt, "tensorrt-rtx": rtx}
        self.names = names


@dataclass(frozen=True)
class Flavour:
    """One of the two.

    Attributes:
        name: What ``--backend`` takes.
        title: What a person calls it.
        module: The Python package.
        extra: The extra that brings it, or what it needs.
        oldest: Oldest (major, minor) whose API has all that is used here, but for ``Feature``.
    """

    name: str
    title: str
    module: str
    extra: str
    oldest: tuple[int, int]

    @property
    def ahead_of_time(self) -> bool:
        """Builds for a GPU that is not here."""
        return Feature.COMPUTE_CAPABILITY.first[self.name] is not None

    def has(self, feature: Feature, trt: ModuleType) -> bool:
        """Whether the version of this flavour that is ``trt`` has a feature."""
        first = feature.first[self.name]
        return first is not None and _major_minor(trt) >= first

    def load(self) -> ModuleType:
        """Imports the package.

        Raises:
            BackendMissing: Not installed, broken, or too old.
        """
        module = load(self.module, self.extra)
        if _major_minor(module) < self.oldest:
            oldest = ".".join(map(str, self.oldest))
            raise BackendMissing(
                f"{self.title} {module.__version__} is too old, {oldest} is the first that works: "
                + how_to_install(self.extra)
            )
        return module


def _major_minor(module: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(module.__version__))[:2])


# 10.3 is JetPack 6.1; 8.x lacks strongly typed parsing as used here. RTX 1.7 is what was measured.
TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt", "jetson", (10, 3))
RTX = Flavour("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", "rtx", (1, 7))
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, RTX)}
