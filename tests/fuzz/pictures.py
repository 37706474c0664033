"""Pictures, through the loader."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image, features

from convcut_trt.pictures import load_picture
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutations import spoiled


def read_picture(content: bytes, folder: Path) -> None:
    """In colour and in grey."""
    path = folder / "picture"
    path.write_bytes(content)
    load_picture(path)
    load_picture(path, grey=True)


def _saved(mode: str, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.radial_gradient("L").resize((24, 16))
    picture.convert(mode).save(file, format, **options)
    return file.getvalue()


_SIDEWAYS = Image.Exif()
_SIDEWAYS[0x0112] = 6
_MORE = {"save_all": True, "append_images": [Image.new("RGB", (24, 16), "red")]}

_SEEDS = [
    *(_saved(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    _saved("RGB", "PNG", exif=_SIDEWAYS),
    *(_saved(mode, "JPEG") for mode in ("RGB", "L", "CMYK")),
    _saved("RGB", "JPEG", progressive=True, exif=_SIDEWAYS),
    _saved("RGB", "MPO", **_MORE),
    *(_saved(mode, "BMP") for mode in ("RGB", "L", "P", "1", "RGBA")),
    _saved("P", "GIF", **_MORE),
    *(
        _saved(mode, "TIFF", compression=compression)
        for mode in ("RGB", "L")
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ),
    *(_saved(mode, "TIFF") for mode in ("CMYK", "LAB", "F", "I", "I;16")),
    *(_saved(mode, "PPM") for mode in ("RGB", "L", "1")),
    *(
        (_saved("RGBA", "WEBP"), _saved("RGB", "WEBP", lossless=True))
        if features.check("webp")
        else ()
    ),
    *((_saved("RGB", "AVIF"),) if features.check("avif") else ()),
]

TARGETS = {"picture": Target(spoiled(_SEEDS), read_picture)}
