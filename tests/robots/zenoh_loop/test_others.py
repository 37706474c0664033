"""Zenoh where others are missing, asleep, late or gone, and addresses that are none."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import zenoh
import zenoh.ext

from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.robots.sinks import record
from convcut_trt.robots.zenoh_node import open_sink, open_source
from tests.results import ABOUT, face, result
from tests.robots.zenoh_loop.robot import PATIENCE_S, Robot, connect, free_port, listening, wait

ASLEEP = """
import json, sys, time, zenoh
config = zenoh.Config()
config.insert_json5("scouting/multicast/enabled", "false")
config.insert_json5("listen/endpoints", json.dumps([sys.argv[1]]))
session = zenoh.open(config)
held = session.declare_subscriber("faces", zenoh.handlers.FifoChannel(1))
print("asleep", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_subscriber_that_never_reads_costs_neither_time_nor_memory() -> None:
    port = free_port()
    command = [sys.executable, "-c", ASLEEP, f"tcp/127.0.0.1:{port}"]
    crowd = result(*(face(track=number) for number in range(1, 41)))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asleep:
        try:
            assert asleep.stdout is not None and asleep.stdout.readline() == b"asleep\n"
            with closing(open_sink(f"faces{connect(port)}", ABOUT)) as sink:
                for _ in range(50):
                    sink.send(crowd)
                before, start = memory(), time.monotonic()
                for _ in range(800):
                    sink.send(crowd)
                grown, took = memory() - before, time.monotonic() - start
        finally:
            asleep.kill()
    assert took < 30  # a millisecond each, which Zenoh waits for room: 1 s where nothing else runs
    assert grown < 800 * len(json.dumps(record(crowd, ABOUT))) / 2


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_router_that_is_not_there() -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match="zenohd"):
        open_source(f"cam{connect(free_port(), 'wait=0.2')}")
    with pytest.raises(InputError, match="rmw_zenohd"):
        open_sink(f"a{connect(free_port(), 'wait=0.2', 'ros=rmw_zenoh')}", ABOUT)
    assert time.monotonic() - start < PATIENCE_S


def test_a_router_that_comes_later() -> None:
    port = free_port()
    with closing(open_sink(f"faces{connect(port, 'wait=0')}", ABOUT)) as sink:
        sink.send(result())  # lost, and no error
        late: list[zenoh.Sample] = []
        with closing(listening(port)) as router:
            held = router.declare_subscriber("faces", late.append)
            wait(lambda: sink.send(result()) or late, "an answer")  # type: ignore[func-returns-value]
            held.undeclare()


def test_a_router_that_goes_and_comes_back() -> None:
    port = free_port()
    router = listening(port)
    with closing(open_sink(f"faces{connect(port)}", ABOUT)) as sink:
        router.close()
        sink.send(result())
        again: list[zenoh.Sample] = []
        with closing(listening(port)) as router:
            held = router.declare_subscriber("faces", again.append)
            wait(lambda: sink.send(result()) or again, "an answer")  # type: ignore[func-returns-value]
            held.undeclare()


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "?connect=tcp/127.0.0.1:1",
        "a//b",
        "a#b",
        "cam?connect",
        "cam?unknown=1",
        "cam?wait=soon",
        "cam?wait=-1",
        "cam?wait=inf",
        "cam?wait=nan",
        "cam?ros=ros1",
        "cam?ros=rmw_zenoh&domain=-1",
        "cam?ros=rmw_zenoh&domain=one",
        "cam?ros=rmw_zenoh&distro=indigo",
        "cam?ros=bridge&domain=1",
        "cam?domain=1",
        "cam?distro=humble",
        "no-topic?ros=bridge",
        "2nd?ros=rmw_zenoh",
        "cam?listen=somewhere",
        "cam?listen=tcp/127.0.0.1:99999",
        "cam?connect=rubbish",
    ],
)
def test_bad_addresses(rest: str) -> None:
    with pytest.raises(InputError) as said:
        open_source(rest)
    assert "\n" not in str(said.value) and " at /" not in str(said.value)
    if rest:
        with pytest.raises(InputError):
            open_sink(rest, ABOUT)


def test_zenohs_own_configuration_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, file = free_port(), tmp_path / "zenoh.json5"
    ends = {"listen": {"endpoints": [f"tcp/127.0.0.1:{port}"]}}
    file.write_text(json.dumps({**ends, "scouting": {"multicast": {"enabled": False}}}))
    monkeypatch.setenv("ZENOH_CONFIG", str(file))
    with closing(open_source("cam")):
        open_source(f"cam{connect(port)}").close()
    file.unlink()
    with pytest.raises(InputError):
        open_source("cam")


def test_a_sink_has_one_key() -> None:
    for key in ("", "faces/*", "**"):
        with pytest.raises(InputError):
            open_sink(key, ABOUT)


def test_an_endpoint_that_is_taken(robot: Robot) -> None:
    with pytest.raises(InputError):
        open_source(f"cam?listen=tcp/127.0.0.1:{robot.port}")


def test_zenoh_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zenoh", None)
    with pytest.raises(BackendMissing, match=r"convcut-trt\[zenoh\]"):
        open_source("cam?listen=tcp/127.0.0.1:0")
