"""Draws one face: a list of polygons in head units, turned and painted.

Head units: x to the right, y down, the middle of the face at (0, 0), crown and chin at y = -1 and 1.
Features sit on an ellipsoid, so a turned head moves them as it would in a photograph. Nothing but
+ - * / and square roots goes into an array, because those are rounded alike on every machine.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Colour = tuple[float, ...]  # red, green, blue: 0 to 255

_U = np.linspace(-1.0, 1.0, 15)
_BULGE = 1.0 - _U * _U
_BOXY = 1.0 - (1.0 - _BULGE) * (1.0 - _BULGE) * (1.0 - _BULGE)
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 33)[:-1]
# Rounded, because sine and cosine differ in the last bit between machines.
_CIRCLE = np.round(np.stack([np.sin(_ANGLES), -np.cos(_ANGLES)], axis=1), 9)


class Mood(NamedTuple):
    """What the muscles do, in head units or as a share; all zero is a face at rest."""

    brow_in: float = 0.0  # inner end of the brows, up
    brow_out: float = 0.0  # outer end, up
    furrow: float = 0.0  # brows drawn together
    one_brow: float = 0.0  # one brow lifted
    lids: float = 0.0  # upper lids: wide open above 0, heavy below
    droop: float = 0.0  # outer end of the upper lids, down
    squint: float = 0.0  # lower lids, up
    smile: float = 0.0  # corners of the mouth, up
    one_corner: float = 0.0  # one corner up and out
    stretch: float = 0.0  # width of the mouth
    gape: float = 0.0  # mouth open
    square: float = 0.0  # the opening: 0 almond, 1 box
    teeth: float = 0.0  # share of the opening that upper and lower teeth cover
    sneer: float = 0.0  # upper lip lifted, nose wrinkled


class Person(NamedTuple):
    """Who is drawn, from which side and in which light. Lengths in head units."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    wall: tuple[Colour, Colour]
    head: tuple[float, ...]  # half its width, taper of the jaw
    eyes: tuple[float, ...]  # x, y, half width, half height
    brow: tuple[float, ...]  # thickness, height over the eye
    nose: tuple[float, ...]  # half width, length
    mouth: tuple[float, ...]  # y, half width, thickness of a lip
    gaze: tuple[float, ...]  # shift of the irises, right and down
    cut: tuple[float, ...]  # volume, length, hairline, parting of the hair
    bald: bool
    beard: bool
    glasses: int  # 0 none, 1 round, 2 square
    side: float  # +1 or -1: the side of whatever is not symmetric
    turn: tuple[float, ...]  # sines of yaw, pitch and roll
    scale: float  # height of the face as a share of the picture
    offset: tuple[float, ...]  # of the face from the middle, as a share of the picture
    light: tuple[float, ...]  # grows to the right, downwards, from the rim to the middle
    exposure: tuple[float, ...]  # contrast, brightness in grey levels
    blur: float  # radius, 0 for none


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour that lies between two, ``share`` of the way from the first to the second."""
    return tuple(x + share * (y - x) for x, y in zip(a, b, strict=True))


class Drawing:
    """Polygons in head units, in the order in which they cover each other."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.shapes: list[Points] = []
        self.inks: list[tuple[int, ...]] = []
        self.flat: list[bool] = []

    def fill(self, points: Points, colour: Colour, alpha: float = 1.0, flat: bool = False) -> None:
        """Adds a polygon; a ``flat`` one does not move when the head turns."""
        self.shapes.append(points)
        self.inks.append((*(min(255, max(0, round(c))) for c in colour), round(255 * alpha)))
        self.flat.append(flat)

    def stroke(
        self, points: Points, width: Points | float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """Adds a line, as wide as ``width`` says at each point."""
        ends = np.concatenate([points[:1], points, points[-1:]])
        along = ends[2:] - ends[:-2]
        x, y = along[:, 0], along[:, 1]
        half = 0.5 * width / (np.sqrt(x * x + y * y) + 1e-9)
        across = _curve(y * half, -x * half)
        self.fill(_band(points + across, points - across), colour, alpha)

    def paint(self, image: Image.Image, centre: tuple[float, float], unit: float) -> None:
        """Turns the head and fills every polygon; ``unit`` is a head unit in pixels."""
        sizes = [len(shape) for shape in self.shapes]
        corners = self._turn(np.concatenate(self.shapes), np.repeat(self.flat, sizes))
        pixels = np.rint(corners * unit + np.array(centre)).ravel().tolist()
        solid, glaze = ImageDraw.Draw(image, "RGB"), ImageDraw.Draw(image, "RGBA")
        start = 0
        for size, ink in zip(sizes, self.inks, strict=True):
            draw = solid if ink[3] == 255 else glaze
            draw.polygon(pixels[start : start + 2 * size], fill=ink)
            start += 2 * size

    def _turn(self, points: Points, flat: NDArray[np.bool_]) -> Points:
        yaw, pitch, roll = self.person.turn
        x, y = points[:, 0], points[:, 1]
        bulge = np.sqrt(np.clip(1.0 - x * x - 0.75 * y * y, 0.0, 1.0))
        depth = np.where(flat, 0.0, 0.62 * bulge)
        x, y = x * _cosine(yaw) + depth * yaw, y * _cosine(pitch) + depth * pitch
        return _curve(x * _cosine(roll) - y * roll, x * roll + y * _cosine(roll))


def draw(person: Person, mood: Mood) -> Drawing:
    """Everything of a head, back to front."""
    drawing = Drawing(person)
    _draw_head(drawing)
    _draw_nose(drawing, mood)
    for side in (-1.0, 1.0):
        _draw_eye(drawing, mood, side)
        _draw_brow(drawing, mood, side)
    _draw_mouth(drawing, mood)
    if person.glasses:
        _draw_glasses(drawing)
    return drawing


def _cosine(sine: float) -> float:
    return math.sqrt(1.0 - sine * sine)


def _curve(x: Points, y: Points | float) -> Points:
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def _band(upper: Points, lower: Points) -> Points:
    outline: Points = np.concatenate([upper, lower[::-1]])
    return outline


def _oval(x: float, y: float, wide: float, high: float) -> Points:
    points: Points = _CIRCLE * np.array([wide, high]) + np.array([x, y])
    return points


def _outline(person: Person) -> Points:
    wide, jaw = person.head
    y = _CIRCLE[:, 1]
    low = np.clip(y, 0.0, 1.0)
    return _curve(_CIRCLE[:, 0] * wide * (1.0 - jaw * low * low), y)


def _draw_head(drawing: Drawing) -> None:
    person = drawing.person
    skin, wide = person.skin, person.head[0]
    shade = mix(skin, (60, 20, 20), 0.3)
    volume, length, hairline, parting = person.cut
    if not person.bald:
        crown = _CIRCLE * np.array([wide * volume + 0.04, volume])
        crown[:, 1] = np.where(crown[:, 1] > 0.0, crown[:, 1] * max(length, 0.3), crown[:, 1])
        drawing.fill(crown - np.array([0.0, 0.06]), mix(person.hair, (0, 0, 0), 0.25), flat=True)
    drawing.fill(np.array([[-0.4, 0.5], [0.4, 0.5], [0.5, 1.5], [-0.5, 1.5]]), shade, flat=True)
    drawing.fill(_oval(0.0, 4.25, 1.7, 3.0), person.shirt, flat=True)
    for side in (-1.0, 1.0):
        drawing.fill(_oval(side * wide, 0.03, 0.12, 0.2), shade, flat=True)
        drawing.fill(_oval(side * wide, 0.03, 0.08, 0.15), skin, flat=True)
    outline = _outline(person)
    drawing.fill(outline, skin, flat=True)
    for side in (-1.0, 1.0):
        drawing.fill(_oval(side * 0.4, 0.27, 0.17, 0.13), mix(skin, (230, 60, 70), 0.12))
    if person.beard:
        low = outline[8:25]
        drawing.fill(low, mix(skin, person.hair, 0.75), flat=True)
        drawing.fill(_oval(0.0, 0.12, wide * 0.8, 0.55), skin)
    if not person.bald:
        top = np.concatenate([outline[24:], outline[:9]]) * np.array([1.05, 1.07])
        line = -hairline - 0.25 * _BULGE + parting * _U * _BULGE + 0.55 * (1.0 - _BULGE)
        drawing.fill(_band(top, _curve(_U * wide * 1.03, line)), person.hair, flat=True)


def _draw_eye(drawing: Drawing, mood: Mood, side: float) -> None:
    person = drawing.person
    x, y, wide, high = person.eyes
    x *= side
    opening = max(0.12, 1.0 + mood.lids)

    def upper(u: Points) -> Points:
        return y - high * (1 - u * u) * opening * (1 - mood.droop * u) + mood.droop * 0.05 * u

    def lower(u: Points) -> Points:
        rise = 0.85 - 1.1 * mood.squint
        return np.maximum(y + high * (1 - u * u) * rise, upper(u)) + mood.droop * 0.05 * u

    across = x + side * wide * _U
    above, below = upper(_U), lower(_U)
    dark = mix(person.skin, (40, 10, 20), 0.6)
    drawing.fill(_band(_curve(across, above - 0.06), _curve(across, below + 0.05)), dark, 0.22)
    drawing.fill(_band(_curve(across, above), _curve(across, below)), (244, 242, 238))
    for radius, colour in ((0.11, person.iris), (0.056, (12, 10, 12))):
        disc = _oval(x + person.gaze[0], y + person.gaze[1], radius, radius)
        u = np.clip((disc[:, 0] - x) * side / wide, -1.0, 1.0)
        disc[:, 1] = np.clip(disc[:, 1], upper(u), lower(u))
        drawing.fill(disc, colour)
    if opening > 0.6:
        drawing.fill(_oval(x - 0.03, y - 0.03, 0.022, 0.022), (255, 255, 255))
    drawing.stroke(_curve(across, above), 0.04 * (0.5 + _BULGE), (24, 14, 14))
    drawing.stroke(_curve(across, below), 0.016, dark)
    if mood.squint > 0.35:
        drawing.stroke(_curve(across, below + 0.07), 0.025 * _BULGE, dark, 0.7)


def _draw_brow(drawing: Drawing, mood: Mood, side: float) -> None:
    person = drawing.person
    thick, height = person.brow
    lift = mood.one_brow if side == person.side else -0.4 * mood.one_brow
    inner, outer = mood.brow_in + lift, mood.brow_out + lift
    eye_x, eye_y = person.eyes[:2]
    y = eye_y - height - 0.5 * (inner * (1 - _U) + outer * (1 + _U)) - 0.045 * _BULGE
    x = side * (eye_x + 0.21 * _U - 0.05 * mood.furrow * (1 - _U))
    ink = mix(person.hair, (16, 10, 10), 0.65)
    drawing.stroke(_curve(x, y), thick * (1.15 - 0.45 * _U * _U - 0.3 * _U), ink)
    if mood.furrow > 0.6:
        crease = _curve(side * (0.05 + 0.02 * _U), eye_y - 0.16 + 0.09 * _U)
        drawing.stroke(crease, 0.025 * _BULGE, mix(person.skin, (40, 10, 20), 0.6), 0.8)


def _draw_nose(drawing: Drawing, mood: Mood) -> None:
    person = drawing.person
    wide, length = person.nose
    eye_y = person.eyes[1]
    tip = eye_y + length - 0.04 * mood.sneer
    dark = mix(person.skin, (50, 15, 15), 0.5)
    flank = _curve(person.side * (0.06 + 0.05 * (_U + 1) * 0.5), tip - 0.05 + 0.13 * (_U - 1))
    drawing.stroke(flank, 0.02 * (0.4 + _BULGE), dark, 0.5)
    wide *= 1.0 + 0.2 * mood.sneer
    drawing.stroke(_curve(_U * wide, tip + 0.035 * _BULGE), 0.022 * (0.7 + _BULGE), dark)
    for side in (-1.0, 1.0):
        drawing.fill(_oval(side * 0.055, tip + 0.012, 0.03, 0.017), mix(dark, (0, 0, 0), 0.5))
        if mood.sneer > 0.3:
            for row in range(3):
                height = eye_y + 0.04 + 0.075 * row
                fold = _curve(side * (0.07 + 0.055 * _U), height - 0.035 * _U)
                drawing.stroke(fold, 0.028 * _BULGE, dark, 0.9)
        if mood.sneer > 0.3 or mood.smile > 0.1:
            cheek = side * (wide + 0.15 + 0.06 * _U + 0.04 * _BULGE)
            drawing.stroke(_curve(cheek, tip + 0.06 + 0.1 * _U), 0.026 * _BULGE, dark, 0.8)


def _draw_mouth(drawing: Drawing, mood: Mood) -> None:
    person = drawing.person
    y, wide, lip = person.mouth
    wide += mood.stretch
    corner = np.clip(_U * person.side, 0.0, 1.0)
    rest = y - mood.smile * (_U * _U - 0.45) - mood.one_corner * corner * corner
    shape = _BULGE + mood.square * (_BOXY - _BULGE)
    across = wide * _U + 0.3 * mood.one_corner * person.side * corner
    top = rest - (0.25 * mood.gape + 0.1 * mood.sneer) * shape
    low = rest + (0.75 * mood.gape - 0.03 * mood.sneer) * shape
    red = mix(person.skin, (165, 40, 55), 0.5)
    bow = _BULGE * (1.0 - 0.35 * _BULGE * _BULGE * _BULGE)
    drawing.fill(
        _band(_curve(across, top - lip * bow), _curve(across, low + 1.25 * lip * _BULGE)), red
    )
    dark = mix(person.skin, (50, 8, 16), 0.85)
    if mood.gape > 0.05:
        drawing.fill(_band(_curve(across, top), _curve(across, low)), dark)
        inner = slice(1, -1)
        gap = (low - top)[inner]
        x, upper, lower = across[inner], top[inner], low[inner]
        teeth = min(1.0, mood.teeth)
        drawing.fill(_band(_curve(x, lower - 0.35 * gap), _curve(x, lower)), (190, 80, 85), 0.8)
        if teeth > 0.1:
            drawing.fill(_band(_curve(x, upper), _curve(x, upper + 0.5 * teeth * gap)), (246,) * 3)
        if teeth > 0.1 and mood.square > 0.5:
            drawing.fill(_band(_curve(x, lower - 0.46 * teeth * gap), _curve(x, lower)), (236,) * 3)
    else:
        drawing.stroke(_curve(across, 0.5 * (top + low)), 0.03 * (0.6 + _BULGE), dark)
    end = across[-1 if person.side > 0 else 0]
    if mood.one_corner > 0.05:
        dimple = _curve(end + person.side * (0.03 + 0.03 * _BULGE), y - mood.one_corner + 0.08 * _U)
        drawing.stroke(dimple, 0.03 * _BULGE, dark, 0.9)


def _draw_glasses(drawing: Drawing) -> None:
    person = drawing.person
    x, y = person.eyes[:2]
    ink = mix(person.shirt, (20, 20, 24), 0.7)
    for side in (-1.0, 1.0):
        rim = _oval(side * x, y + 0.02, 0.26, 0.22)
        if person.glasses == 2:
            rim = np.clip(rim, rim.min(0) + 0.05, rim.max(0) - 0.05)
        drawing.fill(rim, (200, 225, 240), 0.12)
        drawing.stroke(np.concatenate([rim, rim[:2]]), 0.035, ink)
    drawing.stroke(_curve(_U * (x - 0.24), y - 0.03 * _BULGE), 0.035, ink)
