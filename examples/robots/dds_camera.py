"""A folder of pictures or a webcam as a ROS 2 camera over DDS, without ROS.

    python examples/robots/dds_camera.py 0
    convcut-trt run dds:/camera/image_raw/compressed --to dds:/humans/faces

Publishes sensor_msgs/CompressedImage; the pictures of a folder over and over. Ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from PIL import Image as Pillow

from convcut_trt.robots.dds_wire import DdsWire
from convcut_trt.robots.messages import CompressedImage, Header, Time
from convcut_trt.sources import Frame, Pixels, as_frame, open_source


def again(folder: str, rate: float) -> Iterator[Frame | Pixels]:
    """The pictures of a folder, over and over."""
    source = open_source(folder, rate)
    while True:
        yield from source
        time.sleep(1 / rate)  # the last one's time; the first of a pass comes at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder, a camera's index, a video file, ...")
    parser.add_argument("--topic", default="/camera/image_raw/compressed")
    parser.add_argument("--domain", type=int, default=0)
    parser.add_argument("--rate", type=float, default=10, help="pictures of a folder per second")
    parser.add_argument("--frames", type=int, help="end after so many")
    options = parser.parse_args()

    folder = Path(options.source).is_dir()
    frames = again(options.source, options.rate) if folder else open_source(options.source)
    with suppress(KeyboardInterrupt), closing(DdsWire(options.domain)) as wire:
        publisher = wire.advertise(options.topic, CompressedImage, latched=False)
        for number, item in enumerate(islice(frames, options.frames)):
            frame = as_frame(item, number)
            jpeg = io.BytesIO()
            Pillow.fromarray(frame.picture()).save(jpeg, "JPEG", quality=90)
            header = Header(Time.from_ns(frame.timestamp), "camera_color_optical_frame")
            message = CompressedImage(header, "bgr8; jpeg compressed bgr8", jpeg.getvalue())
            publisher.publish(message)


if __name__ == "__main__":
    main()
