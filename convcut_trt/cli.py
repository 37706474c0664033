"""The command line. Exit codes: 0 done; 1 a gate or a check failed; 2 usage, input or a missing backend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from convcut_trt import __version__, arguments, commands, lab
from convcut_trt.guard import guarded
from convcut_trt.measuring import bench_entrants, bench_options, bench_verb, sweep
from convcut_trt.measuring.bench_entrants import Peers

_ABOUT = "Takes the Conv-cut facial-expression network to a verified engine on a robot."
_WAY = """\
The way, in four commands:
  convcut-trt doctor                               what this machine can do, and what to install next
  convcut-trt build --precision fp16               an engine for it, held to its gates
  convcut-trt predict PICTURE --draw out.png       what the faces in a picture express
  convcut-trt run 0                                what a camera sees, as it happens: a line of JSON a frame

For the GPU of another machine:   convcut-trt build --precision fp16 --target rtx4060ti
Every verb, with an example:      convcut-trt --help, convcut-trt VERB --help
Read on, in the repository:       docs/README.md; by the text of an error: docs/troubleshooting.md
"""


def main(arguments: Sequence[str] | None = None, peers: Peers | None = None) -> int:
    """Runs one verb and returns its exit code. A user's mistake prints one sentence, no traceback.

    Args:
        arguments: As typed.
        peers: What ``bench --against`` takes beside engines; None leaves peers to the checkout.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in lab.VERBS:
        return guarded(lambda: lab.run(given[0], given[1:]), as_json=False)
    options = _parser().parse_args(given)
    if options.run is bench_verb.bench:
        if options.sweep:
            return guarded(lambda: sweep.sweep(options), as_json=options.json)
        if peers is None and bench_entrants.names_peers(options.against):
            return guarded(lambda: lab.run("bench", given[1:]), as_json=options.json)
        return guarded(lambda: bench_verb.bench(options, peers), as_json=options.json)
    return guarded(lambda: int(options.run(options)), as_json=options.json)


