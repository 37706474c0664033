"""Reads the operations of a TensorRT-RTX engine from the text inside it.

An RTX plan holds its program as text: ``descriptors {`` with every tensor and its type, ``main {``
with one line per device operation, then ``shape_main {``. None of this is documented; it was
measured on 1.7.1. Where a marker is missing nothing is guessed: the answer is None. Bodies of
fusions have a ``main {`` too, but no ``shape_main {`` behind it. Nothing is deserialised here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convcut_trt.backends.base import Layer

_MAGIC = b"vtrt"
_TYPES = {"float": "fp32", "half": "fp16"}
# In plans corrltn, fully_connected, runtime_fusion; in reports CaskConvolution, gemm and others.
_MATRIX_KIND = re.compile("corr|fully_connected|fusion|conv|gemm|matrix_?mul|matmul", re.IGNORECASE)
# Works out shapes on the host.
_NOT_ON_DEVICE = ("shape_call",)
_DATA_TYPES = ("fp32", "fp16", "bf16", "int8", "fp8", "fp4")

_TENSOR = re.compile(r'^ +(?:sub_)?tensor=\{(.*) name="([^"]*)".* type=(\w+) \}', re.MULTILINE)
_OPERATION = re.compile(r'^ +(\w+)=\{ name="?([^" ]+)(.*)$', re.MULTILINE)
_INPUTS = re.compile(r"\binput(?:_args)?=\{([^}]*)\}")
_OUTPUTS = re.compile(r"\boutput(?:_args)?=\{([^}]*)\}")
_QUOTED = re.compile(r'"([^"]*)"')
_COVERED = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class Operation:
    """One device operation; ``covers`` are the names of the network's layers it does."""

    name: str
    kind: str
    dtype: str
    covers: tuple[str, ...]


def is_plan(plan: bytes) -> bool:
    """Whether ``plan`` starts as TensorRT-RTX engines do."""
    return plan.startswith(_MAGIC)


def version(plan: bytes) -> str | None:
    """The version of the builder, None where it is not readable."""
    # Four bytes before the second magic: 1.7.1.116 is 01 07 01 74.
    if not is_plan(plan) or plan[28:32] != _MAGIC:
        return None
    return ".".join(str(part) for part in plan[24:28])


def accelerators(plan: bytes) -> tuple[str, ...]:
    """What it was built for, for example ``("sm86", "sm89")``; empty where not readable."""
    found = re.search(rb"\baccelerators=\{([^}]{0,1000})\}", plan)
    return tuple(found[1].decode("ascii", "replace").split()) if found else ()


def operations(plan: bytes) -> list[Operation] | None:
    """The device operations in the order of the plan, None where they are not readable."""
    found: list[Operation] = []
    end = plan.find(b"\nshape_main {")
    while end >= 0:
        main = plan.rfind(b"\nmain {", 0, end)
        head = plan.rfind(b"\ndescriptors {", 0, main)
        if main < 0 or head < 0:
            return None
        found += _program(plan[head:main].decode("latin-1"), plan[main:end].decode("latin-1"))
        end = plan.find(b"\nshape_main {", end + 1)
    return found or None


def as_layers(found: Sequence[Operation], network: Sequence[Layer] = ()) -> list[Layer]:
    """The operations as layers, each with the multiply-adds of the ``network`` it covers.

    A layer that no operation covers is left out: the sums then differ, which shows it.
    """
    sums = [0] * len(found)
    for layer in network:
        if not layer.multiply_adds:
            continue
        covering = [i for i, operation in enumerate(found) if layer.name in operation.covers]
        # Casts and layout changes of its input count as parts of a layer too.
        covering = [i for i in covering if _MATRIX_KIND.search(found[i].kind)] or covering
        if covering:
            sums[covering[-1]] += layer.multiply_adds
    return [
        Layer(operation.name, operation.kind, operation.dtype, total)
        for operation, total in zip(found, sums, strict=True)
    ]


def _program(descriptors: str, main: str) -> list[Operation]:
    types, constants = {}, set()
    for fields, name, dtype in _TENSOR.findall(descriptors):
        types[name] = _TYPES.get(dtype, dtype)
        if "const_payload_size=" in fields:
            constants.add(name)
    return [
        Operation(
            name, kind, _computed(kind, rest, types, constants), tuple(_COVERED.findall(rest))
        )
        for kind, name, rest in _OPERATION.findall(main)
        if kind not in _NOT_ON_DEVICE
    ]


def _computed(kind: str, rest: str, types: dict[str, str], constants: set[str]) -> str:
    """A matrix product computes in the type of its activations, anything else in its result's.

    Weights alone in INT8 are unpacked before they are multiplied, so they do not decide.
    """
    pattern = _INPUTS if _MATRIX_KIND.search(kind) else _OUTPUTS
    arguments = pattern.search(rest)
    for name in _QUOTED.findall(arguments[1]) if arguments else ():
        scratch = name.startswith("__scratch_space")
        if types.get(name) in _DATA_TYPES and name not in constants and not scratch:
            return types[name]
    return "?"
