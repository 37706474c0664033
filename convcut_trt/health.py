"""How a stream does: counts, and how long each stage of its answers takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEPT = 1000
"""Answers of which a stream keeps the latencies."""
_STAGES = ("wait", "decode", "detect", "infer", "track", "total")


@dataclass(frozen=True)
class Percentiles:
    """Of the last 1000 answered frames, in seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Health:
    """How a stream does. ``frames == processed + bad + dropped``, and the one or two that are on their way.

    Attributes:
        running: Between the first ``next`` and the end.
        stalled: No frame for longer than ``stall`` seconds, now.
        silent_s: Seconds for which a frame has been awaited.
        frames: Given by the source.
        processed: Answered.
        dropped: Replaced by a newer one, or left over at the end.
        missed: Answered later than the deadline.
        bad: Frames that could not be decoded.
        bad_boxes: Boxes left out: not finite, without an area, or outside their picture.
        stalls: How often the source stalled.
        last_error: What was wrong with the last bad frame, or what ended the stream; "" if nothing was.
        latency: By stage: ``wait`` for its turn, ``decode``, ``detect``, ``infer`` (with the crops), ``track``, and
            the ``total``. Empty before the first answer.
    """

    running: bool
    stalled: bool
    silent_s: float
    frames: int
    processed: int
    dropped: int
    missed: int
    bad: int
    bad_boxes: int
    stalls: int
    last_error: str
    latency: Mapping[str, Percentiles]


def percentiles(rows: Sequence[tuple[int, ...]]) -> dict[str, Percentiles]:
    """Of each stage, by name; nothing of no rows.

    Args:
        rows: Nanoseconds that each answer spent in each stage.
    """
    if not rows:
        return {}
    values = np.percentile(np.array(rows) / 1e9, (50, 95, 99), axis=0).T.tolist()
    return {stage: Percentiles(*row) for stage, row in zip(_STAGES, values, strict=True)}
