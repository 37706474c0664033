"""What onnxruntime's threads cost that go on spinning after a run: why our sessions' threads do not.

    python -m bench.spinning

The bundled model on two sessions, one with onnxruntime's default and one without spinning, in turns: asked 30 times
a second and back to back. Writes ``spinning.json``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.about import about
from convcut_trt.fields import write_json
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.optional import load
from convcut_trt.spec import INPUT

RESULT = Path(__file__).parent / "results" / "spinning.json"
ROUNDS = 6
WAYS = {"30 Hz": (1 / 30, 60), "back to back": (0.0, 200)}
"""Way -> pause in front of each call in seconds, and calls of a round."""


def turn(session: Any, faces: np.ndarray, pause: float, calls: int) -> dict[str, float]:
    """One round: median and 90th percentile of a call in milliseconds, and the cores that the process kept busy."""
    times = []
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(calls):
        time.sleep(pause)
        begun = time.perf_counter()
        session.run(None, {INPUT: faces})
        times.append(time.perf_counter() - begun)
    cores = (time.process_time() - cpu) / (time.perf_counter() - start)
    p50, p90 = np.percentile(times, [50, 90]) * 1e3
    return {"p50_ms": float(p50), "p90_ms": float(p90), "cores": cores}


def main() -> int:
    """Measures and writes."""
    onnxruntime = load("onnxruntime", "ort")
    model = find_model(DEFAULT_MODEL)
    sessions = {}
    for name, allowed in (("spinning", "1"), ("not spinning", "0")):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", allowed)
        sessions[name] = onnxruntime.InferenceSession(str(model.onnx), options)
    size = model.spec.size
    faces = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {
        way: {name: [] for name in sessions} for way in WAYS
    }
    random = np.random.default_rng(0)
    for way, (pause, calls) in WAYS.items():
        for _ in range(ROUNDS):
            for name in random.permutation(list(sessions)):
                time.sleep(0.1)  # until the other's threads have stopped
                turn(sessions[name], faces, 0.0, 10)
                rounds[way][name].append(turn(sessions[name], faces, pause, calls))
    report = {"schema": 1, **about(["python -m bench.spinning"]), "model": model.spec.name}
    write_json(RESULT, {**report, "rounds": rounds})
    for way, of in rounds.items():
        for name, found in of.items():
            figures = [sorted(one[key] for one in found) for key in ("p50_ms", "p90_ms", "cores")]
            print(f"{way:14}{name:14}", *(f"{f[0]:.2f} to {f[-1]:.2f}" for f in figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main, as_json=False))
