"""Where a robot's results go: what every sink offers, and which one an address of ``run --to`` means."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from convcut_trt.errors import InputError

if TYPE_CHECKING:
    from convcut_trt.health import Health
    from convcut_trt.stream import Result

# What an address starts with, and the module whose ``open_sink(rest, about)`` opens it.
_TRANSPORTS = {
    "zenoh": "convcut_trt.robots.zenoh_node",
    "dds": "convcut_trt.robots.dds_node",
    "ros2": "convcut_trt.robots.rclpy_node",
}
# Endings of files, likewise.
_FILES = {
    ".mcap": "convcut_trt.robots.mcap_log",
    ".mp4": "convcut_trt.robots.video",
    ".avi": "convcut_trt.robots.video",
    ".mkv": "convcut_trt.robots.video",
}


@dataclass(frozen=True)
class About:
    """What a sink has to know beyond the results.

    Attributes:
        model: Its name.
        classes: The K expressions.
        reject: Probability below which no expression is claimed.
        rate: Frames per second of the source, where it is known; a video needs one.
    """

    model: str
    classes: tuple[str, ...]
    reject: float
    rate: float | None = None


class Sink(Protocol):
    """Takes results, all from one thread. It never waits for whoever reads them.

    Errors are InputError: the loop ends with that sentence. What a transport mends by itself, as a lost router, is
    no error.
    """

    def send(self, result: Result) -> None:
        """Passes on the answer to one frame."""

    def report(self, health: Health) -> None:
        """Passes on how the loop does; called about once a second, and once at the end."""

    def close(self) -> None:
        """Finishes files and connections; again does nothing."""


def open_sink(address: str, about: About) -> Sink:
    """Opens what ``--to`` names.

    Args:
        address: ``zenoh:KEY``, ``dds:TOPIC``, ``ros2:TOPIC``, ``stdout``, or a file that ends in .mcap, .mp4, .avi
            or .mkv.
        about: What goes along with the results.

    Raises:
        InputError: No such address, or it cannot be opened.
        BackendMissing: The library behind it is not installed; the text names the extra.
    """
    if address == "stdout":
        return JsonLines(sys.stdout, about)
    kind, colon, rest = address.partition(":")
    ending = Path(address).suffix.lower()
    if colon and kind in _TRANSPORTS:
        module, target = _TRANSPORTS[kind], rest
    elif ending in _FILES:
        module, target = _FILES[ending], address
    else:
        raise InputError(
            f"--to {address!r} is no place for results: give {', '.join(f'{name}:TOPIC' for name in _TRANSPORTS)}, "
            f"stdout, or a file that ends in {', '.join(_FILES)}"
        )
    sink: Sink = import_module(module).open_sink(target, about)
    return sink


def record(result: Result, about: About) -> dict[str, Any]:
    """The answer to one frame as a JSON object.

    Returns:
        ``sequence``, ``timestamp`` (ns) and ``frame_id`` of the frame, ``width`` and ``height`` in pixels,
        ``latency_ms`` from its arrival, ``late``, and ``faces``: of each its ``track``, ``box`` (x, y, width,
        height), ``label`` and ``confidence`` after smoothing, ``probabilities`` by class, and ``smoothed`` ones.
    """
    height, width = result.picture.shape[:2]
    faces = [
        {
            "track": face.track,
            "box": [round(float(value), 2) for value in face.box],
            "label": face.label,
            "confidence": round(face.confidence, 4),
            "probabilities": _shares(about.classes, face.raw.tolist()),
            "smoothed": _shares(about.classes, face.smoothed.tolist()),
        }
        for face in result.faces
    ]
    return {
        "sequence": result.frame.sequence,
        "timestamp": result.frame.timestamp,
        "frame_id": result.frame.frame_id,
        "width": width,
        "height": height,
        "latency_ms": round(result.latency * 1e3, 3),
        "late": result.late,
        "faces": faces,
    }


def _shares(classes: tuple[str, ...], values: list[float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(classes, values, strict=True)}


class JsonLines:
    """One JSON object a line for each frame."""

    def __init__(self, file: TextIO, about: About) -> None:
        """Writes to a file that stays the caller's."""
        self._file, self._about = file, about

    def send(self, result: Result) -> None:
        """See ``record``. A reader that went away (``| head``) is a BrokenPipeError, as everywhere."""
        self._file.write(json.dumps(record(result, self._about)) + "\n")
        self._file.flush()

    def report(self, health: Health) -> None:
        """Nothing: the lines are answers only."""

    def close(self) -> None:
        """Nothing is held."""
