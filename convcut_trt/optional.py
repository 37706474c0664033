"""Imports of what an extra brings: a missing package is named, a broken one is never hidden."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from convcut_trt.errors import BackendMissing


def load(name: str, extra: str) -> ModuleType:
    """Imports the package ``name``, which the extra ``extra`` brings.

    Raises:
        BackendMissing: It is not installed, or its shared libraries do not load.
        ModuleNotFoundError: It is installed but lacks a package of its own: not ours to explain.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BackendMissing(f"{name} is not installed: {how_to_install(extra)}") from error
    except (ImportError, OSError) as error:
        raise BackendMissing(
            f"{name} is installed but does not load ({error}): reinstall it, "
            f"{how_to_install(extra)}"
        ) from error


def how_to_install(extra: str) -> str:
    """The line that installs an extra."""
    # TensorRT comes with JetPack or with NVIDIA's own packages; the extra brings only the rest.
    taken = " and take tensorrt from JetPack or NVIDIA's packages" if extra == "jetson" else ""
    return f"pip install 'convcut-trt[{extra}]'{taken}"
