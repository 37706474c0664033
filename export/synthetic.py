"""Renders synthetic faces with eight expressions: the data set that always exists.

The seed alone decides the person, the pose, the light and the room; the label adds the expression.
`export.drawing` has the face itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from convcut_trt.datasets.ferplus import CLASSES as CLASSES
from convcut_trt.errors import InputError
from export.drawing import Colour, Mood, Person, Points, draw, mix

Box = tuple[float, float, float, float]

# One seed feeds several streams of random numbers, so that none shifts another.
_ROOM, _MUSCLES, _GRAIN, _PLACE = 1, 2, 3, 4
_BOX_SIDE = 2.15  # in head units: frames the face as `render` does on average


def _palette(codes: str) -> tuple[Colour, ...]:
    return tuple(tuple(bytes.fromhex(code)) for code in codes.split())


_SKINS = _palette("ffe0c8 f6cdac e8b892 d6a074 ba8258 966340 704830 5e3d2c")
_HAIRS = _palette("1c1616 38241a 603c24 8e5c30 cea460 a84624 a8a6a6 5c4282")
_IRISES = _palette("3c2414 6e4c28 466e46 466ea0")
_GREY = (128.0, 128.0, 128.0)

_MOODS = (  # in the order of CLASSES
    Mood(),
    Mood(0.03, 0.03, squint=0.65, smile=0.22, stretch=0.13, gape=0.18, teeth=0.45),
    Mood(0.17, 0.17, lids=0.65, stretch=-0.14, gape=0.42, square=0.6),
    Mood(0.22, -0.09, furrow=0.5, lids=-0.25, droop=0.7, smile=-0.21, stretch=-0.05),
    Mood(-0.22, 0.08, 1.0, lids=-0.2, squint=0.3, smile=-0.07, gape=0.17, square=1.0, teeth=1.0),
    Mood(-0.08, -0.02, 0.5, lids=-0.35, squint=0.75, smile=-0.12, gape=0.15, teeth=0.4, sneer=1.0),
    Mood(0.21, 0.03, 0.7, lids=0.6, smile=-0.1, stretch=0.1, gape=0.25, square=0.8, teeth=0.25),
    Mood(-0.02, -0.02, one_brow=0.16, lids=-0.4, squint=0.2, one_corner=0.29),
)
_MAY_SHUT_THE_MOUTH = (CLASSES.index("happiness"), CLASSES.index("anger"))


def _between(rng: np.random.Generator, *ranges: tuple[float, float]) -> tuple[float, ...]:
    return tuple(low + (high - low) * float(rng.random()) for low, high in ranges)


def _any_colour(rng: np.random.Generator) -> Colour:
    return _between(rng, *[(20.0, 240.0)] * 3)


def _tone(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    place = float(rng.random()) * (len(palette) - 1)
    tone = mix(palette[int(place)], palette[int(place) + 1], place - int(place))
    return mix(tone, _any_colour(rng), 0.05)


def _person(seed: int) -> Person:
    rng = np.random.default_rng(seed)
    return Person(
        skin=_tone(rng, _SKINS),
        hair=_tone(rng, _HAIRS),
        iris=_tone(rng, _IRISES),
        shirt=_any_colour(rng),
        wall=(mix(_any_colour(rng), _GREY, 0.45), mix(_any_colour(rng), _GREY, 0.45)),
        head=_between(rng, (0.72, 0.86), (0.12, 0.36)),
        eyes=_between(rng, (0.32, 0.39), (-0.17, -0.07), (0.17, 0.215), (0.09, 0.125)),
        brow=_between(rng, (0.05, 0.1), (0.2, 0.26)),
        nose=_between(rng, (0.09, 0.16), (0.34, 0.44)),
        mouth=_between(rng, (0.5, 0.58), (0.3, 0.38), (0.045, 0.085)),
        gaze=_between(rng, (-0.02, 0.02), (-0.01, 0.01)),
        cut=_between(rng, (1.03, 1.22), (-0.3, 1.5), (0.42, 0.68), (-0.3, 0.3)),
        bald=bool(rng.random() < 0.07),
        beard=bool(rng.random() < 0.15),
        glasses=max(0, int(rng.integers(-6, 3))),
        side=1.0 if rng.random() < 0.5 else -1.0,
        turn=_between(rng, (-0.3, 0.3), (-0.14, 0.14), (-0.22, 0.22)),
        scale=_between(rng, (0.82, 1.02))[0],
        offset=_between(rng, (-0.08, 0.08), (-0.08, 0.08)),
        light=_between(rng, (-0.35, 0.35), (-0.25, 0.2), (0.0, 0.25)),
        exposure=_between(rng, (0.75, 1.15), (-20.0, 20.0)),
        blur=max(0.0, _between(rng, (-0.03, 0.018))[0]),
    )


def _mood(label: int, seed: int) -> Mood:
    rng = np.random.default_rng((seed, _MUSCLES, label))
    strength = rng.uniform(0.85, 1.15)
    muscles = np.array(_MOODS[label]) * strength * rng.uniform(0.85, 1.15, len(Mood._fields))
    rest = np.array(Mood(0.02, 0.02, lids=0.1, squint=0.1, smile=0.02, stretch=0.04))
    mood = Mood(*(muscles + rest * rng.uniform(-1.0, 1.0, len(rest))).tolist())
    if label in _MAY_SHUT_THE_MOUTH and rng.random() < 0.3:
        mood = mood._replace(gape=0.0)
    return mood


def _backdrop(person: Person, seed: int, width: int, height: int) -> Image.Image:
    rng = np.random.default_rng((seed, _ROOM))
    rows, columns = (int(n) for n in rng.integers(2, 9, 2))
    slope = rng.uniform(-1.0, 1.0, 2)
    share = slope[0] * np.linspace(-0.5, 0.5, rows)[:, None] + np.linspace(0.0, slope[1], columns)
    share = share + rng.uniform(0.0, 0.5) * rng.uniform(-1.0, 1.0, (rows, columns))
    first, second = (np.array(colour) for colour in person.wall)
    cells = np.clip(first + share[..., None] * (second - first), 0.0, 255.0)
    smooth = Image.Resampling.BILINEAR if rng.random() < 0.75 else Image.Resampling.NEAREST
    return Image.fromarray(np.rint(cells).astype(np.uint8)).resize((width, height), smooth)


def _light(
    pixels: Points, person: Person, centre: tuple[float, float], unit: float, seed: int
) -> NDArray[np.uint8]:
    height, width, _ = pixels.shape
    x = np.clip((np.arange(width) + 0.5 - centre[0]) / unit, -1.2, 1.2)
    y = np.clip((np.arange(height) + 0.5 - centre[1]) / unit, -1.2, 1.2)[:, None]
    right, down, front = person.light
    shade = np.clip(1.0 + right * x + down * y - front * (x * x + y * y - 0.4), 0.2, 1.8)
    contrast, brightness = person.exposure
    rng = np.random.default_rng((seed, _GRAIN))
    grain = int(rng.integers(0, 7))
    base = rng.integers(-grain, grain + 1, (height, width)) + (128.0 * (1 - contrast) + brightness)
    lit = pixels * (contrast * shade)[..., None] + base[..., None]
    picture: NDArray[np.uint8] = np.clip(np.rint(lit), 0.0, 255.0).astype(np.uint8)
    return picture


def _paint(
    label: int,
    seed: int,
    person: Person,
    shape: tuple[int, int],
    centre: tuple[float, float],
    unit: float,
) -> NDArray[np.uint8]:
    height, width = shape
    fine = 3 if max(shape) <= 128 else 2
    picture = _backdrop(person, seed, fine * width, fine * height)
    draw(person, _mood(label, seed)).paint(
        picture, (fine * centre[0], fine * centre[1]), fine * unit
    )
    picture = picture.reduce(fine)
    if person.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(person.blur * unit))
    return _light(np.asarray(picture, np.float64), person, centre, unit, seed)


def _check(label: int, seed: int, least: int, smallest: int, name: str) -> None:
    if not 0 <= label < len(CLASSES):
        raise InputError(f"label {label} is no class: give 0 to {len(CLASSES) - 1}, see CLASSES")
    if seed < 0:
        raise InputError(f"seed {seed} is negative: give 0 or more")
    if least < smallest:
        raise InputError(f"{name} {least} is too small for a face: give {smallest} pixels or more")


def render(label: int, seed: int, size: int = 96) -> NDArray[np.uint8]:
    """Draws one face, cropped as a face detector would leave it.

    Args:
        label: The expression, an index into ``CLASSES``.
        seed: Who, from where, in which light: 0 or more. The same seed with another label is the
            same person in the same picture with another expression.
        size: Side of the picture in pixels, 16 or more. Another size shows the same face.

    Returns:
        RGB uint8 [size, size, 3]; the same bytes for the same arguments.

    Raises:
        InputError: The label is no class, the seed is negative or the size is below 16.
    """
    _check(label, seed, size, 16, "size")
    person = _person(seed)
    centre = (size * (0.5 + person.offset[0]), size * (0.5 + person.offset[1]))
    return _paint(label, seed, person, (size, size), centre, 0.5 * size * person.scale)


def render_scene(label: int, seed: int, width: int, height: int) -> tuple[NDArray[np.uint8], Box]:
    """Draws a picture with a face somewhere in it, to be found or cropped.

    Args:
        label: The expression, an index into ``CLASSES``.
        seed: As in `render`; it decides the place and the size of the face, too.
        width: Pixels, 64 or more.
        height: Pixels, 64 or more.

    Returns:
        RGB uint8 [height, width, 3], and the face as (x, y, w, h) in pixels: a square inside the
        picture that frames the face as `render` does on average.

    Raises:
        InputError: The label is no class, the seed is negative or a side is below 64.
    """
    _check(label, seed, min(width, height), 64, "the shorter side of a scene,")
    rng = np.random.default_rng((seed, _PLACE))
    side = min(width, height) * float(rng.uniform(0.4, 0.75))
    x, y = _between(rng, (0.0, width - side), (0.0, height - side))
    centre = (x + 0.5 * side, y + 0.5 * side)
    picture = _paint(label, seed, _person(seed), (height, width), centre, side / _BOX_SIDE)
    return picture, (x, y, side, side)


def render_set(
    count: int, seed: int, size: int = 96
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws a labelled data set: as many faces of each class as ``count`` allows, shuffled.

    Args:
        count: Number of faces, 1 or more. Every face is another person.
        seed: Decides the faces and their order, 0 or more.
        size: Side of the pictures in pixels, 16 or more.

    Returns:
        Images, RGB uint8 [count, size, size, 3], and labels, int64 [count].

    Raises:
        InputError: The count is below 1, the seed is negative or the size is below 16.
    """
    if count < 1:
        raise InputError(f"count {count} gives an empty data set: give 1 or more")
    _check(0, seed, size, 16, "size")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count, dtype=np.int64) % len(CLASSES))
    seeds = rng.integers(0, 2**62, count)
    images = np.empty((count, size, size, 3), np.uint8)
    for image, label, face in zip(images, labels.tolist(), seeds.tolist(), strict=True):
        image[...] = render(label, face, size)
    return images, labels
