"""Publishes a camera, a video or a folder of pictures as JPEG over Zenoh, for `convcut-trt run zenoh:camera/front`.

    pip install 'convcut-trt[faces,zenoh]'
    python examples/robots/zenoh_camera.py examples              # a folder or a video starts over at its end
    python examples/robots/zenoh_camera.py 0 --connect tcp/192.168.1.5:7447

Beside each picture travel its number and the time it was taken, two little-endian int64.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import time
from collections.abc import Iterator

import zenoh
from PIL import Image

from convcut_trt.errors import ConvcutError
from convcut_trt.sources import Frame, as_frame, open_source


def frames(name: str, rate: float) -> Iterator[Frame]:
    """The frames of a camera as they come, those of a file at a rate and again and again."""
    due = time.monotonic()
    while True:
        source = open_source(name)
        live = getattr(source, "live", True)
        for number, item in enumerate(source):
            if not live:
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due, time.monotonic() - 1) + 1 / rate
            yield as_frame(item, number)
        if live:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description="Publish pictures as JPEG over Zenoh.")
    parser.add_argument("source", help="a camera's index, a video file or a folder of pictures")
    parser.add_argument("--key", default="camera/front", help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=30.0, help="pictures a second of a file")
    parser.add_argument("--count", type=int, help="end after so many pictures")
    parser.add_argument("--connect", action="append", default=[], metavar="ENDPOINT")
    parser.add_argument("--listen", action="append", default=[], metavar="ENDPOINT")
    options = parser.parse_args()

    config = zenoh.Config()
    if options.connect or options.listen:
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("connect/endpoints", json.dumps(options.connect))
    if options.listen:
        config.insert_json5("listen/endpoints", json.dumps(options.listen))
    with zenoh.open(config) as session:
        # Who cannot follow loses pictures; the camera never waits.
        publisher = session.declare_publisher(
            options.key,
            encoding="image/jpeg",
            congestion_control=zenoh.CongestionControl.DROP,
        )
        for number, frame in enumerate(frames(options.source, options.rate), 1):
            taken = time.time_ns()
            jpeg = io.BytesIO()
            Image.fromarray(frame.picture()).save(jpeg, "JPEG", quality=90)
            publisher.put(jpeg.getvalue(), attachment=struct.pack("<qq", number, taken))
            if number == options.count:
                break
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConvcutError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
