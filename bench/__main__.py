"""Everything that needs a GPU, one part after the other: what ``make gpu`` measures.

    python -m bench --out bench/results [--quick]

Each part has a process of its own and writes its result by itself: where one fails the others are kept. One that
takes too long is interrupted first, so that it can write what it has.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
FEW_FACES = 16
GRACE_S = 20.0
# What a part is, its module and arguments, and the seconds after which it is ended: a full run, a quick one.
PARTS: tuple[tuple[str, tuple[str, ...], tuple[int, int]], ...] = (
    ("preprocessing kernel", ("bench.kernels", "--part", "preprocessing"), (60, 30)),
    ("tail kernel", ("bench.kernels", "--part", "tail"), (260, 60)),
    ("engine, TensorRT-RTX", ("bench.tails", "--backend", "tensorrt-rtx"), (120, 90)),
    ("engine, TensorRT", ("bench.tails", "--backend", "tensorrt"), (300, 240)),
    ("layers, TensorRT-RTX", ("bench.gpu_layers", "--backend", "tensorrt-rtx"), (150, 90)),
    ("layers, TensorRT", ("bench.gpu_layers", "--backend", "tensorrt"), (300, 150)),
    ("bench, TensorRT-RTX", ("bench.on_gpu", "--backend", "tensorrt-rtx"), (550, 240)),
    ("bench, TensorRT", ("bench.on_gpu", "--backend", "tensorrt"), (550, 400)),
)


def run_part(arguments: Sequence[str], limit_s: float) -> str:
    """Runs a module in a process of its own; empty where it did well, else what became of it."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"ended after {limit_s:.0f} s"
    return "" if code == 0 else f"exit code {code}"


def main(given: Sequence[str] | None = None) -> int:
    """Runs all parts; 1 where one failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure all that needs a GPU."
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer measurements")
    options = parser.parse_args(given)
    out, failed = options.out.resolve(), 0
    for name, (module, *arguments), limits in PARTS:
        command = [module, "--out", str(out), *arguments]
        if options.quick:
            command += ["--faces", str(FEW_FACES)] if module == "bench.tails" else ["--quick"]
        start = time.monotonic()
        problem = run_part(command, limits[options.quick])
        print(f"bench: {name}: {problem or 'done'} ({time.monotonic() - start:.0f} s)", flush=True)
        failed += bool(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