def _show_the_way(options: argparse.Namespace) -> int:
    """What stands in for a verb where there is none."""
    print(f"{_ABOUT}\n\n{_WAY}", end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convcut-trt",
        description=_ABOUT,
        epilog=_WAY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"convcut-trt {__version__}")
    parser.set_defaults(run=_show_the_way, json=False)
    verbs = parser.add_subparsers(metavar="VERB")
    _add_build(verbs)
    _add_verify(verbs)
    _add_predict(verbs)
    bench_options.add(verbs)
    _add_run(verbs)
    inspect = arguments.add_verb(
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
    doctor = arguments.add_verb(
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


def _add_build(verbs: object) -> None:
    parser = arguments.add_verb(
        verbs,
        "build",
        "build an engine, hold it to the gates, and publish it or nothing",
        "convcut-trt build conv-cut-mini --precision fp16 --backend tensorrt-rtx --target rtx4060ti -o engines",
    )
    arguments.add_model(parser)
    parser.add_argument(
        "--precision",
        default="fp16",
        help="fp32, fp16, bf16 or int8; auto: the fastest that passes (default: %(default)s)",
    )
    parser.add_argument(
        "--backend",
        default="auto",
        help="tensorrt, tensorrt-rtx, onnxruntime, openvino; auto: the first that runs here, or tensorrt-rtx with "
        "--target",
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
        type=arguments.batch,
        default="1:4:16",
        metavar="MIN:OPT:MAX",
        help="batch profile, or one number for a fixed batch (default: %(default)s)",
    )
    parser.add_argument(
        "--placement", help="what int8 quantises: pw, fc1, fc2 or pw+dw (default: pw)"
    )
    parser.add_argument(
        "--mlp",
        help="conv or linear: the MLPs as 1x1 convolutions or as matrix products "
        "(default: conv; linear for int8 on a CPU)",
    )
    parser.add_argument(
        "--tail",
        default="native",
        help="native: inside the engine; kernel: the engine ends at the map and our CUDA kernel goes on; auto: the "
        "faster, measured on this device (default: %(default)s)",
    )
    parser.add_argument(
        "--layout",
        choices=("plain", "triton"),
        default="plain",
        help="triton: also write a model repository for NVIDIA's inference server into DIR/triton "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and say what would be built, without building",
    )
    parser.add_argument(
        "--workspace",
        type=arguments.count,
        metavar="MIB",
        help="cap on the builder's scratch memory on the GPU (default: none; 512 where it shares the machine's)",
    )
    parser.add_argument(
        "--timing-cache",
        type=Path,
        metavar="DIR",
        help="keep what the builder of tensorrt measured, for faster builds later",
    )
    parser.add_argument(
        "--ranges",
        type=Path,
        metavar="FILE",
        help="for int8, from `calibrate` (default: NAME.ranges.json beside the model)",
    )
    _add_faces(parser)
    parser.add_argument(
        "--budget",
        type=arguments.budget,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="tighten or loosen a gate; recorded in the manifest",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to publish (default: the cache)"
    )
    parser.set_defaults(run=commands.build)


def _add_verify(verbs: object) -> None:
    parser = arguments.add_verb(
        verbs,
        "verify",
        "hold an engine to its gates again, on this device",
        "convcut-trt verify engines/conv-cut-mini.fp16.onnxruntime.json --data ferplus.npz",
    )
    parser.add_argument("engine", type=Path, help="a manifest, .engine or typed .onnx file")
    parser.add_argument(
        "--model", help="the FP32 model it was built from (default: the bundled one of its name)"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run the engine's file though it is not the published one; if it passes, the manifest takes it",
    )
    _add_faces(parser)
    parser.set_defaults(run=commands.verify)


def _add_faces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="FACES",
        help="labelled faces for the gates: clean test and validation, or all (default: 256 bundled pictures)",
    )
    parser.add_argument(
        "--gate-pictures", type=arguments.count, metavar="N", help="use only N of the faces"
    )


def _add_predict(verbs: object) -> None:
    parser = arguments.add_verb(
        verbs,
        "predict",
        "say what faces in pictures express",
        "convcut-trt predict photo.jpg --detector haar --draw out.png",
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="pictures")
    arguments.add_engine(parser)
    arguments.add_detector(parser)
    parser.add_argument(
        "--box", type=arguments.box, metavar="X,Y,W,H", help="the face in the picture, in pixels"
    )
    parser.add_argument(
        "--draw", type=Path, metavar="OUT", help="annotated picture; a folder for several"
    )
    parser.set_defaults(run=commands.predict)


def _add_run(verbs: object) -> None:
    parser = arguments.add_verb(
        verbs,
        "run",
        "the robot loop: a camera in, expressions out to a robot, a file or stdout",
        "convcut-trt run 0 --to stdout --to zenoh:robot/expressions",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a camera's index, a video file, a folder of pictures, an address (rtsp://...), a GStreamer pipeline, "
        "zenoh:KEY, dds:TOPIC, ros2:TOPIC or a .mcap recording",
    )
    parser.add_argument(
        "--to",
        action="append",
        metavar="WHERE",
        help="stdout, zenoh:KEY, dds:TOPIC, ros2:TOPIC, or a .mcap, .mp4, .avi or .mkv file; may be given several "
        "times (default: stdout)",
    )
    arguments.add_engine(parser)
    arguments.add_detector(parser)
    parser.add_argument(
        "--rate", type=float, metavar="HZ", help="pictures per second of a folder, in real time"
    )
    parser.add_argument(
        "--every", action="store_true", help="answer every frame, and let the source wait for it"
    )
    parser.add_argument(
        "--frames", type=arguments.count, metavar="N", help="end after N answered frames"
    )
    parser.add_argument(
        "--deadline", type=float, metavar="MS", help="count answers that take longer, and mark them"
    )
    parser.add_argument(
        "--stall",
        type=float,
        default=5.0,
        metavar="S",
        help="say so when no frame comes for this long (default: %(default)s)",
    )
    for option, name, unit, text in (
        (
            "--reject",
            "reject",
            "P",
            "call a face unknown below this probability (default: the model's)",
        ),
        (
            "--smooth",
            "time_constant",
            "S",
            "time constant of the smoothing, 0 for none (default: 0.3)",
        ),
        (
            "--hysteresis",
            "hysteresis",
            "P",
            "lead that another expression needs to take over (default: 0.1)",
        ),
        ("--dwell", "dwell", "S", "how long a label stays at least (default: 0.5)"),
        ("--gap", "gap", "S", "how long a face may be away and keep its number (default: 1)"),
    ):
        parser.add_argument(option, dest=name, type=float, metavar=unit, help=text)
    parser.set_defaults(run=commands.run)
