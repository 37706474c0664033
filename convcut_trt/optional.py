"""Imports of what an extra brings: a missing package is named, a broken one is never hidden."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from convcut_trt.errors import BackendMissing

_REPORTERS = {"openvino": "openvino_telemetry"}
"""Package -> what it tells its maker over the network with, at every import, and keeps a count of that at home."""
_OPT_OUTS = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Package -> the variable that keeps it from the same. onnxruntime looks at it once, while it is imported; its
``disable_telemetry_events`` comes too late for the first report (Privacy.md in its package, 1.29 and later)."""


def load(name: str, extra: str) -> ModuleType:
    """Imports the package ``name``, which the extra ``extra`` brings.

    Raises:
        BackendMissing: It is not installed, or its shared libraries do not load.
        ModuleNotFoundError: It is installed but lacks a package of its own: not ours to explain.
    """
    try:
        with unreported(name):
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


@contextmanager
def unreported(name: str) -> Iterator[None]:
    """Lets ``name`` be imported without its reports; nothing changes for whoever has imported it already.

    A variable that the user has set is obeyed as it is. Afterwards modules and variables are as they were.
    """
    reporter, variable = _REPORTERS.get(name), _OPT_OUTS.get(name)
    hidden = reporter is not None and reporter not in sys.modules
    opted = variable is not None and variable not in os.environ
    if hidden and reporter is not None:
        # importing it fails, which ``name`` is ready for
        sys.modules[reporter] = None  # type: ignore[assignment]
    if opted and variable is not None:
        os.environ[variable] = "1"
    try:
        yield
    finally:
        if hidden and reporter is not None:
            sys.modules.pop(reporter, None)
        if opted and variable is not None:
            os.environ.pop(variable, None)


def how_to_install(extra: str) -> str:
    """The line that installs an extra."""
    # TensorRT comes with JetPack or with NVIDIA's own packages; the extra brings only the rest.
    taken = " and take tensorrt from JetPack or NVIDIA's packages" if extra == "jetson" else ""
    return f"pip install 'convcut-trt[{extra}]'{taken}"
