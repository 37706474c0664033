"""GPUArrays into an engine and out of it, in an application that uses pycuda already.

    pycuda.driver.init()
    context = pycuda.driver.Device(0).retain_primary_context()
    context.push()  # in every thread that uses the GPU
    ...
    with cc.load("engines") as engine:
        answers = PycudaEngine(engine).infer(faces, stream=stream)
    ...
    context.pop()

An engine lives in the primary context of the GPU, as do torch, cupy and the CUDA runtime. ``make_context()`` and
``pycuda.autoinit`` make another one, whose memory the engine cannot see: that is refused, and never made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convcut_trt.backends.arrays import check_images
from convcut_trt.engine import Engine
from convcut_trt.errors import CudaError, InputError
from convcut_trt.gpu.driver import Cuda
from convcut_trt.optional import load
from convcut_trt.spec import OUTPUTS


class PycudaEngine:
    """An engine for GPUArrays. It leaves pycuda's stack of contexts alone.

    pycuda cannot free an array in another thread than the one that made it, so give each thread one of its own, on
    ``engine.clone()``.
    """

    def __init__(self, engine: Engine) -> None:
        """Takes an open engine, which stays the caller's to close.

        Raises:
            BackendMissing: pycuda or cuda-bindings is not installed, or there is no driver.
        """
        self._driver = load("pycuda.driver", "pycuda")
        self._gpuarray = load("pycuda.gpuarray", "pycuda")
        self._engine = engine
        self._cuda = Cuda()
        spec = engine.spec
        answers = (len(spec.classes),)
        self._picture = (spec.size, spec.size, 3)
        self._shapes = dict(zip(OUTPUTS, (answers, answers, spec.map_shape), strict=True))

    def infer(
        self, faces: Any, out: Mapping[str, Any] | None = None, *, stream: Any = None
    ) -> dict[str, Any]:
        """Answers for faces that are cropped and resized already. The host does not wait.

        Args:
            faces: GPUArray uint8 RGB [N, size, size, 3], any N, C-contiguous.
            out: GPUArrays to write into, by output name; outputs without one get a new array.
            stream: ``pycuda.driver.Stream`` on which these arrays are used; None for the default one.

        Returns:
            ``logits`` [N, K], ``probabilities`` [N, K] and ``map`` [N, C, P, P]: GPUArrays, float32, the caller's
            own. Work that the caller puts on ``stream`` finds them filled.

        Raises:
            InputError: No pycuda context is current, or not the primary one; an array is of another context, GPU,
                library, dtype or shape, or not contiguous; the engine computes on the CPU, or is closed.
            CudaError: The GPU failed. Where ``fatal``, every later call says so too.
        """
        if stream is not None and not isinstance(stream, self._driver.Stream):
            raise InputError(
                f"stream is a {type(stream).__name__}: give a pycuda.driver.Stream, or None"
            )
        self._check_context()
        self._check_array("faces", faces)
        check_images(faces.dtype, faces.shape, self._picture)
        results = dict(out or {})
        for name, array in results.items():
            self._check_array(f"out[{name!r}]", array)
        with self._cuda:
            for name, shape in self._shapes.items():
                if name not in results:
                    results[name] = self._gpuarray.empty((len(faces), *shape), np.float32)
        handle = None if stream is None else stream.handle
        return self._engine.infer(faces, results, stream=handle)

    def _check_context(self) -> None:
        primary = f"pycuda.driver.Device({self._cuda.ordinal}).retain_primary_context()"
        current = self._driver.Context.get_current()
        if current is None:
            raise InputError(
                f"no pycuda context is current to this thread: call {primary}.push() in it"
            )
        if current.handle != self._cuda.context:
            raise InputError(
                f"the current pycuda context is not the primary one of GPU {self._cuda.ordinal}, in which engines "
                f"live: take {primary} instead of make_context() or pycuda.autoinit"
            )

    def _check_array(self, what: str, array: Any) -> None:
        if not isinstance(array, self._gpuarray.GPUArray):
            raise InputError(
                f"{what} is a {type(array).__name__}, not a pycuda.gpuarray.GPUArray: engine.infer() takes "
                "arrays of numpy and of other libraries"
            )
        if not array.size:
            return  # it has no memory
        kinds = self._cuda.api.CUpointer_attribute
        ordinal = self._of_memory(what, array, kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
        if ordinal != self._cuda.ordinal:
            raise InputError(
                f"{what} is on GPU {ordinal}, the engine on GPU {self._cuda.ordinal}: copy it there"
            )
        context = self._of_memory(what, array, kinds.CU_POINTER_ATTRIBUTE_CONTEXT)
        if context not in (0, self._cuda.context):  # 0: from a pool, which belongs to no context
            raise InputError(
                f"{what} was made in a context of pycuda's own, which the engine cannot see: take "
                f"pycuda.driver.Device({ordinal}).retain_primary_context() instead of make_context() or "
                "pycuda.autoinit"
            )

    def _of_memory(self, what: str, array: Any, attribute: Any) -> int:
        address = array.__cuda_array_interface__["data"][0]
        try:
            answer = self._cuda.api.cuPointerGetAttribute(attribute, address)
            return int(self._cuda.check(answer, "cuPointerGetAttribute"))
        except CudaError as error:
            if error.name != "CUDA_ERROR_INVALID_VALUE":
                raise
            raise InputError(f"{what} does not point to memory of a GPU: was it freed?") from error
