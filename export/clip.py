"""Draws the demo clip, ``examples/faces.mp4``: two rendered people whose expressions change.

    python -m export.clip -o examples/faces.mp4

Nobody's photograph is in it. The people and what their muscles do were chosen among many drawings as ones that
OpenCV's Haar cascade finds and on which the zoo model's answer follows the drawn expression: neutral, happiness,
surprise, sadness and anger. Disgust, contempt and mostly fear it does not recognise in drawings, so that they are
left out. The clip shows that the loop works; it says nothing about how well the model does on people.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from convcut_trt.errors import ConvcutError
from convcut_trt.robots.video import Writer
from export.drawing import Mood, Person, draw

WIDTH, HEIGHT, RATE, FRAMES = 640, 480, 30, 240
_FINE = 3  # drawn so much larger, then averaged: edges move smoothly
_CHANGE_S = 0.45  # from one expression to the next
_BLINK_S = 0.16
_SOFT = 0.9  # pixels of blur, as a lens has it: OpenCV spares no bits, and sharp edges would take twice as many

MOODS = {
    "neutral": Mood(),
    "happiness": Mood(0.03, 0.03, squint=0.65, smile=0.22, stretch=0.13, gape=0.18, teeth=0.45),
    "surprise": Mood(0.17, 0.17, lids=0.65, stretch=-0.14, gape=0.42, square=0.6),
    "sadness": Mood(0.22, -0.09, furrow=0.5, lids=-0.25, droop=0.7, smile=-0.21, stretch=-0.05),
    "anger": Mood(
        -0.22, 0.08, 1.0, lids=-0.2, squint=0.3, smile=-0.07, gape=0.17, square=1.0, teeth=1.0
    ),
}


class Part(NamedTuple):
    """What one person does in the clip. Times in seconds, places in pixels.

    Attributes:
        person: Who.
        unit: Half the height of the head.
        path: (time, x, y) of the middle of the face; in between it moves smoothly.
        moods: (time, expression); the expression changes at that time.
        sway: Seconds of one swing of the head.
        blinks: When.
    """

    person: Person
    unit: float
    path: tuple[tuple[float, float, float], ...]
    moods: tuple[tuple[float, str], ...]
    sway: float
    blinks: tuple[float, ...]


def _person(**changes: object) -> Person:
    plain = Person(
        skin=(239, 197, 165),
        hair=(150, 84, 50),
        iris=(72, 109, 115),
        shirt=(52, 122, 118),
        wall=((0, 0, 0), (0, 0, 0)),
        head=(0.82, 0.14),
        eyes=(0.352, -0.09, 0.208, 0.098),
        brow=(0.06, 0.21),
        nose=(0.113, 0.377),
        mouth=(0.545, 0.31, 0.078),
        gaze=(0.0, 0.0),
        cut=(1.2, 0.9, 0.5, 0.15),
        bald=False,
        beard=False,
        glasses=0,
        side=1.0,
        turn=(0.0, 0.0, 0.0),
        scale=1.0,
        offset=(0.0, 0.0),
        light=(0.0, 0.0, 0.0),
        exposure=(1.0, 0.0),
        blur=0.0,
    )
    return plain._replace(**changes)  # type: ignore[arg-type]


PARTS = (
    Part(
        _person(),
        92.0,
        ((0.0, -130, 220), (1.2, 190, 215), (4.0, 205, 225), (6.6, 190, 215), (8.0, 185, 220)),
        (
            (0.0, "neutral"),
            (1.7, "happiness"),
            (3.5, "surprise"),
            (5.0, "neutral"),
            (6.0, "happiness"),
        ),
        3.1,
        (1.5, 5.4),
    ),
    Part(
        _person(
            skin=(188, 135, 95),
            hair=(70, 50, 48),
            iris=(69, 106, 92),
            shirt=(206, 148, 62),
            head=(0.737, 0.165),
            eyes=(0.355, -0.094, 0.194, 0.094),
            brow=(0.093, 0.208),
            nose=(0.121, 0.399),
            mouth=(0.526, 0.333, 0.08),
            cut=(1.2, 0.2, 0.65, -0.08),
            side=-1.0,
        ),
        84.0,
        (
            (0.0, 780, 240),
            (1.0, 780, 240),
            (2.4, 460, 235),
            (5.0, 445, 245),
            (6.6, 460, 235),
            (7.9, 790, 240),
        ),
        ((0.0, "neutral"), (2.6, "anger"), (4.0, "sadness"), (5.9, "happiness")),
        3.7,
        (2.3, 5.8),
    ),
)


def _smooth(share: float) -> float:
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)


def place_at(part: Part, time: float) -> tuple[float, float]:
    """Where the middle of a person's face is at a time: x and y in pixels."""
    for (start, x0, y0), (end, x1, y1) in pairwise(part.path):
        if time < end:
            share = _smooth((time - start) / (end - start))
            return x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    return part.path[-1][1], part.path[-1][2]


def mood_at(part: Part, time: float) -> Mood:
    """What a person's muscles do at a time: expressions pass into each other, and eyes blink."""
    muscles = np.array(MOODS[part.moods[0][1]])
    for start, name in part.moods[1:]:
        muscles += _smooth((time - start) / _CHANGE_S) * (np.array(MOODS[name]) - muscles)
    mood = Mood(*muscles.tolist())
    for blink in part.blinks:
        shut = 1 - abs(time - blink) / (_BLINK_S / 2)
        if shut > 0:
            mood = mood._replace(lids=mood.lids - (0.9 + mood.lids) * min(1.0, 2 * shut))
    return mood


def _turned(part: Part, time: float) -> Person:
    """The head sways a little; sines of yaw, pitch and roll."""
    swing = 2 * math.pi * time / part.sway
    turn = (0.1 * math.sin(swing), 0.04 * math.sin(1.7 * swing), 0.05 * math.sin(0.6 * swing))
    return part.person._replace(turn=turn)


@cache
def _room() -> Image.Image:
    """A wall, lighter where the faces are."""
    x = np.linspace(-1.0, 1.0, WIDTH)
    y = np.linspace(-1.0, 1.0, HEIGHT)[:, None]
    share = np.clip(0.75 * (x * x + y * y), 0.0, 1.0)[..., None]
    wall = np.array((206, 200, 190)) * (1 - share) + np.array((126, 128, 136)) * share
    return Image.fromarray(np.rint(wall).astype(np.uint8)).resize(
        (_FINE * WIDTH, _FINE * HEIGHT), Image.Resampling.BILINEAR
    )


def picture(number: int) -> NDArray[np.uint8]:
    """One of the ``FRAMES`` pictures of the clip: uint8 RGB [480, 640, 3], the same every time."""
    canvas, time = _room().copy(), number / RATE
    for part in PARTS:
        x, y = place_at(part, time)
        drawing = draw(_turned(part, time), mood_at(part, time))
        drawing.paint(canvas, (_FINE * x, _FINE * y), _FINE * part.unit)
    return np.asarray(canvas.reduce(_FINE).filter(ImageFilter.GaussianBlur(_SOFT)))


def write(path: Path) -> None:
    """Writes the clip.

    Raises:
        BackendMissing: No OpenCV.
        InputError: It cannot be written there.
    """
    writer = Writer(path, RATE)
    for number in range(FRAMES):
        writer.write(picture(number))
    writer.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m export.clip``."""
    parser = argparse.ArgumentParser(prog="python -m export.clip", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("examples/faces.mp4"))
    options = parser.parse_args(arguments)
    try:
        write(options.output)
    except ConvcutError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.output}: {FRAMES} frames, {options.output.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
