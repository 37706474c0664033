"""The builder's timings, kept from one build to the next: the second takes the same kernels, sooner.

Full TensorRT only. It checks a cache itself, exact version and device, and with ``ignore_mismatch``
off refuses one of another; but a cache that slips through can end a build
(https://github.com/NVIDIA/TensorRT/issues/2144). So each version and GPU has a file of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from convcut_trt.backends.probe import Gpu, gpu
from convcut_trt.backends.trt_flavours import Feature, Flavour
from convcut_trt.errors import InputError
from convcut_trt.gpu.cache import Cache, key_of


class TimingCache:
    """The cache of one builder version and GPU.

    Args:
        flavour: The builder.
        trt: Its module.
        folder: Absolute path of where caches lie; made, private to the user, where it is not there.

    Raises:
        InputError: This flavour has no timing cache, or there is no GPU.
    """

    def __init__(self, flavour: Flavour, trt: ModuleType, folder: Path) -> None:
        if not flavour.has(Feature.TIMING_CACHE, trt):
            raise InputError(
                f"{flavour.title} times nothing while it builds: leave --timing-cache out"
            )
        found = gpu()
        if not isinstance(found, Gpu):
            raise InputError(f"a timing cache belongs to a GPU, and there is {found}")
        capability = "{}.{}".format(*found.compute_capability)
        self._key = key_of(flavour.name, trt.__version__, found.name, capability)
        self._cache = Cache(str(folder))

    def attach(self, config: Any) -> None:
        """Gives the builder what is kept, or an empty cache where it takes that for another's."""
        known = self._cache.get(self._key) or b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):
            print("timing cache: not this builder's, it is made anew", file=sys.stderr)
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def keep(self, config: Any) -> None:
        """Keeps what the builder knows now, whole or not at all."""
        cache = config.get_timing_cache()
        if cache is not None:
            self._cache.put(self._key, bytes(memoryview(cache.serialize())))
