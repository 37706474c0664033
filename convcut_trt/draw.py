"""Annotated pictures: the face box, the likeliest expression, and a bar for every class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HEIGHT = 480
_PANEL = 300
_ACCENT = (33, 150, 243)
_PLAIN = (120, 130, 140)


def annotate(
    picture: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    classes: Sequence[str],
    probabilities: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Draws one face's answer.

    Args:
        picture: uint8 RGB [H, W, 3].
        box: (left, top, right, bottom) of what the engine saw, in pixels.
        classes: The K expressions.
        probabilities: float32 [K].

    Returns:
        uint8 RGB [480, W', 3]: the picture, scaled, with a panel of bars at its right.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = _HEIGHT / picture.shape[0]
    width = max(1, round(picture.shape[1] * scale))
    canvas = Image.new("RGB", (width + _PANEL, _HEIGHT), (24, 28, 34))
    canvas.paste(
        Image.fromarray(picture).resize((width, _HEIGHT), Image.Resampling.BILINEAR), (0, 0)
    )
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(26), ImageFont.load_default(17)
    draw.rectangle([round(value * scale) for value in box], outline=_ACCENT, width=4)
    best = int(np.argmax(probabilities))
    left = width + 20
    draw.text((left, 24), f"{classes[best]} {probabilities[best]:.0%}", fill="white", font=large)
    gap = min(44, (_HEIGHT - 100) // len(classes))
    for row, (name, share) in enumerate(zip(classes, probabilities, strict=True)):
        top = 84 + row * gap
        draw.text((left, top), name, fill="white" if row == best else (200, 205, 210), font=small)
        length = round((_PANEL - 150) * float(share))
        colour = _ACCENT if row == best else _PLAIN
        draw.rectangle([left + 105, top + 4, left + 105 + max(1, length), top + 18], fill=colour)
    return np.asarray(canvas)
