"""TensorRT's runtime: loads a plan, says why it cannot, and reports what is in it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from functools import cache
from types import ModuleType
from typing import Any

from convcut_trt.backends.trt_flavours import Feature, Flavour
from convcut_trt.errors import CudaError, EngineMismatch
from convcut_trt.gpu.driver import Cuda

_log = logging.getLogger(__name__)


def deserialise(flavour: Flavour, name: str, plan: bytes, device: str) -> tuple[Any, Any]:
    """Loads a plan, which is native code: its hash has to be checked by now. The GPU's context has to be current.

    ``engine_host_code_allowed`` stays false, so no plan of ours runs code on the host.

    Args:
        flavour: Which TensorRT.
        name: Of the file, for messages.
        plan: Its content.
        device: Name of the GPU, for messages.

    Returns:
        The runtime, which the engine needs, and the engine.

    Raises:
        EngineMismatch: TensorRT refuses it here; ``log`` holds what it said.
        CudaError: TensorRT does not start here.
    """
    trt = flavour.load()
    logger = _logger(trt)
    _ERRORS.take()
    title = f"{flavour.title} {trt.__version__}"
    try:
        runtime = trt.Runtime(logger)
    except TypeError:  # what pybind makes of a runtime that cannot start
        raise refusal(flavour, "start on this GPU") from None
    engine, reason = None, ""
    if flavour.has(Feature.ENGINE_VALIDITY, trt):
        validity, diagnostics = runtime.get_engine_validity(plan)
        if validity == trt.EngineValidity.INVALID:
            reason = f"it finds it invalid, diagnostics {diagnostics}"
    if not reason:
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        said = _ERRORS.take()
        raise EngineMismatch(
            f"{title} cannot load {name} on {device} "
            f"({'; '.join((reason, *said)).strip('; ') or 'it does not say why'}): build it again here with "
            "convcut-trt build",
            log="\n".join(said),
        )
    return runtime, engine


def refusal(flavour: Flavour, what: str) -> CudaError:
    """The error for a call that TensorRT refused, with what it said about it."""
    said = "; ".join(_ERRORS.take()) or "it does not say why"
    return CudaError(
        f"{flavour.title} could not {what}: {said}; convcut-trt doctor shows what this machine has",
        "TENSORRT",
        False,
    )


def inspector_report(flavour: Flavour, name: str, plan: bytes) -> str:
    """What TensorRT's inspector says of an engine, JSON; loads it, see ``deserialise``."""
    trt = flavour.load()
    with Cuda() as cuda:
        runtime, engine = deserialise(flavour, name, plan, cuda.name)
        inspector = engine.create_engine_inspector()
        said: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        del inspector, engine, runtime  # in this order
    return said


class _Errors:
    """The last errors that TensorRT told, until somebody takes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[str] = deque(maxlen=3)

    def add(self, message: str) -> None:
        with self._lock:
            self._last.append(message.strip())

    def take(self) -> list[str]:
        with self._lock:
            errors = list(self._last)
            self._last.clear()
        return errors


_ERRORS = _Errors()


@cache
def _logger(trt: ModuleType) -> Any:
    """One for the whole process: TensorRT goes on using the first that it is given."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Passes on to Python's logging and keeps the errors. May not raise: native code calls it."""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                _ERRORS.add(message)
                _log.error("%s", message)
            elif severity == trt.ILogger.WARNING:
                _log.warning("%s", message)

    return Logger()
