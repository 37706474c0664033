"""The examples for DDS: a camera and a listener, two processes around a real loop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from convcut_trt.faces.detect import whole_picture
from convcut_trt.robots.dds_node import open_sink, open_source
from convcut_trt.stream import Stream
from tests.results import ABOUT
from tests.robots.dds_loop.others import EXAMPLES, PATIENCE_S
from tests.stream.loop import FakeEngine


def test_the_examples_over_two_processes(domain: int, tmp_path: Path) -> None:
    """A camera in one, the loop here, and a listener in another."""
    Pillow.fromarray(np.full((64, 64, 3), 250, np.uint8)).save(tmp_path / "face.png")
    topic = "/camera/image_raw/compressed"
    at = ["--domain", str(domain)]
    camera = [sys.executable, str(EXAMPLES / "dds_camera.py"), str(tmp_path), "--rate", "50", *at]
    listen = [sys.executable, str(EXAMPLES / "dds_listen.py"), "--count", "5", *at]
    source = open_source(f"{topic}?domain={domain}")
    sink = open_sink(f"?domain={domain}", ABOUT)
    with (
        subprocess.Popen(camera) as sender,
        subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener,
    ):
        guard = threading.Timer(PATIENCE_S, listener.kill)
        guard.start()
        try:
            with Stream(FakeEngine(), source, detector=whole_picture) as stream:
                for answer in stream:
                    sink.send(answer)
                    assert answer.frame.frame_id == "camera_color_optical_frame"
                    if listener.poll() is not None:
                        break
            assert listener.stdout is not None
            lines = listener.stdout.read().splitlines()
        finally:
            guard.cancel()
            sender.send_signal(signal.SIGINT)
            listener.kill()
            guard = threading.Timer(PATIENCE_S, sender.kill)
            guard.start()
        assert sender.wait() == 0
        guard.cancel()
    sink.close()
    assert len(lines) >= 5 and listener.returncode == 0
    assert all(line.split()[1:] == ["f00001", "neutral", "0.98"] for line in lines), lines
    stamps = [line.split()[0] for line in lines]
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
