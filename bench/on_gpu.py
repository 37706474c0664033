"""FP32 and FP16 engines of the bundled model for the GPU that is here, benched beside every peer that is.

    python -m bench.on_gpu --out bench/results --backend tensorrt

builds them as anybody would, and writes ``bench.DEVICE.BACKEND.json``, an ordinary result of the verb ``bench``:
times between events at every batch, latencies, comparisons.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import about
from bench.peers import PEERS
from bench.tails import BACKENDS, RESULTS
from convcut_trt import backends, cli
from convcut_trt.backends.probe import gpu
from convcut_trt.errors import GateFailed, InputError
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.measuring.bench_entrants import ALL
from convcut_trt.measuring.versus import LEAST
from convcut_trt.scratch import scratch_folder

PRECISIONS = ("fp32", "fp16")
SECONDS, QUICK_SECONDS = 2.0, 0.2
_REFUSED = InputError.exit_code  # of a verb that cannot do it here, and has said why


def run(out: Path, backend: str, seconds: float) -> int:
    """Builds and benches; the exit code.

    Nothing is wrong where this backend has no engines for this GPU: that is said, and nothing is written.

    Args:
        out: Folder of the results.
        backend: One of ``tails.BACKENDS``.
        seconds: Of each measurement, and of each opening.
    """
    found, reason = gpu(), backends.get(backend).can_run()
    if reason or isinstance(found, str):
        print(f"no bench of {backend}: {reason or found}")
        return 0
    failed = 0
    with scratch_folder() as folder:
        engines = []
        for precision in PRECISIONS:
            place = str(folder / precision)
            asked = ["--precision", precision, "--backend", backend, "-o", place]
            code = cli.main(["build", DEFAULT_MODEL, *asked])
            if code == 0:
                engines.append(place)
            elif code == GateFailed.exit_code:
                failed = code
            elif code != _REFUSED:
                return code  # it was interrupted
        if not engines:
            print(f"no bench of {backend}: it has no engine for {found.name}, see above")
            return failed
        path = out / f"bench.{about.slug(found.name)}.{backend}.json"
        how = ["--against", ALL, "--seconds", f"{seconds:g}", "--openings", str(LEAST)]
        return cli.main(["bench", *engines, *how, "-o", str(path)], PEERS) or failed


def main(given: Sequence[str] | None = None) -> int:
    """Builds and benches with one backend."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.on_gpu",
        description="Build FP32 and FP16 engines for this GPU, and bench them beside every peer that is here.",
        epilog="example: python -m bench.on_gpu --backend tensorrt",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument("--quick", action="store_true", help="short measurements")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    return run(options.out, options.backend, QUICK_SECONDS if options.quick else SECONDS)


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
