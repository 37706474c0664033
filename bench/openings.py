"""How far identical sessions differ from opening to opening: what the verdicts of a comparison are tried on.

    python -m bench.openings --seconds 5 --openings 100 --out bench/results/openings.json

records A, A again, and A with a delay of 5 % of its interleaved median added to each call, all three in every
opening. It goes on where it was interrupted. Then the verdicts are tried on what was recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import openings_page
from bench.peers import cores
from convcut_trt import build
from convcut_trt.backends.base import Arrays, Runnable
from convcut_trt.engine import open_session
from convcut_trt.errors import InputError
from convcut_trt.fields import read_json, write_file
from convcut_trt.gates import BUDGETS, judged
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.manifest import EngineManifest, now
from convcut_trt.measuring import provenance
from convcut_trt.measuring.entrants import Work
from convcut_trt.measuring.measure import log_ratio
from convcut_trt.measuring.timed import F32, F64, U8
from convcut_trt.measuring.versus import Contender, of_blocks, opening
from convcut_trt.progress import Progress
from convcut_trt.request import Request

SCHEMA = 1
RESULT = Path(__file__).parent / "results" / "openings.json"
A, AGAIN, DELAYED = "A", "A again", "A delayed"
DELAY = 0.05
PERCENTILES = (0, 5, 10, 25, 50, 75, 90, 95, 99, 100)
KEPT = 100  # blocks of an opening
LAST, FIRST = 51, 5  # calls whose median the delay goes by: most, least
_FIX = "move it away, or choose another file with --out"


class Delayed:
    """A session whose calls wait busily after the engine has answered, for a share of what these take now.

    It goes by every second call: in front of each that counts, ``opening`` makes one that wakes the threads.

    Attributes:
        delays_s: Of every call.
    """

    def __init__(self, session: Runnable, share: float) -> None:
        """The first calls, from which it learns how long one takes, are not delayed."""
        self._session, self._share, self._counts = session, share, False
        self._last: deque[float] = deque(maxlen=LAST)
        self.delays_s: list[float] = []

    def run(self, images: U8, out: Arrays | None = None) -> dict[str, F32]:
        """See Runnable."""
        start = time.perf_counter()
        answers = self._session.run(images, out)
        now = time.perf_counter()
        if self._counts:
            self._last.append(now - start)
        self._counts = not self._counts
        if len(self._last) >= FIRST:
            # sorting is part of the wait, and far shorter
            delay = self._share * sorted(self._last)[len(self._last) // 2]
            self.delays_s.append(delay)
            while time.perf_counter() < now + delay:
                pass
        return answers


def record(
    manifest: EngineManifest, batch: int, seconds: float, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, F64]]:
    """One opening: what is kept of it, and all samples, milliseconds [blocks, 2] by name."""
    sessions: list[Delayed] = []

    @contextmanager
    def plain() -> Iterator[Runnable]:
        with open_session(manifest) as session:
            yield session

    @contextmanager
    def delayed() -> Iterator[Runnable]:
        with open_session(manifest) as session:
            sessions.append(Delayed(session, DELAY))
            yield sessions[-1]

    batches, answers = Work.read(manifest.spec, manifest.path.parent).batches(batch)
    budget = BUDGETS[manifest.precision["asked"]]["witnesses"]
    samples = opening(
        [
            Contender(name, source, batches, budget, answers)
            for name, source in ((A, plain), (AGAIN, plain), (DELAYED, delayed))
        ],
        seconds,
        random,
        quiet=True,
    )
    blocks = len(samples[A])
    kept = np.linspace(0, blocks - 1, min(KEPT, blocks)).astype(int)
    row = {
        "blocks": blocks,
        "load": round(os.getloadavg()[0], 2),
        "delay_us": round(float(np.median(sessions[0].delays_s)) * 1e6, 2),
        "log_ratios": {
            name: round(log_ratio(of_blocks(samples[A]), of_blocks(samples[name])), 6)
            for name in (AGAIN, DELAYED)
        },
        "percentiles_us": {
            name: [round(float(p) * 1e3, 1) for p in np.percentile(values, PERCENTILES)]
            for name, values in samples.items()
        },
        "blocks_us": {
            name: [round(float(ms) * 1e3) for ms in values[kept].ravel()]
            for name, values in samples.items()
        },
    }
    return row, samples


def main(given: Sequence[str] | None = None) -> int:
    """Records until there are as many openings as asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.openings", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of an opening")
    parser.add_argument("--openings", type=int, default=100, help="in all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE")
    parser.add_argument("--raw", type=Path, metavar="DIR", help="keep every sample here too")
    options = parser.parse_args(given)
    return guarded(lambda: _run(options), as_json=False)


def _run(options: argparse.Namespace) -> int:
    settings = {"seconds": options.seconds, "batch": options.batch, "threads": cores()}
    rows: list[dict[str, Any]] = []
    if options.out.is_file():
        fields = read_json(options.out, SCHEMA, InputError, _FIX)
        rows = [row.values for row in fields.objects("openings")]
        if (found := fields.get("settings", dict)) != settings:
            raise InputError(f"{options.out.name} was recorded with {found}: {_FIX}")
    if len(rows) < options.openings:
        _record(options, settings, rows)
    recorded = read_json(options.out, SCHEMA, InputError, _FIX)
    write_file(
        options.out.with_suffix(".md"), openings_page.page(recorded, A, (AGAIN, DELAYED)).encode()
    )
    return 0


def _record(
    options: argparse.Namespace, settings: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Adds openings to those there are, and writes all of them after each."""
    with tempfile.TemporaryDirectory(prefix="convcut-") as folder, Progress() as progress:
        model = find_model(DEFAULT_MODEL)
        request = Request(
            "fp32", Path(folder), backend="onnxruntime", judged=judged.bundled(model.spec.size, 16)
        )
        manifest = build.build(model, request, progress)
        while len(rows) < options.openings:
            progress("openings", len(rows), options.openings)
            row, samples = record(
                manifest, options.batch, options.seconds, np.random.default_rng(len(rows))
            )
            if options.raw is not None:
                raw: dict[str, Any] = {
                    name: times.astype(np.float32) for name, times in samples.items()
                }
                np.savez_compressed(options.raw / f"{len(rows):03}.npz", **raw)
            rows.append(row)
            whole = {
                "schema": SCHEMA,
                "command": f"python -m bench.openings --seconds {options.seconds:g} "
                f"--openings {options.openings} --batch {options.batch}",
                "commit": provenance.commit(),
                "date": now(),
                "versions": provenance.versions(),
                "machine": asdict(provenance.machine()),
                "engine": {"name": manifest.name, "precision": "fp32", **manifest.sha256},
                "settings": settings,
                "percentiles": PERCENTILES,
                "openings": rows,
            }
            write_file(options.out, (_lines(whole) + "\n").encode())


def _lines(whole: dict[str, Any]) -> str:
    """JSON with a line for each field, and for each opening."""
    rows = ",\n".join(map(json.dumps, whole["openings"]))
    head = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(value)}"
        for name, value in whole.items()
        if name != "openings"
    )
    return f'{{\n{head},\n"openings": [\n{rows}\n]\n}}'


if __name__ == "__main__":
    sys.exit(main())
