"""Records frames into the file it is given until it is killed, and prints the time of each that was sent."""

from __future__ import annotations

import sys
import time

from convcut_trt.robots.mcap_log import open_sink
from tests.results import ABOUT, face, result

if __name__ == "__main__":
    sink = open_sink(sys.argv[1], ABOUT)
    number = 0
    while True:
        now = time.time_ns()
        sink.send(result(face(), sequence=number, timestamp=now))
        print(now, flush=True)
        number += 1
        time.sleep(0.02)
