"""ONNX files through ``inspect``, ``build --dry-run`` and ``build``: bytes spoiled, and fields of the graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from convcut_trt.home import ZOO
from convcut_trt.pictures import load_picture
from convcut_trt.spec import ModelSpec
from tests import block, models
from tests.fuzz.apart import Limits
from tests.fuzz.fuzzing import Target
from tests.fuzz.json_files import command
from tests.fuzz.mutations import spoiled

_ON_CPU = ("--backend", "onnxruntime")
_WAYS: tuple[tuple[str, ...], ...] = (
    ("--precision", "fp16", *_ON_CPU),
    ("--precision", "int8", *_ON_CPU),
    ("--precision", "int8", "--placement", "pw+dw", "--mlp", "conv", *_ON_CPU),
    ("--precision", "fp16", "--mlp", "linear", *_ON_CPU),
    ("--precision", "fp32", *_ON_CPU),
    ("--precision", "auto", *_ON_CPU),
    ("--precision", "fp16", "--backend", "openvino"),
    ("--precision", "fp16", "--target", "rtx4060ti", "--tail", "kernel"),
    ("--precision", "bf16", "--target", "rtx4060ti"),
)
_NUMBERS = (0, 1, 2, 3, 5, 7, 10, 16, 255, 2**31 - 1, 2**31, 2**63 - 1, -1, -2, -(2**31), -(2**63))
_TEXTS = (
    "",
    "images",
    "map",
    "logits",
    "Conv",
    "Loop",
    "If",
    "Gelu",
    "ai.onnx.ml",
    "../x",
    "a" * 300,
)


@cache
def _seed() -> bytes:
    seed: bytes = block.network().SerializeToString()
    return seed


@cache
def _ranges() -> dict[str, Any]:
    return asdict(block.ranges(onnx.load_from_string(_seed())))


@cache
def _answer() -> tuple[float, ...]:
    """Of the drawn network to the first witness, so that it passes its gates."""
    spec = ModelSpec.read(ZOO / "conv-cut-mini.spec.json")
    picture = load_picture(ZOO / spec.witnesses[0].file)
    face = replace(spec, size=block.SIZE).face(picture, spec.witnesses[0].box)
    answers = models.run(onnx.load_from_string(_seed()), face[None])["probabilities"]
    return tuple(map(float, answers[0]))


def _write(content: bytes, folder: Path) -> Path:
    """The model with a spec and ranges that are bound to it, as whoever sends it would have them."""
    path = folder / "block.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    given = ModelSpec.read(ZOO / "conv-cut-mini.spec.json")
    witness = replace(given.witnesses[0], probabilities=_answer())
    spec = replace(
        given,
        name="block",
        onnx_sha256=digest,
        classes=given.classes[: block.CLASSES],
        size=block.SIZE,
        map_shape=(block.CHANNELS, block.SIDE, block.SIDE),
        witnesses=(witness,),
    )
    picture = folder / witness.file
    if not picture.is_file():
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes((ZOO / witness.file).read_bytes())
    spec.write(path.with_suffix(".spec.json"))
    ranges = json.dumps({**_ranges(), "onnx_sha256": digest})
    path.with_suffix(".ranges.json").write_text(ranges)
    return path


def _build(content: bytes, folder: Path, *more: str) -> None:
    """The first byte says how."""
    way = _WAYS[content[0] % len(_WAYS)] if content else _WAYS[0]
    output = ("--batch", "1:2:2", "--gate-pictures", "2", "-o", str(folder / "engines"))
    command("build", _write(content[1:], folder), *way, *output, *more)


def inspect_model(content: bytes, folder: Path) -> None:
    """``inspect``; the first byte says nothing here."""
    command("inspect", _write(content[1:], folder))


def try_build(content: bytes, folder: Path) -> None:
    """``build --dry-run``."""
    _build(content, folder, "--dry-run")


def build(content: bytes, folder: Path) -> None:
    """``build``, on a CPU: other builders have a process of their own."""
    way = content[0] % 7 if content else 0
    _build(bytes([way]) + content[1:], folder)


@st.composite
def _models(draw: st.DrawFn) -> bytes:
    """The drawn network after one to three edits of its fields, behind a byte that says how it is built."""
    model = onnx.load_from_string(_seed())
    for _ in range(draw(st.integers(1, 3))):
        messages = list(_messages(model))
        message = messages[draw(st.integers(0, len(messages) - 1))]
        field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
        _edit(draw, message, field, messages)
    content: bytes = model.SerializeToString()
    return bytes([draw(st.integers(0, len(_WAYS) - 1))]) + content


def _messages(message: Message) -> list[Message]:
    """A message and all within it."""
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                found += _messages(inner)
    return found


def _edit(
    draw: st.DrawFn, message: Message, field: FieldDescriptor, messages: list[Message]
) -> None:
    """Changes one field of a message, which may be empty."""
    if not field.is_repeated:
        if draw(st.integers(0, 5)) == 0:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(_like(draw, field, messages))
        else:
            setattr(message, field.name, draw(_scalar(field, messages)))
        return
    values = getattr(message, field.name)
    count = len(values)
    index = draw(st.integers(0, max(0, count - 1)))
    edit = draw(st.sampled_from(["add", "set", "drop", "swap", "many"]))
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if edit == "drop" and count:
        del values[index]
    elif edit == "swap" and count > 1 and is_message:
        other = draw(st.integers(0, count - 1))
        kept = type(values[index])()
        kept.CopyFrom(values[index])
        values[index].CopyFrom(values[other])
        values[other].CopyFrom(kept)
    elif edit == "many":
        new = _like(draw, field, messages) if is_message else draw(_scalar(field, messages))
        values.extend([new] * draw(st.sampled_from([2, 50])))
    elif is_message:
        (values[index] if edit == "set" and count else values.add()).CopyFrom(
            _like(draw, field, messages)
        )
    elif edit == "set" and count:
        values[index] = draw(_scalar(field, messages))
    else:
        values.append(draw(_scalar(field, messages)))


def _like(draw: st.DrawFn, field: FieldDescriptor, messages: list[Message]) -> Message:
    """A copy of a message of the same type from anywhere in the model; an empty one where there is none."""
    same = [message for message in messages if message.DESCRIPTOR is field.message_type]
    copy: Message = message_factory.GetMessageClass(field.message_type)()
    if same:
        copy.CopyFrom(draw(st.sampled_from(same)))
    return copy


def _scalar(field: FieldDescriptor, messages: list[Message]) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return st.floats(width=32)
    if field.type == FieldDescriptor.TYPE_STRING:
        names = [name for message in messages for name in _names(message)]
        return st.one_of(st.sampled_from(names), st.sampled_from(_TEXTS))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(
            st.sampled_from([b"", b"\0", b"\xff" * 64, b"linear"]), st.binary(max_size=32)
        )
    limits = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_UINT64: 64}
    bits = limits.get(field.type, 63)
    least = 0 if bits == 64 else -(2**bits)
    return st.sampled_from([number for number in _NUMBERS if least <= number < 2**bits])


def _names(message: Message) -> list[str]:
    """Texts of a node: the tensors it reads and writes, and its type."""
    if not isinstance(message, onnx.NodeProto):
        return ["images"]
    return [*message.input, *message.output, message.op_type]


_INPUTS = st.one_of(
    _models(),
    _models(),
    st.builds(
        lambda way, content: bytes([way]) + content,
        st.integers(0, len(_WAYS) - 1),
        st.deferred(lambda: spoiled([_seed()], least=0)),
    ),
)

TARGETS = {
    "onnx inspect": Target(_INPUTS, inspect_model),
    "onnx dry run": Target(_INPUTS, try_build, Limits(20, 3072), few=8),
    "onnx build": Target(_INPUTS, build, Limits(60, 4096), few=3),
}
