"""Faces over time: each keeps its number from frame to frame, its expression is smoothed, its label is steady.

A face is the track whose last box it overlaps or lies near, the best pairs first. There is no model of motion:
two faces that cross keep their numbers as long as each is nearer to its own last place than to the other's, and
may exchange them where both are in one place. Time is that of the frames' timestamps; where they jump back, it
stands still for a frame, so that no track outlives its gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from convcut_trt.errors import InputError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Box = tuple[float, float, float, float]

UNKNOWN = "unknown"
_REJECTED = -1


@dataclass(frozen=True)
class Tracking:
    """How faces are followed and smoothed. Each of the last four is off at 0; with all off the raw answers remain.

    Attributes:
        overlap: A box continues a track when the intersection over union of both is at least this, and above 0, ...
        distance: ... or when their centres are at most this far apart, in mean sides of the two boxes.
        gap: Seconds without its face after which a track ends: the face that returns is a new one.
        time_constant: Of the exponential moving average of the probabilities, in seconds: a step is at 63 % after
            one, at 95 % after three.
        hysteresis: By how much another expression's smoothed probability must lead before the label changes.
        dwell: Seconds for which a label stays at least. "unknown" gives way earlier to a label that is above
            ``reject`` by ``hysteresis``.
        reject: The label is "unknown" where its smoothed probability is below this; at once, whatever ``dwell`` is.
            None is the model's own, ``ModelSpec.reject``.

    Raises:
        InputError: A value is negative or not finite, or a share above 1.
    """

    overlap: float = 0.3
    distance: float = 0.5
    gap: float = 1.0
    time_constant: float = 0.3
    hysteresis: float = 0.1
    dwell: float = 0.5
    reject: float | None = None

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None:
                continue
            most = 1.0 if name in ("overlap", "hysteresis", "reject") else math.inf
            if not (0 <= value <= most and math.isfinite(value)):
                limit = "from 0 to 1" if most == 1 else "of at least 0"
                raise InputError(f"tracking with {name} = {value}: give a number {limit}")


@dataclass(frozen=True, eq=False)
class Face:
    """A face of a frame.

    Attributes:
        track: Its number, from 1; never given to another face.
        box: (x, y, width, height) in pixels, as detected.
        raw: float32 [K], what the engine answered on this frame.
        smoothed: float32 [K], over the frames of this track.
        label: The expression after smoothing, hysteresis and dwell, or "unknown".
        confidence: The label's smoothed probability; the largest one where it is "unknown".
    """

    track: int
    box: Box
    raw: F32
    smoothed: F32
    label: str
    confidence: float


@dataclass
class _Track:
    number: int
    box: Box
    smoothed: list[float]
    label: int
    seen: int
    since: int


class Tracker:
    """Follows the faces of one stream. Not thread-safe.

    Attributes:
        reject: The probability below which a label is "unknown".
    """

    def __init__(
        self, classes: Sequence[str], options: Tracking | None = None, reject: float = 0.0
    ) -> None:
        """Starts without a face.

        Args:
            classes: The K expressions.
            options: See ``Tracking``.
            reject: The threshold where the options have none.
        """
        self._classes = tuple(classes)
        self._options = options or Tracking()
        self.reject = reject if self._options.reject is None else self._options.reject
        self._tracks: list[_Track] = []
        self._count = 0
        self._now = 0  # ns; never goes back
        self._timestamp: int | None = None

    def update(self, timestamp: int, boxes: F64, raw: F32) -> tuple[Face, ...]:
        """Takes the faces of the next frame; their order does not matter.

        Args:
            timestamp: The frame's own, in nanoseconds.
            boxes: float64 [N, 4]: x, y, width, height in pixels, finite, with an area.
            raw: float32 [N, K], rows sum to 1.

        Returns:
            The N faces, in the order given.

        Raises:
            InputError: The shapes do not fit.
        """
        if boxes.shape != (len(boxes), 4) or raw.shape != (len(boxes), len(self._classes)):
            raise InputError(
                f"{list(boxes.shape)} boxes and {list(raw.shape)} probabilities: give [N, 4] and "
                f"[N, {len(self._classes)}]"
            )
        if self._timestamp is not None:
            self._now += max(0, timestamp - self._timestamp)
        self._timestamp = timestamp
        gap = self._options.gap
        self._tracks = [track for track in self._tracks if self._since(track.seen) <= gap]
        rows: list[Box] = [(x, y, width, height) for x, y, width, height in boxes.tolist()]
        answers: list[list[float]] = raw.tolist()
        order = sorted(range(len(rows)), key=lambda face: (rows[face], answers[face]))
        matches = self._match([rows[face] for face in order])
        faces: dict[int, Face] = {}
        for position, face in enumerate(order):
            track = matches.get(position)
            if track is None:
                track = self._begin(rows[face], answers[face])
            else:
                self._continue(track, rows[face], answers[face])
            faces[face] = self._face(track, raw[face])
        return tuple(faces[face] for face in range(len(rows)))

    def _since(self, moment: int) -> float:
        return (self._now - moment) / 1e9

    def _match(self, boxes: list[Box]) -> dict[int, _Track]:
        """The track of each box that continues one: greedily, the best pair first."""
        pairs = []
        for owner, track in enumerate(self._tracks):
            for position, box in enumerate(boxes):
                overlap, distance = closeness(track.box, box)
                overlapping = overlap > 0 and overlap >= self._options.overlap
                if overlapping or distance <= self._options.distance:
                    pairs.append((distance - overlap, owner, position))
        matches: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, owner, position in sorted(pairs):
            if owner not in taken and position not in matches:
                taken.add(owner)
                matches[position] = self._tracks[owner]
        return matches

    def _begin(self, box: Box, answer: list[float]) -> _Track:
        self._count += 1
        label = self._accepted(answer, _top(answer))
        track = _Track(self._count, box, answer, label, self._now, self._now)
        self._tracks.append(track)
        return track

    def _continue(self, track: _Track, box: Box, answer: list[float]) -> None:
        constant = self._options.time_constant
        weight = -math.expm1(-self._since(track.seen) / constant) if constant else 1.0
        # Not a + w (b - a): at w = 1 it must be b to the last bit. Plain numbers, see ``closeness``.
        track.smoothed = [
            (1 - weight) * before + weight * now
            for before, now in zip(track.smoothed, answer, strict=True)
        ]
        track.box, track.seen = box, self._now
        label = self._label(track)
        if label != track.label:
            track.label, track.since = label, self._now

    def _label(self, track: _Track) -> int:
        """The label after hysteresis and dwell. One below the reject threshold is never held."""
        shares, current = track.smoothed, track.label
        top = _top(shares)
        held = self._since(track.since) < self._options.dwell
        if current == _REJECTED:
            held = held and shares[top] < self.reject + self._options.hysteresis
        else:
            held = held or shares[top] - shares[current] < self._options.hysteresis
        if not held:
            return self._accepted(shares, top)
        return _REJECTED if current == _REJECTED else self._accepted(shares, current)

    def _accepted(self, shares: list[float], label: int) -> int:
        return label if shares[label] >= self.reject else _REJECTED

    def _face(self, track: _Track, raw: F32) -> Face:
        rejected = track.label == _REJECTED
        return Face(
            track.number,
            track.box,
            raw,
            np.array(track.smoothed, np.float32),
            UNKNOWN if rejected else self._classes[track.label],
            max(track.smoothed) if rejected else track.smoothed[track.label],
        )


def _top(shares: list[float]) -> int:
    """The first of the largest."""
    return shares.index(max(shares))


def closeness(first: Box, second: Box) -> tuple[float, float]:
    """How near two boxes are: intersection over union, and the distance of their centres in mean sides of the two.

    Plain numbers and not arrays: with the few faces of a frame that is many times faster.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    across = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    down = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    shared = across * down
    apart = math.hypot((ax + aw / 2) - (bx + bw / 2), (ay + ah / 2) - (by + bh / 2))
    union = aw * ah + bw * bh - shared
    # Boxes can be so small that their areas round to 0.
    return shared / union if union else 0.0, apart * 4 / (aw + ah + bw + bh)
