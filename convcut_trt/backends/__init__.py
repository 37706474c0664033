"""Backends by name. Importing this imports no inference library; using one does."""

from __future__ import annotations

import difflib

from convcut_trt.backends.base import Backend
from convcut_trt.backends.onnxruntime import OnnxRuntime
from convcut_trt.backends.openvino import OpenVino
from convcut_trt.backends.tensorrt import TensorRT
from convcut_trt.backends.trt_flavours import RTX, TENSORRT
from convcut_trt.errors import BackendMissing, InputError

_BACKENDS: tuple[Backend, ...] = (
    TensorRT(TENSORRT),
    TensorRT(RTX),
    OnnxRuntime(),
    OpenVino(),
)

NAMES = tuple(backend.flavour for backend in _BACKENDS)
"""What ``--backend`` takes, in the order in which ``auto`` tries them."""


def get(name: str) -> Backend:
    """The backend called ``name``, installed or not.

    Raises:
        InputError: There is none; the text says which there are.
    """
    for backend in _BACKENDS:
        if backend.flavour == name:
            return backend
    close = difflib.get_close_matches(name, NAMES, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise InputError(f"no backend named {name!r}.{meant} Known: {', '.join(NAMES)}")


def for_running() -> Backend:
    """What ``auto`` means: the first backend that can run an engine on this machine.

    Raises:
        BackendMissing: None can; the text says why of each.
    """
    reasons = []
    for backend in _BACKENDS:
        reason = backend.can_run()
        if reason is None:
            return backend
        reasons.append(f"{backend.flavour}: {reason}")
    raise BackendMissing("no backend can run here.\n" + "\n".join(reasons))
