"""Prints the expressions out of a recording: when, who, what and how sure.

    pip install 'convcut-trt[mcap]'
    convcut-trt run 0 --to run.mcap
    python mcap_read.py run.mcap

Any other ROS 2 message of the recording is read the same way; in C++, TypeScript or Go with the mcap libraries of
those languages.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mcap.reader import make_reader

from convcut_trt.robots.messages import Expression


def main(options: Namespace) -> None:
    """Prints a line for each face of each frame."""
    with options.recording.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            if schema is None or schema.name != Expression.ros_type:
                continue
            said = Expression.decode(message.data)
            face = channel.topic.split("/")[-2]
            seconds = said.header.stamp.ns / 1e9
            print(f"{seconds:.3f} {face} {said.expression} {said.confidence:.2f}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="an .mcap file")
    main(parser.parse_args())
