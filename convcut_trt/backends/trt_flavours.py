"""What differs between TensorRT and TensorRT-RTX. All else is one code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType

from convcut_trt.backends.optional import how_to_install, load
from convcut_trt.errors import BackendMissing


@dataclass(frozen=True)
class Flavour:
    """One row of the table.

    Attributes:
        name: What ``--backend`` takes.
        title: What a person calls it.
        module: The Python package.
        extra: The extra that brings it, or what it needs.
        oldest: Oldest (major, minor) whose API has all that is used here.
        ahead_of_time: Builds for a GPU that is not here.
    """

    name: str
    title: str
    module: str
    extra: str
    oldest: tuple[int, int]
    ahead_of_time: bool

    def load(self) -> ModuleType:
        """Imports the package.

        Raises:
            BackendMissing: Not installed, broken, or too old.
        """
        module = load(self.module, self.extra)
        found = tuple(int(part) for part in re.findall(r"\d+", str(module.__version__))[:2])
        if found < self.oldest:
            oldest = ".".join(map(str, self.oldest))
            raise BackendMissing(
                f"{self.title} {module.__version__} is too old, {oldest} is the first that works: "
                + how_to_install(self.extra)
            )
        return module


# 10.3 is JetPack 6.1; 8.x lacks strongly typed parsing as used here. RTX 1.7 is what was measured.
TENSORRT = Flavour("tensorrt", "TensorRT", "tensorrt", "jetson", (10, 3), False)
RTX = Flavour("tensorrt-rtx", "TensorRT-RTX", "tensorrt_rtx", "rtx", (1, 7), True)
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, RTX)}
