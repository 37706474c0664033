"""What several command lines take: a model; and batch profiles, counts, budgets, boxes for argparse's ``type``."""

from __future__ import annotations

import argparse

from convcut_trt.home import DEFAULT_MODEL


def add_model(parser: argparse.ArgumentParser) -> None:
    """The argument ``model``: what ``home.find_model`` finds."""
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        help="a zoo name, an .onnx file, or a folder with one model (default: %(default)s)",
    )


def batch(text: str) -> tuple[int, int, int]:
    """``MIN:OPT:MAX``, or one number for a fixed batch."""
    try:
        sizes = [int(size) for size in text.split(":")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX")
    return sizes[0], sizes[1], sizes[2]


def count(text: str) -> int:
    """A positive whole number."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def budget(text: str) -> tuple[str, float]:
    """``KEY=VALUE`` with a number."""
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE with a number") from None


def box(text: str) -> tuple[float, float, float, float]:
    """``X,Y,W,H`` in pixels."""
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H in pixels") from None
    return x, y, width, height
