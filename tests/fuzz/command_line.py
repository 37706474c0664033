"""What a user types: numbers, lists, boxes, budgets, names and paths as texts of any kind."""

from __future__ import annotations

import argparse
from pathlib import Path

from hypothesis import strategies as st

from convcut_trt import arguments
from convcut_trt.errors import InputError
from convcut_trt.preprocess import crop_box
from tests.fuzz.fuzzing import Target
from tests.fuzz.json_files import command
from tests.fuzz.mutations import spoiled

_BUILD = (b"build", b"--dry-run", b"--backend", b"onnxruntime")
_LINES = [
    (*_BUILD, b"--batch", b"1:4:16"),
    (*_BUILD, b"--batch", b"9223372036854775808"),
    (*_BUILD, b"--budget", b"flip_margin=0.02"),
    (*_BUILD, b"--budget", b"loss_median=nan"),
    (*_BUILD, b"--gate-pictures", b"7"),
    (*_BUILD, b"--precision", b"int8", b"--placement", b"pw+dw"),
    (*_BUILD, b"--precision", b"int8", b"--ranges", b"a.ranges.json"),
    (b"build", b"--dry-run", b"--target", b"rtx4060ti"),
    (b"build", b"--dry-run", b"model.onnx"),
    (b"inspect", b"a/b.engine"),
    (b"inspect", b"face.spec.json"),
    (b"verify", b"engines/a.json", b"--trust"),
    (b"predict", b"face.png", b"--engine", b"engines/a.json", b"--box", b"1,2,30,40"),
    (b"predict", b"face.png", b"--trust", b"conv-cut-mini", b"--engine", b"x.engine"),
    (b"bench", b"engines", b"--batch", b"1,4", b"--seconds", b"1", b"--openings", b"3"),
    # wrong twice: what is wrong once may be made right, and would then be measured for minutes
    (b"bench", b"--sweep", b"--spin", b"--precision", b"fp16,fp12", b"--mlp", b"conv"),
    (b"run", b"zenoh:a?wait=0", b"--engine", b"no.engine", b"--stall", b"nan"),
    (b"run", b"nowhere", b"--engine", b"no.engine", b"--reject", b"1e400", b"--rate", b"-1"),
]


def read_line(content: bytes, folder: Path) -> None:
    """A command line, its arguments with NULs between; a shell passes on any other byte."""
    command(*(part.decode("utf-8", "surrogateescape") for part in content.split(b"\0")))


def read_texts(content: bytes, folder: Path) -> None:
    """What argparse's ``type`` makes of texts."""
    text = content.decode("utf-8", "surrogateescape")
    kinds = (arguments.batch, arguments.count, arguments.budget, arguments.box)
    found = []
    for kind in kinds:
        try:
            found.append(kind(text))
        except (argparse.ArgumentTypeError, ValueError):  # what argparse catches
            continue
    if not found:
        raise InputError("refused")
    try:
        crop_box(arguments.box(text), 640, 480, 0.1)
    except argparse.ArgumentTypeError:
        return


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    """One argument of a good line spoiled, seldom the verb."""
    line = list(draw(st.sampled_from(_LINES)))
    index = draw(st.integers(0, 8 * len(line))) % len(line)
    line[index or -1] = draw(spoiled([line[index or -1], b"a" * 5000, b"/" * 20, b"1" * 5000]))
    return b"\0".join(line)


_TEXTS = [b"1:4:16", b"7", b"flip_margin=0.02", b"a=inf", b"1.5,2,30,40", b"nan,1e308,1e308,1e308"]

TARGETS = {
    "command line": Target(_lines(), read_line),
    "argument": Target(
        st.one_of(spoiled(_TEXTS), st.text(max_size=20).map(lambda text: text.encode())), read_texts
    ),
}
