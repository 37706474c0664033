"""The robot loop from camera to answer, over Zenoh on one machine: latency, its parts, CPU time, memory, drops.

    python -m bench.robot --minutes 10 --yunet face_detection_yunet_2023mar.onnx
    python -m bench.robot --minutes 1 --overload --yunet face_detection_yunet_2023mar.onnx

Three processes (``robot_ends``): a camera that sends JPEGs of 640x480 with one moving face, the loop with the
bundled model and a detector, a listener. ``--overload`` sends ten times as many. Writes ``robot.json`` and
``robot.md``; ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.about import about, keep
from bench.robot_ends import COLUMNS, Plan, camera, listener, loop
from bench.robot_page import markdown
from convcut_trt.build import build
from convcut_trt.errors import InputError
from convcut_trt.faces.detect import detector
from convcut_trt.fields import sha256, write_file
from convcut_trt.guard import guarded
from convcut_trt.home import DEFAULT_MODEL, find_model
from convcut_trt.optional import load
from convcut_trt.progress import Progress
from convcut_trt.request import Request

RESULTS = Path(__file__).parent / "results"
RATE = 30.0
OVERLOAD = 10
MOST_CPU_MS = 1.0
"""The budget of our own code: median CPU time a frame."""
MOST_GROWTH_MIB = 8.0
"""By how much memory may grow after the first 30 seconds (a tenth of shorter runs): less than nine raw frames."""
PERCENTILES = (50, 95, 99)
_PATIENCE_S = 60.0

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def run(plan: Plan) -> dict[str, Any]:
    """Runs the three processes to their end.

    Returns:
        ``camera``, ``loop`` and ``answers``: what each told.

    Raises:
        InputError: One of them died.
    """
    context = multiprocessing.get_context("spawn")
    queues = {name: context.Queue() for name in ("camera", "loop", "answers")}
    ready, listening, end = context.Event(), context.Event(), context.Event()
    ends = [
        context.Process(target=loop, args=(plan, queues["loop"], ready, end)),
        context.Process(target=listener, args=(plan, queues["answers"], listening, end)),
        context.Process(target=camera, args=(plan, queues["camera"])),
    ]
    told = {}
    try:
        for process, flag in zip(ends, (ready, listening, None), strict=True):
            process.start()
            if flag is not None and not flag.wait(_PATIENCE_S):
                raise InputError(
                    "a process of the measurement did not start: see its own message above"
                )
        told["camera"] = queues["camera"].get(timeout=plan.seconds * 2 + _PATIENCE_S)
        time.sleep(1)  # for the last answer
        end.set()
        for name in ("loop", "answers"):
            told[name] = queues[name].get(timeout=_PATIENCE_S)
        for process in ends:
            process.join(_PATIENCE_S)
    finally:
        for process in ends:
            if process.is_alive():
                process.kill()
    return told


def summary(plan: Plan, told: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run; times in ms.

    Args:
        plan: See ``Plan``.
        told: See ``run``.
    """
    rows, health, heard = told["loop"]["rows"], told["loop"]["health"], told["answers"]
    column = dict(zip(COLUMNS, rows.T, strict=True))
    sequence, order = column["sequence"], heard[:, 0]
    sent = told["camera"]["sent"]
    once = len(set(order.tolist())) == len(order)
    # What the listener heard, row by row; ordered, so that both sides are the same frames.
    received = np.full(len(rows), np.nan)
    at = np.searchsorted(sequence, order)
    received[at] = heard[:, 1]
    work = column["sent"] - column["begun"]
    own = work - sum(column[name] for name in ("decode", "detect", "infer"))
    own = own - (column["sent"] - column["answered"])
    parts = {
        "camera to loop": column["arrived"] - column["taken"],
        "wait for its turn": column["begun"] - column["arrived"],
        "decode": column["decode"],
        "detection": column["detect"],
        "inference": column["infer"],
        "our own code": own,
        "loop to listener": received - column["answered"],
        "total": received - column["taken"],
    }
    cpu = (column["cpu"] + column["intake_cpu"]) / 1e6
    memory = told["loop"]["memory"]
    settled = memory[min(30, len(memory) // 10) :]
    before = np.concatenate([[work[0]], work[:-1]])
    frame_ms = column["latency"] / 1e6
    found = {
        "rate": plan.rate,
        "seconds": told["camera"]["seconds"],
        "sent": sent,
        "camera_behind": told["camera"]["behind"],
        "arrived": health["frames"],
        "answered": len(rows),
        "dropped": health["dropped"],
        "bad": health["bad"],
        "lost_on_the_way": told["loop"]["lost"],
        "heard": len(heard),
        "one_face": float((column["faces"] == 1).mean()),
        "latency_ms": {name: _percentiles(values / 1e6) for name, values in parts.items()},
        "each_minute_ms": _minutes(column["taken"], parts["total"] / 1e6),
        "work_ms": _percentiles(work / 1e6),
        "loop_latency_ms": _percentiles(frame_ms),
        # A frame waits for the one in work at most, and is then worked on itself.
        "within_two_frames_of_work": float((column["latency"] <= before + work).mean()),
        "own_cpu_ms": {
            **_percentiles(cpu),
            "without_crops": _percentiles(cpu - column["crop_cpu"] / 1e6),
            "loop": float(np.median(column["cpu"])) / 1e6,
            "crop": float(np.median(column["crop_cpu"])) / 1e6,
            "reading": float(np.median(column["intake_cpu"])) / 1e6,
        },
        "memory_mib": {"settled": settled[0], "end": memory[-1], "most": max(memory)},
    }
    found["kept"] = {
        "answered once and in order": bool(once and (np.diff(order) > 0).all())
        and bool((np.diff(sequence) > 0).all()),
        "every answer heard": len(heard) == len(rows),
        "drops counted exactly": sent - len(told["loop"]["lost"])
        == len(rows) + health["dropped"] + health["bad"],
        "nothing lost on the way": not told["loop"]["lost"],
        "own CPU time below 1 ms": found["own_cpu_ms"]["p50"] < MOST_CPU_MS,
        "memory flat": memory[-1] - settled[0] < MOST_GROWTH_MIB,
        "99 % answered within two frames of work": found["within_two_frames_of_work"] >= 0.99,
    }
    return found


def _percentiles(values: F64) -> dict[str, float]:
    figures = np.nanpercentile(values, PERCENTILES)
    return {f"p{name}": float(value) for name, value in zip(PERCENTILES, figures, strict=True)}


def _minutes(taken: I64, total: F64) -> list[dict[str, float]]:
    """The percentiles of each minute."""
    minute = (taken - taken[0]) // (60 * 10**9)
    return [_percentiles(total[minute == number]) for number in range(int(minute[-1]) + 1)]


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes both files."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.robot",
        description="Measure the robot loop from camera to answer, over Zenoh.",
        epilog="example: python -m bench.robot --minutes 10 --yunet face_detection_yunet_2023mar.onnx",
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N")
    parser.add_argument("--rate", type=float, default=RATE, metavar="HZ", help="pictures a second")
    parser.add_argument("--overload", action="store_true", help=f"send {OVERLOAD} times as many")
    parser.add_argument(
        "--yunet", type=Path, metavar="FILE", help="YuNet's .onnx; else what `run` would take"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 600 or not 0 < options.rate <= 1000:
        parser.error("give --minutes up to 600 and --rate up to 1000, both more than 0")
    find = type(detector(None if options.yunet is None else str(options.yunet))).__name__
    file = options.yunet if find == "YuNet" else None
    given = f" --yunet {file.name}" if file else ""
    more = " --overload" if options.overload else ""
    command = (
        f"python -m bench.robot --minutes {options.minutes:g} --rate {options.rate:g}{more}{given}"
    )
    origin = about([command])
    origin["versions"]["opencv"] = load("cv2", "faces").__version__
    origin["versions"]["zenoh"] = version("eclipse-zenoh")
    if file is not None:
        origin["file"] = {"name": file.name, "sha256": sha256(file)}
    with tempfile.TemporaryDirectory() as folder:
        with Progress(quiet=True) as progress:
            request = Request("fp32", Path(folder), backend="onnxruntime")
            engine = build(find_model(DEFAULT_MODEL), request, progress)
        rate = options.rate * (OVERLOAD if options.overload else 1)
        ports = _free_ports(2)
        plan = Plan(rate, options.minutes * 60, engine.path, options.yunet, *ports)
        load_before = os.getloadavg()
        found = summary(plan, run(plan))
    origin["machine"]["load"] = [round(load_before[0], 2), round(os.getloadavg()[0], 2)]
    origin |= {"detector": find, "engine": "conv-cut-mini, fp32, onnxruntime, one thread"}
    options.out.mkdir(parents=True, exist_ok=True)
    part = f"{rate:g} Hz, {find}"
    whole = keep(options.out / "robot.json", "CPU", part, {**origin, **found})
    write_file(options.out / "robot.md", markdown(whole).encode())
    for name, kept in found["kept"].items():
        print(f"{'kept' if kept else 'NOT KEPT':8} {name}")
    print(options.out / "robot.md")
    return 0 if all(found["kept"].values()) else 1


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
