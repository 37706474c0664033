"""The fake driver's memory and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from cuda.bindings import driver

from tests.gpu.fake_calls import CUresult, Refused, driver_call
from tests.gpu.fake_context import Context, Device, number
from tests.gpu.fake_heap import Bytes, Heap, host_bytes
from tests.gpu.fake_queue import Stream
from tests.gpu.fake_stream import LEGACY, Streams

_INVALID = CUresult.CUDA_ERROR_INVALID_VALUE
_ILLEGAL = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
_HOST_FLAGS = 0x07  # portable, device map, write-combined


def host_address(pointer: Any) -> int:
    """A host pointer as the bindings take it: an address, or anything with the buffer protocol."""
    if pointer is None or isinstance(pointer, (int, driver.CUdeviceptr)):
        return number(pointer)
    return int(np.frombuffer(pointer, np.uint8).ctypes.data)


class Memory(Streams):
    """Device memory, pinned memory, copies between them. ``heap`` holds it all."""

    def __init__(self, device: Device, *, eager: bool, null: bool) -> None:
        super().__init__(device, eager=eager, null=null)
        self.heap = Heap(device.memory, self.violation)

    def on_gpu(self, address: int, size: int, what: str) -> Bytes:
        """Memory for work that runs; a bad address ends the context, as on a GPU."""
        return self.heap.view(address, size, what, _ILLEGAL)

    def destroyed(self, context: Context) -> None:
        """See Contexts."""
        super().destroyed(context)
        self.heap.reclaim(context)

    def _gpu_range(self, address: int, size: int, what: str) -> None:
        """Refuses a copy when it is asked for, not only when it runs."""
        block = self.heap.find(address)
        if block is not None and block.kind == "pinned":
            self.violation(f"{what}: pinned host memory given as device memory")
        self.heap.view(address, size, what, _INVALID)

    def _pinned(self, address: int, size: int, what: str) -> bool:
        """Whether a host pointer is pinned memory; refuses one to the device's."""
        if address == 0:
            raise Refused(_INVALID)
        block = self.heap.find(address)
        if block is None and self.heap.was_freed(address) is None:
            return False
        if block is not None and block.kind == "device":
            self.violation(f"{what}: device memory given as host memory")
            raise Refused(_INVALID)
        self.heap.view(address, size, what, _INVALID)
        return True

    def _no_pageable_capture(self, stream: Stream, what: str) -> None:
        if stream.capture is not None:
            self.violation(f"{what}: host memory that is not pinned, while the stream captures")
            self.spoil(stream.capture, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)

    def _copy_in(self, to: int, source: int, size: int, stream: Stream, what: str) -> None:
        if size == 0:
            return
        self._gpu_range(to, size, what)
        if self._pinned(source, size, what):

            def run() -> None:
                self.on_gpu(to, size, what)[:] = self.on_gpu(source, size, what)
        else:
            self._no_pageable_capture(stream, what)
            staged = host_bytes(source, size).copy()  # the real one stages pageable memory too

            def run() -> None:
                self.on_gpu(to, size, what)[:] = staged

        self.enqueue(stream, run)

    def _copy_out(self, to: int, source: int, size: int, stream: Stream, what: str) -> None:
        if size == 0:
            return
        self._gpu_range(source, size, what)
        pinned = self._pinned(to, size, what)
        if not pinned:
            self._no_pageable_capture(stream, what)

        def run() -> None:
            target = self.on_gpu(to, size, what) if pinned else host_bytes(to, size)
            target[:] = self.on_gpu(source, size, what)

        self.enqueue(stream, run)
        if not pinned:  # the real one comes back when the copy is done
            self.drain(stream)

    def _legacy(self) -> Stream:
        """For copies without a stream."""
        stream = self.stream(LEGACY)
        self.not_under_capture(stream)
        self.unsafe()
        return stream

    @driver_call(1)
    def cuMemAlloc(self, bytesize: int) -> Any:  # noqa: N802
        self.unsafe()
        return driver.CUdeviceptr(self.heap.allocate(bytesize, "device", self.current()).address)

    @driver_call(after=True)
    def cuMemFree(self, dptr: Any) -> None:  # noqa: N802
        self._free(number(dptr), "device")

    @driver_call(1)
    def cuMemHostAlloc(self, bytesize: int, Flags: int) -> int:  # noqa: N802
        self.unsafe()
        if int(Flags) & ~_HOST_FLAGS:
            raise Refused(_INVALID)
        return self.heap.allocate(bytesize, "pinned", self.current()).address

    @driver_call(1)
    def cuMemAllocHost(self, bytesize: int) -> int:  # noqa: N802
        self.unsafe()
        return self.heap.allocate(bytesize, "pinned", self.current()).address

    @driver_call(after=True)
    def cuMemFreeHost(self, p: Any) -> None:  # noqa: N802
        self._free(host_address(p), "pinned")

    def _free(self, address: int, kind: str) -> None:
        if self.dead is None:
            self.unsafe()
        self.heap.free(address, kind)

    @driver_call(2)
    def cuMemGetInfo(self) -> tuple[int, int]:  # noqa: N802
        return self.device.memory - self.heap.used, self.device.memory

    @driver_call(work=True)
    def cuMemcpyHtoD(self, dstDevice: Any, srcHost: Any, ByteCount: int) -> None:  # noqa: N802
        stream = self._legacy()
        self._copy_in(number(dstDevice), host_address(srcHost), ByteCount, stream, "cuMemcpyHtoD")
        self.drain(stream)

    @driver_call(work=True)
    def cuMemcpyDtoH(self, dstHost: Any, srcDevice: Any, ByteCount: int) -> None:  # noqa: N802
        stream = self._legacy()
        self._copy_out(host_address(dstHost), number(srcDevice), ByteCount, stream, "cuMemcpyDtoH")
        self.drain(stream)

    @driver_call(work=True)
    def cuMemcpyHtoDAsync(  # noqa: N802
        self, dstDevice: Any, srcHost: Any, ByteCount: int, hStream: Any
    ) -> None:
        stream, source = self.stream(hStream), host_address(srcHost)
        self._copy_in(number(dstDevice), source, ByteCount, stream, "cuMemcpyHtoDAsync")

    @driver_call(work=True)
    def cuMemcpyDtoHAsync(  # noqa: N802
        self, dstHost: Any, srcDevice: Any, ByteCount: int, hStream: Any
    ) -> None:
        stream, target = self.stream(hStream), host_address(dstHost)
        self._copy_out(target, number(srcDevice), ByteCount, stream, "cuMemcpyDtoHAsync")

    @driver_call(work=True)
    def cuMemcpyDtoDAsync(  # noqa: N802
        self, dstDevice: Any, srcDevice: Any, ByteCount: int, hStream: Any
    ) -> None:
        stream, what = self.stream(hStream), "cuMemcpyDtoDAsync"
        to, source, size = number(dstDevice), number(srcDevice), ByteCount
        if size == 0:
            return
        self._gpu_range(to, size, what)
        self._gpu_range(source, size, what)

        def run() -> None:
            self.on_gpu(to, size, what)[:] = self.on_gpu(source, size, what)

        self.enqueue(stream, run)

    @driver_call(work=True)
    def cuMemsetD8Async(self, dstDevice: Any, uc: int, N: int, hStream: Any) -> None:  # noqa: N802
        stream, to = self.stream(hStream), number(dstDevice)
        if N == 0:
            return
        self._gpu_range(to, N, "cuMemsetD8Async")

        def run() -> None:
            self.on_gpu(to, N, "cuMemsetD8Async")[:] = uc

        self.enqueue(stream, run)

    @driver_call(1, context=False)
    def cuPointerGetAttribute(self, attribute: Any, ptr: Any) -> Any:  # noqa: N802
        if not isinstance(attribute, driver.CUpointer_attribute):
            raise TypeError("attribute is to be a CUpointer_attribute")
        self.require_init()
        block = self.heap.find(number(ptr))
        if block is None:
            raise Refused(_INVALID)
        kinds = driver.CUmemorytype
        name = attribute.name.removeprefix("CU_POINTER_ATTRIBUTE_")
        if name == "CONTEXT":
            return driver.CUcontext(block.context.handle)
        if name == "MEMORY_TYPE":  # a plain number, as from the bindings
            pinned = block.kind == "pinned"
            return int(kinds.CU_MEMORYTYPE_HOST if pinned else kinds.CU_MEMORYTYPE_DEVICE)
        if name == "DEVICE_ORDINAL":
            return 0
        raise NotImplementedError(f"the fake does not know {attribute.name}")
