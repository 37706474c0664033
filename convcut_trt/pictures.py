"""Open one picture of a user's safely: 8-bit pixels, or an ``InputError`` that says why not.

What becomes of the unusual ones:

- EXIF orientation is applied; ICC profiles are not.
- Grey becomes RGB with equal channels; palettes are looked up; CMYK, YCbCr and Lab are converted.
- 16 bits a channel keep their high byte; 32-bit and floating-point pictures are refused, because
  their scale is not known.
- Transparency is laid over white, as picture viewers show it.
- Of an animation, or of a file with several pages, the first picture is taken.
- More than ``MAX_PIXELS`` by the header is refused before anything is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from convcut_trt.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 40_000_000
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".mpo", ".bmp", ".webp", ".avif", ".gif")
    + (".tif", ".tiff", ".ppm", ".pgm")
)
_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "WEBP", "AVIF", "GIF", "TIFF", "PPM")


def load_picture(path: str | Path, *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """Decode one picture file into 8-bit pixels.

    Args:
        path: A PNG, JPEG, MPO, BMP, WebP, AVIF, GIF, TIFF or PPM file, by content, not by suffix.
        grey: Return ITU-R 601 luma instead of RGB; exact for a picture that is grey already.

    Returns:
        uint8 RGB [H, W, 3], or [H, W] with ``grey``; a contiguous array of its own.

    Raises:
        InputError: No such file, no picture, damaged, cut short, of a kind that has no known scale,
            or above ``MAX_PIXELS``. The text names the file and the reason.
    """
    path = Path(path)
    try:
        _require_file(path)
        return _decode(path, "L" if grey else "RGB")
    except InputError:
        raise
    except Exception as error:
        # Pillow's readers meet damaged bytes with almost any exception there is: OSError,
        # SyntaxError, ValueError, struct.error, EOFError, MemoryError, its own bomb errors.
        raise InputError(_reason(path, error)) from error


@dataclass(frozen=True)
class PictureFiles:
    """Pictures decoded each time they are asked for: uint8 [H, W, 3], or [H, W] if ``grey``."""

    paths: tuple[Path, ...]
    grey: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        return load_picture(self.paths[position], grey=self.grey)


def check_pixels(images: npt.NDArray[np.generic], name: str) -> None:
    """Raise an ``InputError`` unless ``images`` are uint8 [N, H, W] or [N, H, W, 3], not empty."""
    shape_ok = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not shape_ok or 0 in images.shape:
        raise InputError(
            f"{name}: images are {images.dtype} {list(images.shape)}, "
            "store at least one as uint8 [N, H, W] or [N, H, W, 3]."
        )


def _require_file(path: Path) -> None:
    if not path.is_file():
        reason = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {reason}: give the path of a picture file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy the picture again.")


def _decode(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    from PIL import Image, ImageOps

    with Image.open(path, formats=_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(_too_large(path, f"{width} x {height} pixels"))
        image.load()
        upright = ImageOps.exif_transpose(image)
        return np.array(_eight_bit(upright, path).convert(mode))


@cache
def _formats() -> tuple[str, ...]:
    """The formats of ours that this Pillow was built with: never EPS, which runs Ghostscript."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise InputError(f"{path} has 32 bits a pixel: save it with 8 bits a channel.")
        return Image.fromarray((deep.astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{path} has floating-point pixels: save it with 8 bits a channel.")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return image.convert("RGB") if image.mode not in ("L", "RGB") else image


def _reason(path: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_large(path, "far too many pixels")
    if isinstance(error, UnidentifiedImageError):
        return f"{path} is not a picture that can be read: give a PNG, JPEG, BMP, WebP or TIFF."
    if isinstance(error, PermissionError):
        return f"{path} may not be read: change its permissions."
    detail = str(error) or type(error).__name__
    return f"{path} is damaged or cut short ({detail}): copy or save the picture again."


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path} claims {size}, more than the limit of {MAX_PIXELS // 10**6} million: "
        "scale the picture down."
    )
