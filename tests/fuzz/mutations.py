"""Good inputs made bad: bytes that are flipped, cut and spliced."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

_NUMBERS = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
]


@st.composite
def spoiled(draw: st.DrawFn, seeds: Sequence[bytes], least: int = 1) -> bytes:
    """One of the seeds after up to four edits.

    Args:
        draw: Hypothesis's.
        seeds: Good inputs.
        least: Edits at least; 0 gives good inputs, too.
    """
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(least, 4))):
        draw(st.sampled_from(_EDITS))(draw, content, seeds)
    return bytes(content)


def _where(draw: st.DrawFn, content: bytes | bytearray) -> int:
    return draw(st.integers(0, max(0, len(content) - 1)))


def _flip(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    if content:
        content[_where(draw, content)] ^= 1 << draw(st.integers(0, 7))


def _overwrite(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    new, start = draw(st.sampled_from(_NUMBERS)), _where(draw, content)
    content[start : start + len(new)] = new


def _insert(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    start = _where(draw, content)
    content[start:start] = draw(st.binary(max_size=16))


def _remove(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    start = _where(draw, content)
    del content[start : start + draw(st.integers(1, 64))]


def _truncate(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    del content[_where(draw, content) :]


def _repeat(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    start = _where(draw, content)
    part = content[start : start + draw(st.integers(1, 256))]
    content[start:start] = part * draw(st.sampled_from([1, 2, 100]))


def _splice(draw: st.DrawFn, content: bytearray, seeds: Sequence[bytes]) -> None:
    other = draw(st.sampled_from(seeds))
    content[_where(draw, content) :] = other[_where(draw, other) :]


_Edit = Callable[[st.DrawFn, bytearray, Sequence[bytes]], None]
_EDITS: list[_Edit] = [_flip, _overwrite, _insert, _remove, _truncate, _repeat, _splice]
