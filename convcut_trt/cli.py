"""The command line. Exit codes: 0 done; 1 a gate or a check failed; 2 usage, input or a missing backend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from convcut_trt import __version__, commands, lab
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL

_WAY = """\
the way:  convcut-trt doctor                                  what this machine can do
          convcut-trt build --precision fp16                  an engine that passed its gates
          convcut-trt predict FILE --draw out.png             what a face expresses
a GPU elsewhere:  convcut-trt build --precision fp16 --target rtx4060ti
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code. A user's mistake prints one sentence, no traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in lab.VERBS:
        return guarded(lambda: lab.run(given[0], given[1:]), as_json=False)
    options = _parser().parse_args(given)
    if options.run is None:
        _parser().print_help()
        return 0
    return guarded(lambda: int(options.run(options)), as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convcut-trt",
        description="Takes the Conv-cut facial-expression network to a verified engine on a robot.",
        epilog=_WAY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"convcut-trt {__version__}")
    parser.set_defaults(run=None)
    verbs = parser.add_subparsers(metavar="VERB")
    _add_build(verbs)
    _add_predict(verbs)
    inspect = _verb(
        verbs,
        "inspect",
        "say what a file is, or what labelled faces hold: counts, bad pictures, duplicates",
        "convcut-trt inspect engines/conv-cut-mini.fp16.onnxruntime.json",
    )
    inspect.add_argument(
        "file",
        type=Path,
        help="an .onnx, .engine, manifest or spec file, or a file or folder of labelled faces",
    )
    inspect.set_defaults(run=commands.inspect)
    doctor = _verb(
        verbs,
        "doctor",
        "say what this machine can do, and what to install next",
        "convcut-trt doctor",
    )
    doctor.add_argument(
        "--engines", type=Path, help="folder whose engines are replayed (default: the cache)"
    )
    doctor.set_defaults(run=commands.doctor)
    for name, text in lab.VERBS.items():
        verbs.add_parser(name, help=f"lab: {text}", add_help=False)
    return parser


def _verb(verbs: object, name: str, text: str, example: str) -> argparse.ArgumentParser:
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


def _add_build(verbs: object) -> None:
    parser = _verb(
        verbs,
        "build",
        "build an engine, hold it to the gates, and publish it or nothing",
        "convcut-trt build conv-cut-mini --precision fp16 --backend tensorrt-rtx --target rtx4060ti -o engines",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=DEFAULT_MODEL,
        help="a zoo name, an .onnx file, or a folder with one model (default: %(default)s)",
    )
    parser.add_argument("--precision", default="fp16", help="fp32 or fp16 (default: %(default)s)")
    parser.add_argument(
        "--backend",
        default="auto",
        help="tensorrt, tensorrt-rtx, onnxruntime; auto: the first that runs here, or tensorrt-rtx with --target",
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="DEVICE",
        help="build for another machine's GPU (rtx4060ti, sm86 ...); may be given several times",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        default="1:4:16",
        metavar="MIN:OPT:MAX",
        help="batch profile, or one number for a fixed batch (default: %(default)s)",
    )
    parser.add_argument(
        "--data", metavar="FACES", help="faces for the gates (default: 256 bundled pictures)"
    )
    parser.add_argument(
        "--gate-pictures", type=_count, metavar="N", help="use only the first N of them"
    )
    parser.add_argument(
        "--budget",
        type=_budget,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="tighten or loosen a gate; recorded in the manifest",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to publish (default: the cache)"
    )
    parser.set_defaults(run=commands.build)


def _add_predict(verbs: object) -> None:
    parser = _verb(
        verbs,
        "predict",
        "say what faces in pictures express",
        "convcut-trt predict portrait.png --box 110,70,100,120 --draw out.png",
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pictures")
    parser.add_argument(
        "--engine",
        help="an engine, a folder of engines, or a model's name (default: the newest in the cache)",
    )
    parser.add_argument(
        "--box", type=_box, metavar="X,Y,W,H", help="the face in the picture, in pixels"
    )
    parser.add_argument(
        "--draw", type=Path, metavar="OUT", help="annotated picture; a folder for several"
    )
    parser.set_defaults(run=commands.predict)


def _batch(text: str) -> tuple[int, int, int]:
    try:
        sizes = [int(size) for size in text.split(":")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX")
    return sizes[0], sizes[1], sizes[2]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _budget(text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE with a number") from None


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H in pixels") from None
    return x, y, width, height
