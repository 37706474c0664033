"""Zenoh sessions as addresses describe them: who is connected to whom, and what happens when nobody is there."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.optional import load
from convcut_trt.robots.address import parse
from convcut_trt.robots.zenoh_keys import BRIDGE, RMW, check_topic

EXAMPLE = "zenoh:camera/front?connect=tcp/192.168.1.5:7447"
# Where rmw_zenoh's own nodes look for their router.
_RMW_ROUTER = "tcp/localhost:7447"
_OPTIONS = {"connect": "", "listen": "", "wait": "10", "ros": "", "domain": "", "distro": ""}
_POLL_S = 0.05
# In milliseconds; Zenoh's own first pause is a second.
_RETRY = {"period_init_ms": 200, "period_max_ms": 2000, "period_increase_factor": 2}


@dataclass(frozen=True)
class Address:
    """What stands behind ``zenoh:``, as docs/zenoh.md explains it.

    Attributes:
        key: Key expression, or ROS topic.
        connect: Endpoints to connect to.
        listen: Endpoints to be found at.
        wait: Seconds for one of ``connect`` to answer; 0 does not wait.
        ros: ``zenoh_keys.RMW`` or ``BRIDGE``, or "" for no ROS.
        domain: Of ROS, with ``RMW``.
        hashed: Whether type hashes are in the keys, with ``RMW``.
    """

    key: str
    connect: tuple[str, ...]
    listen: tuple[str, ...]
    wait: float
    ros: str
    domain: int
    hashed: bool


def read_address(text: str) -> Address:
    """Takes an address apart.

    Args:
        text: ``KEY?option=value&...``, without ``zenoh:``.

    Raises:
        InputError: Options that there are not, or that do not go together.
    """
    key, options = parse(text, _OPTIONS, EXAMPLE)
    ros, distro = options["ros"], options["distro"]
    if ros not in ("", RMW, BRIDGE):
        raise InputError(f"ros={ros} is unknown: give ros={RMW}, ros={BRIDGE}, or leave it out")
    if ros != RMW and (options["domain"] or distro):
        raise InputError(f"domain and distro belong to ros={RMW}: leave them out, or give it")
    if distro not in ("", "humble"):
        raise InputError(f"distro={distro}: only humble differs, leave it out for Iron and later")
    domain = options["domain"] or os.environ.get("ROS_DOMAIN_ID") or "0"
    if not (domain.isascii() and domain.isdecimal()):
        raise InputError(f"the ROS domain {domain!r} is no whole number from 0: give domain=0")
    try:
        wait = float(options["wait"])
    except ValueError:
        wait = math.nan
    if not 0 <= wait < math.inf:
        raise InputError(f"wait={options['wait']}: give seconds, 0 to start without waiting")
    if ros and key:
        check_topic(key)
    connect, listen = _endpoints(options["connect"]), _endpoints(options["listen"])
    if ros == RMW and not connect and not listen:
        connect = (_RMW_ROUTER,)
    return Address(key.strip("/"), connect, listen, wait, ros, int(domain), distro != "humble")


def _endpoints(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def check_key(key: str) -> None:
    """Makes sure that Zenoh takes a key expression.

    Raises:
        InputError: It does not.
        BackendMissing: Zenoh is not installed.
    """
    with _blame(f"{key!r} is no Zenoh key, write it as {EXAMPLE}"):
        load("zenoh", "zenoh").KeyExpr(key)


def open_session(address: Address) -> Any:
    """Opens a ``zenoh.Session``. A connection that is lost later is made again by Zenoh itself.

    ``$ZENOH_CONFIG`` names a configuration of Zenoh's own (TLS, users, shared memory), as for all its programs.
    With endpoints nobody is looked for by multicast.

    Raises:
        InputError: Endpoints that there are not, or nobody answers at those to connect to.
        BackendMissing: Zenoh is not installed.
    """
    library = load("zenoh", "zenoh")
    with _blame("zenoh does not start, check connect= and listen="):
        session = library.open(_config(library.Config, address))
    try:
        _await(session, address)
    except BaseException:
        session.close()
        raise
    return session


def _config(kind: Any, address: Address) -> Any:
    config = kind.from_env() if os.environ.get("ZENOH_CONFIG") else kind()
    settings: dict[str, Any] = {"timestamping/enabled": True, "connect/retry": _RETRY}
    if address.connect:
        settings["connect/endpoints"] = address.connect
    if address.listen:
        settings["listen/endpoints"] = address.listen
    if address.connect or address.listen:
        settings["scouting/multicast/enabled"] = False
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return config


def _await(session: Any, address: Address) -> None:
    """Waits in short steps, so that Ctrl-C ends it at once."""
    if not address.connect or not address.wait:
        return
    end = time.monotonic() + address.wait
    while not (session.info.peers_zid() or session.info.routers_zid()):
        if time.monotonic() > end:
            router = "ros2 run rmw_zenoh_cpp rmw_zenohd" if address.ros == RMW else "zenohd"
            raise InputError(
                f"nobody answers at {', '.join(address.connect)} within {address.wait:g} s: start the router "
                f"({router}) or correct connect=; wait=0 starts without it and connects once it is there"
            )
        time.sleep(_POLL_S)


@contextmanager
def _blame(what: str) -> Iterator[None]:
    """Turns Zenoh's errors into one sentence."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "ZError":
            raise
        # What follows is a line in Zenoh's own source.
        raise InputError(f"{what}: {str(error).split(' at /')[0]}") from error
