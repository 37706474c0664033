"""Prints the expressions that `convcut-trt run SOURCE --to zenoh:robot/expressions` publishes. Needs Zenoh only.

pip install eclipse-zenoh
python examples/robots/zenoh_listen.py
python examples/robots/zenoh_listen.py robot/expressions --connect tcp/192.168.1.5:7447
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress

import zenoh


def main() -> None:
    parser = argparse.ArgumentParser(description="Print expressions that come over Zenoh.")
    parser.add_argument("key", nargs="?", default="robot/expressions", help="default: %(default)s")
    parser.add_argument("--count", type=int, help="end after so many frames")
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
        # A ring keeps the newest answers only, so that a slow reader is never behind.
        answers = session.declare_subscriber(options.key, zenoh.handlers.RingChannel(3))
        for number, sample in enumerate(answers, 1):
            answer = json.loads(sample.payload.to_bytes())
            faces = [
                f"face {face['track']} {face['label']} {face['confidence']:.0%}"
                for face in answer["faces"]
            ]
            print(f"frame {answer['sequence']}: {', '.join(faces) or 'no face'}", flush=True)
            if number == options.count:
                break


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
