"""The lab's files: recipes in TOML, changes of them from the command line, and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomllib
from hypothesis import strategies as st

from tests.fuzz.apart import Limits
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutations import spoiled
from tests.fuzz.trees import json_text, spoiled_tree, toml_text

_ROOT = Path(__file__).parents[2] / "export" / "recipes"
_RECIPES = [tomllib.loads(path.read_text("utf-8")) for path in sorted(_ROOT.glob("*.toml"))]
_TINY: dict[str, Any] = {
    "name": "tiny",
    "network": {
        "trunk": "convnext_tiny",
        "trunk_options": {"depths": [1, 1, 1, 1], "dims": [2, 2, 2, 2], "patch_size": 2},
        "cut": "stage2",
        "detail": [[2, 1]],
        "width": 4,
    },
    "input": {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "training": {"epochs": 1},
}
_NOTE = {"schema": 2, "classes": ["happy", "sad"], "recipe": _TINY, "temperature": 1.0}
_HEADER = {
    "__metadata__": {"note": json.dumps(_NOTE)},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
}


def read_recipe(content: bytes, folder: Path) -> None:
    """As ``train`` does, without building the network: that is torch's and timm's."""
    from export import recipe

    path = folder / "a.toml"
    path.write_bytes(content)
    found = recipe.read(path)
    for stage in found.stages:
        stage.side(0, found.input.size)
    recipe.parse(json.loads(found.model_dump_json()), "its own copy")


def read_change(content: bytes, folder: Path) -> None:
    """``--set``."""
    from export import recipe

    recipe.read("synthetic", [content.decode(errors="surrogateescape")])


def read_checkpoint(content: bytes, folder: Path) -> None:
    """As ``evaluate`` and ``export`` do."""
    from export import checkpoint, recipe

    path = folder / "a.safetensors"
    path.write_bytes(content)
    tensors, note = checkpoint.read(path)
    checkpoint.write(folder / "copy.safetensors", tensors, note)
    recipe.parse(note["recipe"], "the recipe inside")
    len(note["classes"])


@st.composite
def _checkpoints(draw: st.DrawFn) -> bytes:
    """Note, header, the length before it, or the data behind it are wrong, or any of the bytes."""
    wrong = draw(st.sampled_from(["note", "header", "length", "data", "bytes", "note"]))
    note = json.dumps(_NOTE).encode()
    if wrong == "note":
        note = draw(spoiled_tree([_NOTE], json_text))
    values = {**_HEADER, "__metadata__": {"note": note.decode("utf-8", "backslashreplace")}}
    header = json.dumps(values).encode()
    if wrong == "header":
        header = draw(spoiled_tree([values, _HEADER], json_text))
    length = draw(st.integers(0, 2**64 - 1)) if wrong == "length" else len(header)
    data = bytes(draw(st.integers(0, 40)) if wrong == "data" else 32)
    content = length.to_bytes(8, "little") + header + data
    return draw(spoiled([content])) if wrong == "bytes" else content


_LINE = st.one_of(
    spoiled([b"training.epochs=5", b'training.optimizer="adam"', b"network.detail=[[2,1],[3,1]]"]),
    spoiled_tree(_RECIPES, toml_text).map(lambda text: b"network.trunk_options=" + text),
    st.sampled_from([b"[" * 100_000, b"9" * 5000, b"{a=" * 500]).map(lambda text: b"a=" + text),
    st.sampled_from([b"a." * 100_000, b"network.trunk_options." + b"a." * 600]).map(
        lambda text: text + b"a=1"
    ),
)
# The first one imports timm and torch, which are large and take seconds.
_LIMITS = Limits(seconds=20, mebibytes=4096)

TARGETS = {
    "recipe": Target(spoiled_tree([*_RECIPES, _TINY], toml_text), read_recipe, _LIMITS, few=0),
    "recipe change": Target(_LINE, read_change, _LIMITS, few=0),
    "checkpoint": Target(_checkpoints(), read_checkpoint, _LIMITS, few=0),
}
