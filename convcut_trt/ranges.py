"""Ranges: what INT8 needs to know of a model's activations, ``NAME.ranges.json``, and where it was seen.

The file rebuilds the INT8 engine without the pictures: of those it holds only their content hashes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.fields import Fields, read_json, write_json
from convcut_trt.spec import NAME

SCHEMA = 1
METHODS = ("minmax", "percentile", "entropy")
_FIX = "make it again with `convcut-trt calibrate`"
_LARGEST = 3.4028234663852886e38  # of FP32, in which the network computes
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Ranges:
    """The ranges of one model's activations over a calibration set.

    Attributes:
        schema: Version of the file's layout.
        name: Of the model.
        onnx_sha256: Of the ``NAME.onnx`` whose tensors these are.
        method: One of ``METHODS``.
        tensors: Tensor of ``NAME.onnx`` -> (low, high) of its values; zero lies in every range.
        images: ``duplicates.pixel_hash`` of each picture of the set, sorted.
        balance: Class -> how many of the pictures show it.
        stability: How much the ranges of two halves of the set differ.
        provenance: Versions, data set, seed and what was left out.
    """

    schema: int
    name: str
    onnx_sha256: str
    method: str
    tensors: Mapping[str, tuple[float, float]]
    images: tuple[str, ...]
    balance: Mapping[str, int]
    stability: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Ranges:
        """Reads ``NAME.ranges.json``.

        Raises:
            InputError: No such file, another schema, or values that no calibration gives.
        """
        fields = read_json(path, SCHEMA, InputError, _FIX)
        if "tensors" not in fields.values:
            raise InputError(f"{path} holds no ranges: give NAME.ranges.json, or {_FIX}")
        ranges = cls(
            schema=SCHEMA,
            name=fields.get("name", str),
            onnx_sha256=fields.get("onnx_sha256", str),
            method=fields.get("method", str),
            tensors={
                name: checked(name, values, fields.source)
                for name, values in fields.get("tensors", dict).items()
            },
            images=fields.list_of("images", str),
            balance=_counts(fields),
            stability=fields.get("stability", dict),
            provenance=fields.get("provenance", dict),
        )
        ranges._check_whole(fields.source)
        return ranges

    def write(self, path: Path) -> None:
        """Writes ``NAME.ranges.json``, whole or not at all.

        Raises:
            InputError: Values that ``read`` would refuse, or a file that cannot be written.
        """
        for name, values in self.tensors.items():
            checked(name, values, path.name)
        self._check_whole(path.name)
        write_json(path, asdict(self))

    def check(self, onnx_sha256: str) -> None:
        """Makes sure that these are the ranges of the model with this hash.

        Raises:
            InputError: They are another model's.
        """
        if self.onnx_sha256 != onnx_sha256:
            raise InputError(
                f"the ranges of {self.name} were made for the ONNX file {self.onnx_sha256[:12]}, this one is "
                f"{onnx_sha256[:12]}: give the ranges of this model, or {_FIX}"
            )

    def amax(self, name: str) -> float:
        """The largest magnitude of a tensor: what symmetric quantisation maps to 127.

        Raises:
            InputError: The tensor has no range.
        """
        if name not in self.tensors:
            raise InputError(f"the ranges of {self.name} lack the tensor {name}: {_FIX}")
        low, high = self.tensors[name]
        return max(-low, high)

    def _check_whole(self, source: str) -> None:
        if not NAME.fullmatch(self.name):
            raise InputError(f"{source}: the name {self.name!r} is no model's; {_FIX}")
        if self.method not in METHODS:
            raise InputError(
                f"{source}: the method {self.method!r} is none of {', '.join(METHODS)}; {_FIX}"
            )
        if not self.tensors:
            raise InputError(f"{source} holds no range; {_FIX}")
        if len(set(self.images)) != len(self.images) or not all(map(_HASH.fullmatch, self.images)):
            raise InputError(f"{source}: images must be SHA-256 hashes, each once; {_FIX}")
        if len(self.images) < 2 or sum(self.balance.values()) != len(self.images):
            raise InputError(
                f"{source}: the balance counts {sum(self.balance.values())} pictures of a set of "
                f"{len(self.images)}, and a set has at least two; {_FIX}"
            )


def checked(name: str, values: Any, source: str) -> tuple[float, float]:
    """The range of a tensor, (low, high), after making sure that it can be one.

    Args:
        name: Of the tensor.
        values: Two numbers.
        source: Where they come from, for the message.

    Raises:
        InputError: Not two finite numbers, both zero, swapped, or without zero between them.
    """
    numbers = isinstance(values, list | tuple) and len(values) == 2
    if not numbers or not all(type(value) in (int, float) for value in values):
        raise InputError(f"{source}: the range of {name} is not [low, high]; {_FIX}")
    try:
        low, high = map(float, values)
    except OverflowError:  # json reads integers of any length
        low = high = math.inf
    if not (abs(low) <= _LARGEST and abs(high) <= _LARGEST):
        raise InputError(
            f"{source}: the range of {name} is {low} to {high}, not finite: the network overflows or has a NaN "
            f"weight; export it again, then {_FIX}"
        )
    if low == high == 0:
        raise InputError(
            f"{source}: the range of {name} is zero: nothing passes this tensor, so the network is damaged or "
            f"the pictures are empty; {_FIX}"
        )
    if not low <= 0 <= high:
        raise InputError(
            f"{source}: the range of {name}, {low} to {high}, has swapped ends or leaves out zero; {_FIX}"
        )
    return low, high


def _counts(fields: Fields) -> dict[str, int]:
    counts = fields.inside("balance")
    found = {name: counts.get(name, int) for name in counts.values}
    if any(count < 0 for count in found.values()):
        raise InputError(f"{fields.source}: the balance has a negative count; {_FIX}")
    return found
