"""What several command lines take: models, engines, detectors; and what argparse's ``type`` makes of texts."""

from __future__ import annotations

import argparse

from convcut_trt.home import DEFAULT_MODEL


def add_verb(verbs: object, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """A verb of ``convcut-trt``, which like all of them takes ``--json``.

    Args:
        verbs: What ``add_subparsers`` made.
        name: As typed.
        text: What it does, a phrase.
        example: A command.
    """
    parser: argparse.ArgumentParser = verbs.add_parser(  # type: ignore[attr-defined]
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, nothing else"
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """The argument ``model``: what ``home.find_model`` finds."""
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        help="a zoo name, an .onnx file, or a folder with one model (default: %(default)s)",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The arguments ``engine`` and ``trust``: what ``engine.load`` opens."""
    parser.add_argument(
        "--engine",
        help="an engine, a folder of engines, or a model's name (default: the newest in the cache)",
    )
    parser.add_argument(
        "--trust",
        metavar="MODEL",
        help="open an .engine or .onnx without a manifest as one of MODEL: native code that nobody checked",
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    """The argument ``detector``: what ``faces.detect.detector`` opens."""
    parser.add_argument(
        "--detector",
        metavar="NAME",
        help="what finds the faces: YuNet's .onnx file, haar, or whole for pictures that are a face (default: "
        "YuNet where its file is found, else haar)",
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
