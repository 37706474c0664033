"""Annotated pictures: a box and a label on every face, and a card of bars for each of the largest ones.

``predict --draw`` and the video of ``run`` share it. Text is rendered once and kept, so that a frame of 640x480
with two faces takes about 3 ms of a PC's core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convcut_trt.track import UNKNOWN, Face

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]

# Pixels, all of them. Pictures of fewer rows are enlarged until the text beside them can be read; larger ones are
# shrunk, because drawing takes time in proportion to the pixels.
_LEAST, _MOST = 480, (1280, 720)
_PANEL, _WIDE = 290, 270  # columns of the panel and of a card
_CARD, _HEAD, _FOOT = (
    229,
    56,
    22,
)  # rows of a card at least, of it without its bars, below all cards
_BAR, _LENGTH, _ROW = 104, 108, 15  # where in a card bars begin, how long they are, rows of each

_GROUND, _CARD_GROUND, _GROOVE = (17, 20, 26), (27, 32, 41), (44, 51, 63)
_WHITE, _PALE, _GREY, _MUTED = (245, 247, 250), (158, 168, 182), (140, 147, 156), (96, 108, 124)
_DARK = (12, 14, 18)
# Of the tracks, in turn; told apart by readers who confuse red and green, too (Okabe and Ito, lightened).
_TRACKS: tuple[Colour, ...] = (
    (86, 180, 233),
    (240, 180, 50),
    (60, 200, 150),
    (222, 130, 180),
    (240, 228, 90),
    (238, 120, 60),
)


class Overlay:
    """Draws the faces of pictures that are, or become, all of one size.

    Attributes:
        size: (width, height) of what it draws, in pixels, both even as codecs want them. At least 480 rows, the
            picture enlarged; it is shrunk where it exceeds 1280x720.
    """

    def __init__(self, classes: Sequence[str], width: int, height: int) -> None:
        """Lays out the panel beside the picture.

        Args:
            classes: The K expressions.
            width: Of the pictures, in pixels.
            height: Of the pictures, in pixels.
        """
        self._classes = tuple(classes)
        scale = min(max(1.0, _LEAST / height), _MOST[0] / width, _MOST[1] / height)
        self._area = max(1, round(width * scale)), max(1, round(height * scale))
        rows = max(_LEAST, self._area[1])
        self.size = (self._area[0] + _PANEL + 1) // 2 * 2, (rows + 1) // 2 * 2
        self._cards = (self.size[1] - _FOOT) // _CARD
        self._pitch = (self.size[1] - _FOOT) // self._cards
        self._rows = min(len(classes), max(1, (self._pitch - 10 - _HEAD) // _ROW))
        self._grounds = [self._ground(count) for count in range(self._cards + 1)]

    def draw(self, picture: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
        """Draws the answer to one picture.

        Args:
            picture: uint8 RGB [H, W, 3]; one of another size is fitted into the place of the others.
            faces: Their ``smoothed`` probabilities [K] are drawn; "unknown" ones are grey. The largest have cards.

        Returns:
            uint8 RGB of ``size``, the caller's own.
        """
        from PIL import Image

        largest = sorted(faces, key=lambda face: -face.box[2] * face.box[3])[: self._cards]
        canvas = self._grounds[len(largest)].copy()
        height, width = picture.shape[:2]
        scale = min(self._area[0] / width, self._area[1] / height)
        shown = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (self._area[0] - shown[0]) // 2, (self.size[1] - shown[1]) // 2
        image = Image.fromarray(picture)
        if shown != image.size:
            # The box filter is the faster one, and as good where pixels are averaged.
            how = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX
            image = image.resize(shown, how)
        canvas.paste(image, (left, top))
        limits = (left, top, left + shown[0], top + shown[1])
        for face in faces:
            x, y, wide, high = (value * scale for value in face.box)
            _draw_box(canvas, face, (left + x, top + y, left + x + wide, top + y + high), limits)
        for place, face in enumerate(sorted(largest, key=lambda face: face.track)):
            self._draw_card(canvas, face, place)
        if len(faces) > len(largest):
            text = _text(f"and {len(faces) - len(largest)} more", 13)
            _write(canvas, text, self.size[0] - 22 - text.width, self.size[1] - 12, _PALE)
        return np.array(canvas)

    def _ground(self, count: int) -> Image.Image:
        """What does not change from frame to frame with so many cards."""
        from PIL import Image

        ground = Image.new("RGB", self.size, _GROUND)
        left = self.size[0] - _PANEL + 10
        for place in range(count):
            _fill(ground, left, self._top(place), _WIDE, self._pitch - 10, 9, _CARD_GROUND)
            for row in range(self._rows):
                _fill(ground, left + _BAR, self._middle(place, row) - 4, _LENGTH, 8, 4, _GROOVE)
        if not count:
            text = _text("no face", 20)
            _write(ground, text, left + (_WIDE - text.width) // 2, self.size[1] // 2, _MUTED)
        return ground

    def _top(self, place: int) -> int:
        return 10 + place * self._pitch

    def _middle(self, place: int, row: int) -> int:
        pitch = (self._pitch - 10 - _HEAD) / self._rows
        return round(self._top(place) + 46 + (row + 0.5) * pitch)

    def _draw_card(self, canvas: Image.Image, face: Face, place: int) -> None:
        left, colour, shares = self.size[0] - _PANEL + 10, _colour(face), face.smoothed
        right, middle = left + _WIDE - 12, self._top(place) + 23
        number = _text(str(face.track), 17)
        badge = max(26, number.width + 12)
        _fill(canvas, left + 12, middle - 13, badge, 26, 7, colour)
        _write(canvas, number, left + 12 + (badge - number.width) // 2, middle, _DARK)
        percent = _text(_confidence(face), 20)
        _write(canvas, percent, right - percent.width, middle, _WHITE)
        start = left + 22 + badge
        _write(canvas, _text(face.label, 20), start, middle, _WHITE, right - percent.width - 10)
        kept = sorted(np.argsort(-shares, kind="stable")[: self._rows].tolist())
        start = left + _BAR
        for row, index in enumerate(kept):
            middle, name, share = self._middle(place, row), self._classes[index], shares[index]
            tone, fill = (_WHITE, colour) if name == face.label else (_PALE, _MUTED)
            _write(canvas, _text(name, 14), left + 12, middle, tone, start - 6)
            _fill(canvas, start, middle - 4, round(_LENGTH * float(share)), 8, 4, fill)
            percent = _text(f"{share:.0%}", 14)
            _write(canvas, percent, right - percent.width, middle, tone)


def _draw_box(
    canvas: Image.Image,
    face: Face,
    corners: tuple[float, float, float, float],
    limits: tuple[int, int, int, int],
) -> None:
    """A frame with strong corners, and the label above it, or inside where the picture ends."""
    colour = _colour(face)
    x0, y0 = max(limits[0], round(corners[0])), max(limits[1], round(corners[1]))
    x1, y1 = min(limits[2], round(corners[2])), min(limits[3], round(corners[3]))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return
    arm = min(x1 - x0, y1 - y0) // 5
    for y in (y0, y1 - 2):
        canvas.paste(colour, (x0, y, x1, y + 2))
    for x in (x0, x1 - 2):
        canvas.paste(colour, (x, y0, x + 2, y1))
    for x, y in ((x0, y0), (x1 - arm, y0), (x0, y1 - 4), (x1 - arm, y1 - 4)):
        canvas.paste(colour, (x, y, x + arm, y + 4))
    for x, y in ((x0, y0), (x1 - 4, y0), (x0, y1 - arm), (x1 - 4, y1 - arm)):
        canvas.paste(colour, (x, y, x + 4, y + arm))
    text = _text(f"{face.track}  {face.label} {_confidence(face)}".rstrip(), 18)
    wide, high = text.width + 18, 28
    left = max(limits[0], min(x0, limits[2] - wide))
    top = y0 - high - 3 if y0 - high - 3 >= limits[1] else y0 + 6
    _fill(canvas, left, top, wide, high, 7, colour)
    _write(canvas, text, left + 9, top + high // 2, _DARK)


def _colour(face: Face) -> Colour:
    return _GREY if face.label == UNKNOWN else _TRACKS[(face.track - 1) % len(_TRACKS)]


def _confidence(face: Face) -> str:
    """Nothing of an unknown face: its figure is that of an expression that is not claimed."""
    return "" if face.label == UNKNOWN else f"{face.confidence:.0%}"


def _fill(
    canvas: Image.Image, left: int, top: int, wide: int, high: int, radius: int, colour: Colour
) -> None:
    """A rectangle with round corners; nothing where it is less than a pixel wide."""
    if wide > 0:
        canvas.paste(colour, (left, top), _rounded(wide, high, radius))


def _write(
    canvas: Image.Image, text: Image.Image, left: int, middle: int, colour: Colour, end: int = 10**6
) -> None:
    """Text beside ``middle``, cut off at ``end``."""
    if left + text.width > end:
        text = text.crop((0, 0, max(1, end - left), text.height))
    canvas.paste(colour, (left, middle - text.height // 2), text)


@lru_cache(maxsize=1024)
def _rounded(wide: int, high: int, radius: int) -> Image.Image:
    """The coverage of a rectangle with round corners: Pillow's own have stairs."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", (4 * wide, 4 * high))
    reach = min(4 * radius, 2 * wide, 2 * high)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * wide - 1, 4 * high - 1), reach, fill=255)
    return mask.reduce(4)


@lru_cache(maxsize=1024)
def _text(text: str, size: int) -> Image.Image:
    """The coverage of a line of text; its capitals stand in the middle."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    _, top, _, base = font.getbbox("H")
    below = font.getbbox("gj")[3] - base
    mask = Image.new(
        "L", (max(1, math.ceil(font.getlength(text))), math.ceil(base - top + 2 * below))
    )
    ImageDraw.Draw(mask).text((0, below - top), text, fill=255, font=font)
    return mask
