"""Memory of the fake GPU: host memory between guards, poisoned before its first use and after its last.

An address of the fake is one of this process, so that numpy and the kernels compiled for the host can use it.
The poison is 0xFF: NaN in every float format.
"""

from __future__ import annotations

import bisect
import ctypes
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.fake_calls import CUresult, Refused
from tests.gpu.fake_context import Context

POISON = 0xFF
_GUARD = 0xA5
_ROOM = 256  # bytes of guard on either side, and the alignment of an address
_KEPT = 256  # freed blocks whose addresses are not given out again, and whose poison is watched

Bytes = NDArray[np.uint8]


@dataclass(eq=False)
class Block:
    """An allocation; ``kind`` is ``device`` or ``pinned``."""

    address: int
    size: int
    kind: str
    context: Context
    memory: ctypes.Array[ctypes.c_uint8] = field(repr=False)

    def bytes(self, address: int, size: int) -> Bytes:
        """A view of some of it."""
        start = address - self._base
        return np.ctypeslib.as_array(self.memory)[start : start + size]

    @property
    def _base(self) -> int:
        return ctypes.addressof(self.memory)

    def guarded(self) -> bool:
        """Whether nobody wrote around it."""
        start = self.address - self._base
        whole = np.ctypeslib.as_array(self.memory)
        around = (whole[:start], whole[start + self.size :])
        return all((part == _GUARD).all() for part in around)


def host_bytes(address: int, size: int) -> Bytes:
    """Host memory that this heap knows nothing of."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class Heap:
    """All memory of the fake GPU, pinned host memory included.

    Attributes:
        live: By address.
        allocated: How many blocks there ever were, of each kind.
        reclaimed: Blocks that ended with their context, not by being freed.
    """

    def __init__(self, size: int, violation: Callable[[str], None]) -> None:
        self.size = size
        self.live: dict[int, Block] = {}
        self.allocated = {"device": 0, "pinned": 0}
        self.reclaimed: list[Block] = []
        self._violation = violation
        self._addresses: list[int] = []
        self._freed: deque[Block] = deque(maxlen=_KEPT)

    @property
    def used(self) -> int:
        """Bytes of device memory in use."""
        return sum(block.size for block in self.live.values() if block.kind == "device")

    def allocate(self, size: int, kind: str, context: Context) -> Block:
        """A poisoned block, aligned to 256 bytes."""
        if size <= 0:
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        if kind == "device" and self.used + size > self.size:
            raise Refused(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        memory = (ctypes.c_uint8 * (size + 3 * _ROOM))()
        np.ctypeslib.as_array(memory)[:] = _GUARD
        address = -(-(ctypes.addressof(memory) + _ROOM) // _ROOM) * _ROOM
        block = Block(address, size, kind, context, memory)
        block.bytes(address, size)[:] = POISON
        self.live[address] = block
        bisect.insort(self._addresses, address)
        self.allocated[kind] += 1
        return block

    def free(self, address: int, kind: str) -> None:
        """Poisons a block and never gives it out again, for a while."""
        block = self.live.get(address)
        if block is None or block.kind != kind:
            self._violation(
                f"{kind} memory at {address:#x} was freed that is {self._what(address)}"
            )
            raise Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        self._check_guards(block)
        block.bytes(address, block.size)[:] = POISON
        del self.live[address]
        self._addresses.remove(address)
        self._freed.append(block)

    def reclaim(self, context: Context) -> None:
        """Frees what is left in a context that ends."""
        for block in [block for block in self.live.values() if block.context is context]:
            self.reclaimed.append(block)
            self.free(block.address, block.kind)

    def find(self, address: int) -> Block | None:
        """The live block that an address lies in."""
        if address in self.live:
            return self.live[address]
        place = bisect.bisect_right(self._addresses, address)
        if place:
            block = self.live[self._addresses[place - 1]]
            if address < block.address + block.size:
                return block
        return None

    def view(self, address: int, size: int, what: str, code: Any) -> Bytes:
        """Memory that the GPU is to read or write; a violation and Refused where it is not in one live block.

        Args:
            address: The first byte.
            size: Bytes.
            what: Who wants it, for the violation.
            code: With which the call is refused.
        """
        block = self.find(address)
        if block is None or address + size > block.address + block.size:
            problem = self._what(address) if block is None else f"only {block.size} bytes long"
            self._violation(f"{what}: {size} bytes at {address:#x}, which is {problem}")
            raise Refused(code)
        return block.bytes(address, size)

    def check(self) -> None:
        """Records a violation for every block that somebody wrote beside, or into after it was freed."""
        for block in self.live.values():
            self._check_guards(block)
        for block in self._freed:
            self._check_guards(block)
            if not (block.bytes(block.address, block.size) == POISON).all():
                self._violation(
                    f"somebody wrote into {block.size} bytes of {block.kind} memory after they were freed"
                )

    def _check_guards(self, block: Block) -> None:
        if not block.guarded():
            self._violation(f"somebody wrote beside {block.size} bytes of {block.kind} memory")

    def was_freed(self, address: int) -> Block | None:
        """The block no longer alive that an address lies in."""
        for block in self._freed:
            if block.address <= address < block.address + block.size:
                return block
        return None

    def _what(self, address: int) -> str:
        block = self.find(address)
        if block is not None:
            return f"inside {block.size} bytes of {block.kind} memory"
        if (old := self.was_freed(address)) is not None:
            return f"inside {old.size} bytes of {old.kind} memory already freed"
        return "no memory of the GPU's"
