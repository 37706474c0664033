"""The options of the verb ``bench``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from convcut_trt import arguments
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.measuring import bench_entrants, bench_verb, sweep_plan
from convcut_trt.precision.typed import DEFAULT_PLACEMENT


def add(verbs: object) -> None:
    """Adds the verb.

    Args:
        verbs: What ``add_subparsers`` made.
    """
    parser = arguments.add_verb(
        verbs,
        "bench",
        "measure engines on this device, and against each other",
        "convcut-trt bench --batch 1,4 -o bench.json",
    )
    parser.add_argument(
        "engines",
        nargs="*",
        metavar="ENGINE",
        help="engines, folders of engines, or models (default: the newest of each precision in the cache); with "
        "--sweep the networks: zoo names, .onnx files or folders with one (default: "
        + DEFAULT_MODEL
        + ")",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME",
        help="one more engine, or another system to compare with: "
        + ", ".join(bench_entrants.PEERS)
        + " (of a "
        "checkout), or all of them that are here; may be given several times",
    )
    parser.add_argument(
        "--model",
        help="for other systems: the FP32 model the engine was built from (default: the bundled one of its name)",
    )
    parser.add_argument(
        "--data", metavar="FACES", help="labelled faces: how many of them each engine answers right"
    )
    parser.add_argument(
        "--batch",
        type=sizes,
        metavar="N,N...",
        help="batches; engines are compared at the first (default: those the engine was built for)",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=5.0,
        help="of each measurement, and of each opening of a comparison (default: %(default)g)",
    )
    parser.add_argument(
        "--openings",
        type=arguments.count,
        default=12,
        metavar="N",
        help="how often compared engines are opened anew, 8 or more (default: %(default)s)",
    )
    parser.add_argument(
        "--spin",
        action="store_true",
        help="let the threads of engines on onnxruntime wait busily between layers, as those of other systems on "
        "it do: sooner on an idle machine, later on one whose cores are busy",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the result (default: a new file in results/ of the cache); with --sweep a folder, where the same "
        "command goes on with what is missing (default: sweep/ of the cache)",
    )
    _add_sweep(parser)
    parser.set_defaults(run=bench_verb.bench)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a sweep",
        "Builds an engine of every combination, and compares each with the first that passes.",
    )
    group.add_argument(
        "--sweep",
        action="store_true",
        help="build, check, measure and compare; goes on where it was stopped",
    )
    for option, text in (
        ("precision", "all"),
        ("placement", f"of int8: {DEFAULT_PLACEMENT}"),
        ("mlp", "both"),
        ("tail", "native, and kernel on a GPU"),
        ("backend", "those that run here"),
    ):
        group.add_argument(
            f"--{option}",
            type=sweep_plan.several(option),
            metavar="A,B...",
            help=f"{', '.join(sweep_plan.AXES[option])} (default: {text})",
        )


def sizes(text: str) -> tuple[int, ...]:
    """``--batch``: one number or several, as ``1,4,16``."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one batch or several, like 1,4,16")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def seconds(text: str) -> float:
    """``--seconds``: a positive number."""
    if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", text) or float(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return float(text)
