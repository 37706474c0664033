"""The examples for Zenoh: a camera and a listener, two processes around a real loop."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from convcut_trt.robots.zenoh_node import open_sink, open_source
from convcut_trt.stream import Stream
from tests.results import ABOUT
from tests.robots.zenoh_loop.robot import free_port, one_face, pump
from tests.stream.loop import FakeEngine

EXAMPLES = Path(__file__).parents[3] / "examples"
PATIENCE_S = 30.0


def test_camera_loop_listener() -> None:
    into, out = (f"tcp/127.0.0.1:{free_port()}" for _ in range(2))
    camera = [
        sys.executable,
        str(EXAMPLES / "robots/zenoh_camera.py"),
        str(EXAMPLES),
        "--rate",
        "50",
    ]
    listener = [sys.executable, str(EXAMPLES / "robots/zenoh_listen.py"), "faces", "--count", "3"]
    sending = subprocess.Popen([*camera, "--connect", into, "--listen", "tcp/127.0.0.1:0"])
    heard = subprocess.Popen([*listener, "--listen", out], stdout=subprocess.PIPE, text=True)
    try:
        # Whoever is started first waits for the others.
        source = open_source(f"camera/front?listen={into}")
        address = f"faces?connect={out}&listen=tcp/127.0.0.1:0&wait={PATIENCE_S}"
        with (
            closing(open_sink(address, ABOUT)) as sink,
            Stream(FakeEngine(), source, detector=one_face) as stream,
        ):
            thread = pump(stream, sink)
            said, _ = heard.communicate(timeout=PATIENCE_S)
            stream.stop()
            thread.join(PATIENCE_S)
        assert sending.poll() is None
    finally:
        for process in (sending, heard):
            process.kill()
            process.wait(PATIENCE_S)
    lines = said.splitlines()
    assert heard.returncode == 0 and len(lines) == 3
    numbers = [int(line.split()[1].rstrip(":")) for line in lines]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1
    assert all("face 1 " in line and line.endswith("%") for line in lines)
