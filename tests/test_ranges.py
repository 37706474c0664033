"""The ranges file: what was written is read again, and what no calibration gives is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.errors import InputError
from convcut_trt.ranges import SCHEMA, Ranges

RANGES = Ranges(
    schema=SCHEMA,
    name="tiny",
    onnx_sha256="0" * 64,
    method="percentile",
    tensors={"/fc1": (-1.5, 6.25), "/fc2": (-0.17, 3.0)},
    images=("a" * 64, "b" * 64, "c" * 64),
    balance={"happiness": 2, "sadness": 1, "fear": 0},
    stability={"tensors": 2, "differing": 0},
    provenance={"seed": 7},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    RANGES.write(tmp_path / "tiny.ranges.json")
    return tmp_path / "tiny.ranges.json"


def change(path: Path, **fields: Any) -> None:
    """Changes fields of the file; ``...`` takes one out."""
    values = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def test_round_trip(path: Path) -> None:
    assert Ranges.read(path) == RANGES


def test_amax_is_the_larger_magnitude() -> None:
    ranges = replace(RANGES, tensors={"up": (-1.0, 4.0), "down": (-4.5, 1.0)})
    assert (ranges.amax("up"), ranges.amax("down")) == (4.0, 4.5)


def test_they_belong_to_one_model() -> None:
    RANGES.check("0" * 64)
    with pytest.raises(
        InputError, match=r"ranges of tiny were made for .* `convcut-trt calibrate`"
    ):
        RANGES.check("1" * 64)


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(InputError, match=r"lack the tensor /fc3: .* `convcut-trt calibrate`"):
        RANGES.amax("/fc3")


HASH = "d" * 64


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 0}, "has schema 0, this version reads 1"),
        ({"schema": SCHEMA + 1}, f"has schema {SCHEMA + 1}"),
        ({"schema": ...}, "'schema' is missing"),
        ({"name": ...}, "'name' is missing"),
        ({"name": "../up"}, "the name '../up' is no model's"),
        ({"name": "a" * 101}, "is no model's"),
        ({"onnx_sha256": 5}, "'onnx_sha256' must be str"),
        ({"method": "guess"}, "method 'guess' is none of minmax"),
        ({"tensors": []}, "'tensors' must be dict"),
        ({"tensors": {}}, "holds no range"),
        ({"tensors": {"/fc1": [math.nan, 1.0]}}, "/fc1 is nan to 1.0, not finite"),
        ({"tensors": {"/fc1": [-1.0, math.inf]}}, "/fc1 is -1.0 to inf, not finite"),
        ({"tensors": {"/fc1": [0, 1e39]}}, "/fc1 is 0.0 to 1e.39, not finite"),  # for FP32
        ({"tensors": {"/fc1": [0, 10**400]}}, "/fc1 is inf to inf, not finite"),
        ({"tensors": {"/fc1": [0.0, 0.0]}}, "/fc1 is zero"),
        ({"tensors": {"/fc1": [-0.0, 0]}}, "/fc1 is zero"),
        ({"tensors": {"/fc1": [-3.0, -1.0]}}, "/fc1, -3.0 to -1.0, has swapped ends or leaves out"),
        ({"tensors": {"/fc1": [1.0, 3.0]}}, "leaves out zero"),
        ({"tensors": {"/fc1": [2.0, -2.0]}}, "has swapped ends"),
        ({"tensors": {"/fc1": [0.0, 1.0], "/fc2": 3.0}}, "/fc2 is not .low, high."),
        ({"tensors": {"/fc1": [1.0]}}, "/fc1 is not .low, high."),
        ({"tensors": {"/fc1": ["0", "1"]}}, "/fc1 is not .low, high."),
        ({"tensors": {"/fc1": [False, True]}}, "/fc1 is not .low, high."),
        ({"images": [HASH], "balance": {"fear": 1}}, "a set has at least two"),
        ({"images": []}, "counts 3 pictures of a set of 0"),
        ({"images": [HASH, HASH, "e" * 64]}, "each once"),
        ({"images": [HASH, "e" * 64, "face.png"]}, "SHA-256"),
        ({"images": [1, 2, 3]}, "must be str"),
        ({"balance": {"happiness": 2}}, "counts 2 pictures of a set of 3"),
        ({"balance": {"happiness": 4, "fear": -1}}, "negative count"),
        ({"balance": {"happiness": 1.5}}, "'happiness' must be int"),
        ({"stability": 3}, "'stability' must be dict"),
        ({"provenance": ...}, "'provenance' is missing"),
    ],
)
def test_bad_files(path: Path, fields: dict[str, Any], said: str) -> None:
    change(path, **fields)
    with pytest.raises(InputError, match=said):
        Ranges.read(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"5", b"\x08\n" * 400])
def test_files_that_are_something_else(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="tiny.ranges.json"):
        Ranges.read(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist: make it again with .convcut-trt calib"):
        Ranges.read(tmp_path / "none.ranges.json")
    with pytest.raises(InputError, match="cannot be read"):
        Ranges.read(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        replace(RANGES, tensors={"/fc1": (0.0, math.nan)}),
        replace(RANGES, tensors={"/fc1": (0.0, 0.0)}),
        replace(RANGES, images=("a" * 64,)),
    ],
)
def test_what_could_not_be_read_is_not_written(path: Path, broken: Ranges) -> None:
    with pytest.raises(InputError):
        broken.write(path)
    assert Ranges.read(path) == RANGES
