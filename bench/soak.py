"""The robot loop for hours: whether memory, open files, threads, latency and timestamps stay what they are.

    python -m bench.soak --minutes 120

A camera of 30 pictures a second with known stamps and boxes, the bundled model on onnxruntime, and answers as JSON
lines into a file that is checked and deleted about once a minute. It takes about a quarter of a core, so that other
work may run beside it; how much did stands with the result. Ctrl-C keeps what was measured. Writes ``soak.json``
and ``soak.md``; ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.about import about, keep
from bench.soak_checks import KEPT, checks
from bench.soak_ends import Camera
from bench.soak_loop import soak
from bench.soak_page import markdown
from convcut_trt.engine import load
from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.measuring.provenance import machine
from convcut_trt.progress import Progress

RESULTS = Path(__file__).parent / "results"
RATE = 30.0


def _built(folder: Path) -> Path:
    """The bundled model's engine, built by a process of its own, whose memory is not this one's."""
    build = ["build", DEFAULT_MODEL, "--precision", "fp32", "--backend", "onnxruntime"]
    command = [sys.executable, "-m", "convcut_trt", *build, "-o", str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise InputError("the bundled model was not built: see the message above")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes both files."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Run the robot loop for hours and see that nothing grows, slows down or drifts.",
        epilog="example: python -m bench.soak --minutes 120",
    )
    parser.add_argument("--minutes", type=float, default=120.0, metavar="N", help="default: 120")
    parser.add_argument("--engine", type=Path, metavar="E", help="default: the bundled model, fp32")
    parser.add_argument(
        "-o", "--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 10_000:
        parser.error("give --minutes of more than 0, and up to 10000")
    given = f" --engine {options.engine.name}" if options.engine else ""
    origin = about([f"python -m bench.soak --minutes {options.minutes:g}{given}"])
    origin["machine"]["processor"] = machine().processor
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        camera = Camera(RATE, options.minutes * 60)
        with load(options.engine or _built(Path(folder)), threads=1) as engine:
            asked, flavour = engine.manifest.precision["asked"], engine.manifest.flavour
            origin["engine"] = f"{engine.spec.name}, {asked}, {flavour}, one thread"
            found = soak(engine, camera, Path(folder), progress, camera.find)
    judged = checks(found, RATE)
    part = f"{options.minutes:g} min at {RATE:g} Hz"
    part += "" if found["complete"] else ", stopped"
    result = {**origin, "rate": RATE, "checks": [asdict(check) for check in judged], **found}
    whole = keep(options.out / "soak.json", "CPU", part, result)
    write_file(options.out / "soak.md", markdown(whole).encode())
    for check in judged:
        print(f"{check.verdict:10} {check.name}: {check.reason}")
    print(options.out / "soak.md")
    if not found["complete"]:
        return 130
    return 0 if all(check.verdict == KEPT for check in judged) else 1


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
