"""The other side of a loop over Zenoh, on loopback, and a loop."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zenoh
from PIL import Image as Pillow

from convcut_trt.robots.messages import Header, Time
from convcut_trt.stream import Stream

PATIENCE_S = 10.0
HEADER = Header(Time(1_700_000_000, 5), "front")
PICTURE = np.repeat(np.repeat(np.array([[[250, 10, 10], [10, 10, 250]]], np.uint8), 24, 1), 32, 0)


def encoded(codec: str = "JPEG", level: int | None = None) -> bytes:
    """The picture, or one of a single grey level, as a file's bytes."""
    out = io.BytesIO()
    pixels = PICTURE if level is None else np.full((32, 48, 3), level, np.uint8)
    Pillow.fromarray(pixels).save(out, codec)
    return out.getvalue()


def wait(until: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.002)


def session(**settings: Any) -> Any:  # Zenoh's stubs leave methods without types
    config = zenoh.Config()
    settings = {"scouting/multicast/enabled": False, "timestamping/enabled": True, **settings}
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return zenoh.open(config)


def listening(port: int) -> Any:
    return session(**{"listen/endpoints": [f"tcp/127.0.0.1:{port}"]})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(port: int, *options: str) -> str:
    """The options of an address."""
    ends = (f"connect=tcp/127.0.0.1:{port}", "listen=tcp/127.0.0.1:0")
    return "?" + "&".join((*ends, *options))


class Robot:
    """The other side: a session that cameras and listeners of the tests share."""

    def __init__(self) -> None:
        self.port = free_port()
        self.session = listening(self.port)
        self._subscribers: list[object] = []

    def camera(self, key: str) -> Any:
        """A publisher that loses nothing, once somebody listens."""
        block = zenoh.CongestionControl.BLOCK
        publisher = self.session.declare_publisher(key, congestion_control=block)
        wait(lambda: publisher.matching_status.matching, f"a subscriber of {key}")
        return publisher

    def listen(self, key: str) -> list[zenoh.Sample]:
        samples: list[zenoh.Sample] = []
        self._subscribers.append(self.session.declare_subscriber(key, samples.append))
        return samples

    def tokens(self) -> set[str]:
        replies = self.session.liveliness().get("@ros2_lv/**", timeout=5.0)
        return {str(reply.ok.key_expr) for reply in replies}


def one_face(picture: np.ndarray) -> Any:
    return np.array([[4.0, 4.0, 24.0, 24.0]])


def pump(stream: Stream, sink: Any) -> threading.Thread:
    """The robot's loop, in a thread."""

    def run() -> None:
        for answer in stream:
            sink.send(answer)
        sink.report(stream.health())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
