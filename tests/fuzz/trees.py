"""Good JSON and TOML made bad: values of other types and sizes, fields gone, new, twice or too deep."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.mutations import spoiled


@dataclass
class Pairs:
    """An object; keys may be there twice."""

    items: list[list[Any]]


@dataclass(frozen=True)
class Raw:
    """Text that stands for a value."""

    text: str


Write = Callable[[Any], str]


def json_text(tree: Any) -> str:
    """A tree as JSON."""
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, list):
        return f"[{','.join(map(json_text, tree))}]"
    if isinstance(tree, Pairs):
        pairs = (f"{json_text(key)}:{json_text(value)}" for key, value in tree.items)
        return f"{{{','.join(pairs)}}}"
    # repr is as good, and ten times as fast where most of a tree is numbers
    return repr(tree) if type(tree) is int else json.dumps(tree)


def toml_text(tree: Any) -> str:
    """A tree as TOML, every section in a line of its own."""
    if not isinstance(tree, Pairs):
        return _inline(tree)
    return "".join(f"{_inline(str(key))} = {_inline(value)}\n" for key, value in tree.items)


def _inline(tree: Any) -> str:
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, list):
        return f"[{', '.join(map(_inline, tree))}]"
    if isinstance(tree, Pairs):
        pairs = (f"{_inline(str(key))} = {_inline(value)}" for key, value in tree.items)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(tree, float) and not math.isfinite(tree):
        return str(tree)
    return json.dumps(tree, ensure_ascii=False)


_DEEP = [
    Raw(start * depth + end * depth)
    for start, end in (("[", "]"), ('{"a":', "}"), ("{a=", "}"))
    for depth in (100, 330, 900, 100_000)
]
_JUNK = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308]
    ),
    st.sampled_from([math.nan, math.inf, -math.inf, Raw("9" * 5000), Raw("1e999"), Raw("")]),
    st.sampled_from(
        ["", "\0", "\ud800", ".", "..", "../../x", "/", "a" * 300, "a" * 5000, "é", "\n"]
    ),
    st.sampled_from(_DEEP),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(-2, 2), max_size=3),
    st.builds(lambda: Pairs([])),
)


@st.composite
def spoiled_tree(draw: st.DrawFn, seeds: Sequence[Mapping[str, Any]], write: Write) -> bytes:
    """One of the seeds after one to four edits, now and then with its bytes edited, too."""
    tree = _pairs(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        draw(st.sampled_from(_EDITS))(draw, tree)
    content = write(tree).encode("utf-8", "surrogatepass")
    return draw(spoiled([content])) if draw(st.integers(0, 7)) == 7 else content


def _pairs(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Pairs([[key, _pairs(inner)] for key, inner in value.items()])
    return [_pairs(inner) for inner in value] if isinstance(value, list | tuple) else value


def _slots(tree: Any) -> Iterator[tuple[list[Any], int]]:
    """Where every value of a tree stands: a list, and its place there."""
    inner = tree.items if isinstance(tree, Pairs) else tree if isinstance(tree, list) else []
    for index, entry in enumerate(inner):
        slot = (entry, 1) if isinstance(tree, Pairs) else (inner, index)
        yield slot
        yield from _slots(slot[0][slot[1]])


def _slot(draw: st.DrawFn, tree: Any) -> tuple[list[Any], int]:
    slots = list(_slots(tree))
    return slots[draw(st.integers(0, len(slots) - 1))] if slots else ([None], 0)


def _containers(tree: Any) -> list[list[Any]]:
    """The contents of every object and list."""
    values = [tree, *(slot[index] for slot, index in _slots(tree))]
    found = (value.items if isinstance(value, Pairs) else value for value in values)
    return [inner for inner in found if isinstance(inner, list)]


def _replace(draw: st.DrawFn, tree: Any) -> None:
    slot, index = _slot(draw, tree)
    slot[index] = draw(_JUNK)


def _exchange(draw: st.DrawFn, tree: Any) -> None:
    (one, i), (other, j) = _slot(draw, tree), _slot(draw, tree)
    if _holds(one[i], other) or _holds(other[j], one):
        return  # a value would come to stand within itself
    one[i], other[j] = other[j], one[i]


def _holds(tree: Any, slot: list[Any]) -> bool:
    return any(inner is slot for inner, _ in _slots(tree))


def _wrap(draw: st.DrawFn, tree: Any) -> None:
    slot, index = _slot(draw, tree)
    slot[index] = draw(st.sampled_from([[slot[index]], Pairs([["a", slot[index]]])]))


def _drop(draw: st.DrawFn, tree: Any) -> None:
    if inner := draw(st.sampled_from(_containers(tree))):
        del inner[draw(st.integers(0, len(inner) - 1))]


def _double(draw: st.DrawFn, tree: Any) -> None:
    if inner := draw(st.sampled_from(_containers(tree))):
        entry = inner[draw(st.integers(0, len(inner) - 1))]
        copy = list(entry) if isinstance(entry, list) else entry
        inner += [copy] * draw(st.sampled_from([1, 1, 1, 200]))


def _rename(draw: st.DrawFn, tree: Any) -> None:
    pairs = [tree, *(slot[index] for slot, index in _slots(tree))]
    entries = [entry for value in pairs if isinstance(value, Pairs) for entry in value.items]
    if entries:
        entry = draw(st.sampled_from(entries))
        entry[0] = draw(st.one_of(st.text(max_size=8), st.sampled_from(["a" * 5000, "\ud800"])))


_EDITS = [_replace, _replace, _replace, _exchange, _wrap, _drop, _double, _rename]
