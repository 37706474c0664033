"""The tail kernel on a GPU: parameters in device memory, and launches from map to answers."""

from __future__ import annotations

import ctypes
from typing import Any

from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.kernels import Kernels, Launch
from convcut_trt.gpu.resources import Resources
from convcut_trt.kernels.tail import Layout, Tail, check_pointers


class _Shape(ctypes.Structure):
    """``TailShape`` of ``tail.cuh``."""

    _fields_ = tuple(
        (name, ctypes.c_int) for name in ("faces", "channels", "positions", "projection", "classes")
    )


class DeviceTail:
    """A tail on one GPU. Launches of it may be used by any thread."""

    def __init__(self, cuda: Cuda, tail: Tail, kernels: Kernels, resources: Resources) -> None:
        """Copies the parameters over. The context has to be current.

        Raises:
            CudaError: The driver refused.
        """
        self._cuda = cuda
        self._tail = tail
        self._kernels = kernels
        parameters = tail.pack()
        self._parameters = resources.device(parameters.nbytes)
        answer = cuda.api.cuMemcpyHtoD(self._parameters, parameters.ctypes.data, parameters.nbytes)
        cuda.check(answer, "cuMemcpyHtoD")

    def launch(
        self,
        faces: int,
        *,
        map_at: int,
        logits_at: int,
        probabilities_at: int,
        dtype: str = "float32",
        layout: Layout = "nchw",
    ) -> Launch:
        """Prepares a launch for a batch.

        Args:
            faces: N.
            map_at: Device address of [N, C, H, W] or [N, H, W, C], by ``layout``, in ``dtype``.
            logits_at: Device address of float32 [N, K].
            probabilities_at: Device address of float32 [N, K].
            dtype: ``float32`` or ``float16``.
            layout: ``nchw`` or ``nhwc``.

        Raises:
            InputError: A null or misaligned address, no faces, or no such kernel.
            BackendMissing, BuildError, CudaError: The kernel cannot be had; see ``Kernels.function``.
        """
        plan = self._tail.launch(faces, dtype, layout)
        check_pointers(
            dtype,
            map=map_at,
            parameters=self._parameters,
            logits=logits_at,
            probabilities=probabilities_at,
        )
        addresses = (map_at, self._parameters, logits_at, probabilities_at)
        arguments: list[Any] = [ctypes.c_void_p(address) for address in addresses]
        arguments.append(_Shape(*self._tail.shape(faces)))
        function = self._kernels.function("tail", plan.name, plan.defines)
        return Launch(
            self._cuda, function, (plan.blocks, 1, 1), plan.threads, plan.shared_bytes, arguments
        )
