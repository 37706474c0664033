"""What onnxruntime's threads cost that go on spinning after a run, and what it costs if they never do.

    python -m bench.spinning

The bundled model on sessions that differ in this alone, in turns: asked 30 times a second and back to back, on an
idle machine and beside a process that keeps one core busy. Every answer is held against the trained model's. Writes
``spinning.json``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.about import about
from convcut_trt.backends.onnxruntime import NO_SPINNING, SPINNING_IN_A_RUN
from convcut_trt.fields import write_json
from convcut_trt.gates import BUDGETS
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.measuring.entrants import Work
from convcut_trt.measuring.quiet import until_quiet
from convcut_trt.measuring.timed import F32, U8, Timed
from convcut_trt.optional import load
from convcut_trt.spec import INPUT, OUTPUTS

RESULT = Path(__file__).parent / "results" / "spinning.json"
ROUNDS = 10
SESSIONS = {
    "spinning": ("session.intra_op.allow_spinning", "1"),
    "spinning in a run": SPINNING_IN_A_RUN,
    "not spinning": NO_SPINNING,
}
"""Name -> the session option: onnxruntime's default, ours with ``spin``, and ours."""
BUSY = ", one core busy"
WAYS = {
    "30 Hz": (1 / 30, 60),
    "back to back": (0.0, 200),
    f"30 Hz{BUSY}": (1 / 30, 60),
    f"back to back{BUSY}": (0.0, 200),
}
"""Way -> pause in front of each call in seconds, and calls of a round. Those that end with ``BUSY`` run beside a
process that has enough to do for one core."""


def asking(session: Any, name: str, work: Work) -> Timed:
    """Asks a session of onnxruntime for one face after the other.

    Args:
        session: Of the model, in FP32.
        name: For messages.
        work: The model's witnesses.
    """
    place = OUTPUTS.index("probabilities")

    def ask(face: U8) -> F32:
        answer: F32 = session.run(None, {INPUT: face})[place]
        return answer

    faces, wanted = work.batches(1)
    fix = "take another version of onnxruntime"
    asks = [partial(ask, face) for face in faces]
    return Timed(name, asks, BUDGETS["fp32"]["witnesses"], wanted, fix)


def turn(call: Callable[[], float], pause: float, calls: int) -> dict[str, float]:
    """One round: median and 90th percentile of a call in milliseconds, and the cores that the process kept busy.

    Args:
        call: Makes one call and returns its milliseconds.
        pause: In front of each, seconds.
        calls: How many.
    """
    times = []
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(calls):
        time.sleep(pause)
        times.append(call())
    cores = (time.process_time() - cpu) / (time.perf_counter() - start)
    p50, p90 = np.percentile(times, [50, 90])
    return {"p50_ms": float(p50), "p90_ms": float(p90), "cores": cores}


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """As many processes that never wait, until the end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> int:
    """Measures and writes."""
    onnxruntime = load("onnxruntime", "ort")
    model = find_model(DEFAULT_MODEL)
    work = Work.read(model.spec, model.folder)
    sessions = {}
    for name, option in SESSIONS.items():
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(*option)
        session = onnxruntime.InferenceSession(str(model.onnx), options)
        sessions[name] = asking(session, name, work)
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {
        way: {name: [] for name in sessions} for way in WAYS
    }
    random = np.random.default_rng(0)
    for way, (pause, calls) in WAYS.items():
        with busy(1 if way.endswith(BUSY) else 0):
            for _ in range(ROUNDS):
                for name in random.permutation(list(sessions)):
                    until_quiet()
                    turn(sessions[name], 0.0, 10)
                    rounds[way][name].append(turn(sessions[name], pause, calls))
    report = {"schema": 1, **about(["python -m bench.spinning"]), "model": model.spec.name}
    write_json(RESULT, {**report, "rounds": rounds})
    for way, of in rounds.items():
        for name, found in of.items():
            figures = [sorted(one[key] for one in found) for key in ("p50_ms", "p90_ms", "cores")]
            print(f"{way:30}{name:18}", *(f"{f[0]:.2f} to {f[-1]:.2f}" for f in figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main, as_json=False))
