"""``--tail``: whether the tail is part of the engine or the kernel of this package, and which is faster here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convcut_trt import seam
from convcut_trt.auto import fastest, time_engines, verdict
from convcut_trt.backends.base import Backend
from convcut_trt.candidate import Candidate, Workshop, make
from convcut_trt.errors import BackendMissing, BuildError, InputError
from convcut_trt.gpu import kernels
from convcut_trt.kernels.tail import Tail

if TYPE_CHECKING:
    import onnx

TAILS = ("native", "kernel", "auto")
_NATIVE, _KERNEL = "native tail", "kernel tail"


def check_kernel(backend: Backend, original: onnx.ModelProto, *, runs_here: bool) -> None:
    """Makes sure that the kernel can be what follows the engines of a model.

    Args:
        backend: Who builds them.
        original: ``NAME.onnx``.
        runs_here: Whether they are for this machine.

    Raises:
        InputError: The engine computes on a CPU, or the kernel does not know the model's tail.
        BackendMissing: The engine is for this machine, which cannot have the kernel.
    """
    if backend.on_cpu:
        raise InputError(
            f"the tail kernel runs on a GPU, {backend.flavour} on a CPU: leave out --tail kernel"
        )
    Tail.from_onnx(seam.split(original)[1])
    reason = kernels.missing() if runs_here else None
    if reason is not None:
        raise BackendMissing(f"the tail kernel cannot be had here: {reason}")


def faster_tail(workshop: Workshop, native: Candidate) -> tuple[Candidate, str]:
    """Builds the same engine with the kernel behind it, and keeps it only where it measures faster.

    Returns:
        The one that is kept, and a line that says why.
    """
    try:
        check_kernel(workshop.backend, workshop.case.original, runs_here=workshop.runs_here)
    except (InputError, BackendMissing) as error:
        return native, f"{_NATIVE}: kept, {error}"
    if not workshop.runs_here:
        return native, f"{_NATIVE}: kept, the kernel was not measured: no such device"
    try:
        kernel = make(replace(workshop, tail="kernel"), native.form)
    except BuildError as error:
        return native, f"{_NATIVE}: kept, the kernel's engine was not built: {error}"
    if kernel.failed:
        names = ", ".join(gate.name for gate in kernel.failed)
        return native, f"{_NATIVE}: kept, the kernel failed at {names}"
    timings = time_engines(workshop, {_NATIVE: native, _KERNEL: kernel})
    kept = fastest(timings, (_NATIVE, _KERNEL))
    chosen = kernel if kept == _KERNEL else native
    return chosen, f"{kept}: kept; {_KERNEL} {verdict(_KERNEL, timings, (_NATIVE,))}"
