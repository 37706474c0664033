"""The 16 witness pictures and the bundled gate pictures: synthetic faces and one public-domain portrait."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convcut_trt.fields import write_file
from export import synthetic

FOLDER = "witnesses"
COUNT = 16
_SEED = 20_000  # far from the seeds that training on synthetic faces uses


@dataclass(frozen=True)
class Picture:
    """A colour picture uint8 [H, W, 3], the face box (x, y, width, height) in it, and a name."""

    name: str
    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float]


def portrait() -> Picture:
    """Eileen Collins, NASA's official portrait (public domain), as scikit-image ships it; the box is by hand."""
    from skimage.data import astronaut

    pixels: NDArray[np.uint8] = astronaut()[:256, 64:384]  # type: ignore[no-untyped-call]
    return Picture("astronaut", np.ascontiguousarray(pixels), (110.0, 70.0, 100.0, 120.0))


def pictures() -> list[Picture]:
    """The 16 witnesses: 15 synthetic scenes over all classes, and the portrait."""
    scenes = []
    for number in range(COUNT - 1):
        label = number % len(synthetic.CLASSES)
        pixels, box = synthetic.render_scene(label, _SEED + number, 160, 120)
        scenes.append(Picture(f"{number:02d}-{synthetic.CLASSES[label]}", pixels, box))
    return [*scenes, portrait()]


def write(folder: Path, picture: Picture) -> tuple[str, str]:
    """Writes a witness as PNG.

    Args:
        folder: Where the spec will lie; the file goes into ``witnesses/`` below it.
        picture: What to write.

    Returns:
        Path relative to ``folder`` and SHA-256 of the file. The name holds the hash, so that models of
        one folder share their witnesses and never overwrite another's.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, format="PNG", optimize=True)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    file = f"{FOLDER}/{picture.name}.{digest[:12]}.png"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_file(path, content)
    return file, digest


def gate_pictures(count: int = 256, size: int = 64) -> NDArray[np.uint8]:
    """The pictures that gates run on where no others are given: uint8 [count, size, size, 3]."""
    faces, _ = synthetic.render_set(count - 4, _SEED + 1000, size)
    picture = portrait()
    x, y, width, height = picture.box
    crops = []
    for shift in (-0.15, 0.0, 0.15, 0.3):
        side = max(width, height) * (1.2 + shift)
        left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
        crop = Image.fromarray(picture.pixels).resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        crops.append(np.asarray(crop))
    return np.concatenate([faces, np.stack(crops)])
