"""Pictures of a user's or of a network, decoded safely: 8-bit pixels, or an ``InputError`` that says why not.

``docs/pictures.md`` has the table of what becomes of which picture; every way in ends here, so it means the same
everywhere. Nothing is decoded before it is known to be small enough, and no decoder sees more of a file than its
pixels need (``containers``).
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from convcut_trt.containers import Bare, bare
from convcut_trt.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 40_000_000
MAX_BYTES = 128_000_000  # MAX_PIXELS as RGB without compression, and what lies around them
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".mpo", ".bmp", ".webp", ".gif")
    + (".tif", ".tiff", ".ppm", ".pgm")
)
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


def load_picture(path: str | Path, *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """Decode one picture file into 8-bit pixels.

    Args:
        path: A file of one of ``FORMATS``, by content, not by suffix.
        grey: Return ITU-R 601 luma instead of RGB; exact for a picture that is grey already.

    Returns:
        uint8 RGB [H, W, 3], or [H, W] with ``grey``; a contiguous array of its own.

    Raises:
        InputError: No such file, or as ``decode_picture``. The text names the file and the reason.
    """
    return decode_picture(_read(Path(path)), str(path), grey=grey)


def decode_picture(
    data: bytes, name: str, *, grey: bool = False, formats: tuple[str, ...] = FORMATS
) -> npt.NDArray[np.uint8]:
    """Decode a picture file that is in memory into 8-bit pixels.

    Args:
        data: The file.
        name: What to call it in messages.
        grey: As ``load_picture``.
        formats: Those of ``FORMATS`` that are looked for.

    Returns:
        As ``load_picture``.

    Raises:
        InputError: No picture, damaged, cut short, without pixels, of a kind that has no known scale, or
            above ``MAX_PIXELS`` or ``MAX_BYTES``.
    """
    if len(data) > MAX_BYTES:
        raise InputError(_too_large(name, f"{len(data)} bytes", f"{MAX_BYTES // 10**6} million"))
    try:
        found = bare(data)
        if found is None or found.format not in formats:
            raise InputError(
                f"{name} is no picture that can be read: give one as {', '.join(formats)}."
            )
        del data
        return _decode(found, name, "L" if grey else "RGB")
    except InputError:
        raise
    except Exception as error:
        # Pillow's readers meet damaged bytes with almost any exception there is: OSError,
        # SyntaxError, ValueError, struct.error, EOFError, MemoryError, its own bomb errors.
        raise InputError(_reason(name, error)) from error


@dataclass(frozen=True)
class PictureFiles:
    """Pictures decoded each time they are asked for: uint8 [H, W, 3], or [H, W] if ``grey``."""

    paths: tuple[Path, ...]
    grey: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> npt.NDArray[np.uint8]:
        return load_picture(self.paths[position], grey=self.grey)


def shown_name(path: Path) -> str:
    """A path as text that can be printed and sent: names on Linux need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def list_pictures(folder: Path) -> list[Path]:
    """What is named like a picture in a folder, by name; hidden files are left out, as macOS' ``._a.jpg``.

    Raises:
        InputError: It may not be read.
    """
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}): check its permissions"
        ) from error
    return [path for path in names if path.suffix.lower() in SUFFIXES and path.name[0] != "."]


def check_pixels(images: npt.NDArray[np.generic], name: str) -> None:
    """Raise an ``InputError`` unless ``images`` are uint8 [N, H, W] or [N, H, W, 3], not empty."""
    shape_ok = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not shape_ok or 0 in images.shape:
        raise InputError(
            f"{name}: images are {images.dtype} {list(images.shape)}, "
            "store at least one as uint8 [N, H, W] or [N, H, W, 3]."
        )


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # nor a pipe or a device, which may never end
            reason = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"{path} {reason}: give the path of a picture file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                _too_large(str(path), f"{size} bytes", f"{MAX_BYTES // 10**6} million")
            )
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except PermissionError as error:
        raise InputError(f"{path} may not be read: change its permissions.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): copy it again.") from error
    if not data:
        raise InputError(f"{path} is empty (0 bytes): copy the picture again.")
    return data


def _decode(found: Bare, name: str, mode: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with Image.open(io.BytesIO(found.data), formats=(found.format,)) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            size = f"{width} x {height} pixels"
            raise InputError(_too_large(name, size, f"{MAX_PIXELS // 10**6} million"))
        if width * height == 0:
            raise InputError(f"{name} has no pixels ({width} x {height}): save the picture again.")
        image.load()
        shallow = _eight_bit(image, name)
        # Pillow copies a picture that it has nothing to convert of.
        pixels = np.asarray(shallow if shallow.mode == mode else shallow.convert(mode))
    return np.array(_upright(pixels, found.orientation), order="C")


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """The picture as it is to be seen: EXIF's orientation says where its first row and column lie."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise InputError(f"{name} has 32 bits a pixel: save it with 8 bits a channel.")
        return Image.fromarray((deep >> 8).astype(np.uint8))
    if image.mode == "F":
        raise InputError(f"{name} has floating-point pixels: save it with 8 bits a channel.")
    if image.has_transparency_data:
        seen = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", seen.size, "white")
        white.paste(seen, mask=seen)
        return white
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _reason(name: str, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_large(name, "far too many pixels", f"{MAX_PIXELS // 10**6} million")
    detail = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # its text tells of our buffer's address
        detail = "its header makes no sense"
    return f"{name} is damaged or cut short ({detail}): save or send the picture again."


def _too_large(name: str, size: str, limit: str) -> str:
    return f"{name} claims {size}, more than the limit of {limit}: scale the picture down."
