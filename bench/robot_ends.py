"""The three processes of ``bench.robot``: a camera, the robot's loop, and whoever listens to its answers.

All stamps are ``time.time_ns`` of one machine. Pictures are encoded beforehand, so that the camera costs little.
"""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import zenoh
from PIL import Image, ImageFilter

import convcut_trt.stream
from bench.robot_timing import Memory, Pixels, Spent, Timed, Watched
from convcut_trt.engine import load
from convcut_trt.faces.crop import cut_faces
from convcut_trt.faces.detect import detector
from convcut_trt.robots.sinks import About
from convcut_trt.robots.zenoh_keys import stamp
from convcut_trt.robots.zenoh_node import open_sink, open_source
from convcut_trt.stream import Stream

PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.png"
SIZE = (640, 480)
CYCLE = 90  # pictures until the face is where it was
CAMERA, ANSWERS = "camera/front", "faces/front"
_SIDE = 240  # of the portrait in the picture, pixels
_QUALITY = 90
_GRACE_S = 20.0  # for another process


class Flag(Protocol):
    """An event of ``multiprocessing``."""

    def set(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


@dataclass(frozen=True)
class Plan:
    """What all three know.

    Attributes:
        rate: Pictures a second.
        seconds: For how long.
        engine: Folder of the engine.
        yunet: YuNet's file; None is the default detector.
        into: Port at which the loop awaits the camera.
        out: Port at which it awaits the listener.
    """

    rate: float
    seconds: float
    engine: Path
    yunet: Path | None
    into: int
    out: int

    @property
    def frames(self) -> int:
        """How many pictures the camera means to send."""
        return round(self.rate * self.seconds)


COLUMNS = (
    *("sequence", "taken", "arrived", "begun", "decode", "detect", "infer", "answered", "sent"),
    *("latency", "cpu", "crop_cpu", "intake_cpu", "faces"),
)
"""Of an answer: its number; when its picture was taken, arrived, and had its turn; how long decoder, detector and
engine took; when the answer was handed to Zenoh, and when Zenoh had taken it; the stream's own latency; CPU time of
our own code in the loop, what of it cutting out the faces takes, and in the thread that reads; how many faces. In
ns."""


@cache
def pictures() -> list[bytes]:
    """JPEGs of 640x480 with one face, which moves on an ellipse before a blurred background."""
    with Image.open(PORTRAIT) as file:
        portrait = file.convert("RGB")
    background = portrait.resize(SIZE).filter(ImageFilter.GaussianBlur(25))
    face = portrait.crop((70, 20, 250, 200)).resize((_SIDE, _SIDE))
    made = []
    for number in range(CYCLE):
        angle = 2 * math.pi * number / CYCLE
        picture = background.copy()
        picture.paste(
            face, (round(200 + 180 * math.cos(angle)), round(120 + 100 * math.sin(angle)))
        )
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=_QUALITY)
        made.append(out.getvalue())
    return made


def camera(plan: Plan, told: Queue[Any]) -> None:
    """Sends the pictures by the clock, and tells how many; waits rather than that one is dropped."""
    jpegs = pictures()
    session = _session("connect/endpoints", plan.into)
    block = zenoh.CongestionControl.BLOCK
    publisher = session.declare_publisher(
        CAMERA, encoding="image/jpeg", congestion_control=block, express=True
    )
    _until(lambda: publisher.matching_status.matching, "the loop")
    begun, late = time.monotonic(), 0
    for number in range(plan.frames):
        wait = begun + number / plan.rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        else:
            late += 1
        publisher.put(jpegs[number % CYCLE], attachment=stamp(number, time.time_ns()))
    told.put({"sent": plan.frames, "behind": late, "seconds": time.monotonic() - begun})
    time.sleep(1)  # until the last one has left
    session.close()


def listener(plan: Plan, told: Queue[Any], ready: Flag, end: Flag) -> None:
    """Notes when which answer came."""
    rows: list[tuple[int, int]] = []

    def note(sample: zenoh.Sample) -> None:
        now = time.time_ns()
        rows.append((json.loads(sample.payload.to_bytes())["sequence"], now))

    session = _session("connect/endpoints", plan.out)
    subscriber = session.declare_subscriber(ANSWERS, note)
    ready.set()
    end.wait()
    subscriber.undeclare()
    told.put(np.array(rows, np.int64).reshape(-1, 2))
    session.close()


def loop(plan: Plan, told: Queue[Any], ready: Flag, end: Flag) -> None:
    """The robot's loop, timed; tells its rows, its health, and its memory by the second."""
    spent = Spent()
    # Touched beforehand, so that what is noted does not look like memory that grows.
    rows = np.full((plan.frames + 1, len(COLUMNS)), -1, np.int64)
    memory = Memory()
    cast(Any, convcut_trt.stream).cut_faces = Timed(cut_faces, "__call__", spent, "crop")
    with ExitStack() as opened:
        engine = opened.enter_context(load(plan.engine, threads=1))
        find = detector(None if plan.yunet is None else str(plan.yunet))
        spec = engine.spec
        about = About(spec.name, spec.classes, spec.reject)
        address = "{}?listen=tcp/127.0.0.1:{}"
        sink = opened.enter_context(closing(open_sink(address.format(ANSWERS, plan.out), about)))
        results = cast(Any, sink)._results
        cast(Any, sink)._results = Timed(results, "put", spent, "out")
        source = open_source(address.format(CAMERA, plan.into))
        timed_engine = Timed(engine, "infer", spent, "infer")
        timed_find = Timed(find, "__call__", spent, "detect")
        watched = Watched(source, spent)
        stream = opened.enter_context(
            Stream(cast(Any, timed_engine), watched, detector=cast(Any, timed_find))
        )
        threading.Thread(target=_stop_at, args=(end, stream), daemon=True).start()
        ready.set()
        count, due = 0, time.monotonic() + 1
        cpu = time.thread_time_ns()
        for result in stream:
            sink.send(result)
            own = time.thread_time_ns() - cpu
            taken = spent.take()
            out = taken["out"]
            pixels = cast(Pixels, result.frame.pixels)
            own -= sum(taken[name][1] for name in ("decode", "detect", "infer", "out"))
            rows[count] = (
                *(result.frame.sequence, result.frame.timestamp, pixels.arrived),
                *(taken["decode"][2], taken["decode"][0], taken["detect"][0], taken["infer"][0]),
                *(out[2], out[2] + out[0], round(result.latency * 1e9)),
                *(own, taken["crop"][1], pixels.cpu, len(result.faces)),
            )
            count += 1
            memory.note(count)
            cpu = time.thread_time_ns()
            if time.monotonic() > due:
                due += 1
                sink.report(stream.health())  # counts as the next frame's
        stream.close()
        health = asdict(stream.health())
    lost = [*watched.missing, *range(watched.due, plan.frames)]
    told.put({"rows": rows[:count], "health": health, "memory": memory.mib, "lost": lost})


def _stop_at(end: Flag, stream: Stream) -> None:
    end.wait()
    stream.stop()


def _session(setting: str, port: int) -> Any:
    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5(setting, json.dumps([f"tcp/127.0.0.1:{port}"]))
    return zenoh.open(config)


def _until(met: Callable[[], object], what: str) -> None:
    end = time.monotonic() + _GRACE_S
    while not met():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come within {_GRACE_S:g} s")
        time.sleep(0.01)
