"""The verb ``run``: a source, an engine and a detector in one loop, its results sent to every ``--to``."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

from convcut_trt.engine import load
from convcut_trt.errors import InputError
from convcut_trt.faces.detect import detector
from convcut_trt.health import Health
from convcut_trt.home import DEFAULT_MODEL
from convcut_trt.robots.sinks import About, Sink, open_sink
from convcut_trt.robots.video import part_of
from convcut_trt.sources import open_source
from convcut_trt.stream import Stream, stop_on_signals
from convcut_trt.track import Tracking

_REPORT_S = 1.0


def run(options: Namespace) -> int:
    """The verb ``run``; ends with the source, after ``--frames``, on Ctrl-C or SIGTERM."""
    addresses: list[str] = options.to or ([] if options.json else ["stdout"])
    if options.json and "stdout" in addresses:
        raise InputError("--json keeps stdout for the summary: leave out --json or --to stdout")
    if len(set(addresses)) != len(addresses):
        raise InputError("one --to is given twice: the results would be mixed up there")
    for to in addresses:
        if _same_file(to, options.source) or _same_file(part_of(to), options.source):
            raise InputError(f"--to {to} would replace what is read: give another place")
    tracking = _tracking(options)
    with ExitStack() as opened:
        engine = opened.enter_context(load(options.engine or DEFAULT_MODEL, trust=options.trust))
        find = detector(options.detector)
        source = open_source(options.source, options.rate)
        stream = opened.enter_context(
            Stream(
                engine,
                source,
                detector=find,
                tracking=tracking,
                newest=False if options.every else None,
                deadline=None if options.deadline is None else options.deadline / 1e3,
                stall=options.stall,
                on_stall=_say_stall,
            )
        )
        spec = engine.spec
        reject = spec.reject if tracking.reject is None else tracking.reject
        about = About(spec.name, spec.classes, reject, getattr(source, "rate", None))
        sinks = [opened.enter_context(closing(open_sink(to, about))) for to in addresses]
        opened.enter_context(stop_on_signals(stream))
        _pump(stream, sinks, options.frames)
        stream.close()
        health = stream.health()
        for sink in sinks:
            sink.report(health)
    if options.json:
        print(json.dumps(asdict(health)))
    else:
        print(summary(health), file=sys.stderr)
    return 0


def _same_file(one: str | Path, other: str) -> bool:
    try:
        return os.path.isfile(other) and os.path.samefile(one, other)
    except OSError:  # one is not there, or no file at all
        return False


def _tracking(options: Namespace) -> Tracking:
    names = ("gap", "time_constant", "hysteresis", "dwell", "reject")
    given = {name: getattr(options, name) for name in names}
    return Tracking(**{name: value for name, value in given.items() if value is not None})


def _pump(stream: Stream, sinks: Sequence[Sink], most: int | None) -> None:
    """Sends every result to every sink, and how the loop does once a second."""
    status = _Status()
    due = time.monotonic() + _REPORT_S
    for count, result in enumerate(stream, 1):
        for sink in sinks:
            sink.send(result)
        if count == most:
            stream.stop()
        if time.monotonic() >= due:
            due = time.monotonic() + _REPORT_S
            health = stream.health()
            status.show(health)
            for sink in sinks:
                sink.report(health)
    status.clear()


class _Status:
    """One line on a terminal, rewritten; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and not sys.stdout.isatty()

    def show(self, health: Health) -> None:
        if self._shown:
            print(f"\r\033[K{summary(health)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def summary(health: Health) -> str:
    """How a loop does, in a line."""
    parts = [f"{health.processed} frames answered", f"{health.dropped} dropped"]
    for count, text in (
        (health.missed, "late"),
        (health.bad, "unreadable"),
        (health.bad_boxes, "impossible boxes"),
        (health.stalls, "stalls"),
    ):
        if count:
            parts.append(f"{count} {text}")
    total = health.latency.get("total")
    if total is not None:
        figures = "/".join(f"{value * 1e3:.1f}" for value in (total.p50, total.p95, total.p99))
        parts.append(f"latency {figures} ms (p50/p95/p99 from arrival)")
    if health.last_error:
        parts.append(f"last error: {health.last_error}")
    return ", ".join(parts)


def _say_stall(health: Health) -> None:
    print(f"no frame for {health.silent_s:.1f} s; waiting", file=sys.stderr)
