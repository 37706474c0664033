"""Files of pictures, byte by byte where no encoder would write such a one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def gradient(height: int = 12, width: int = 18) -> Pixels:
    """A picture that differs in every pixel, from every side."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 20, x * 14, (x + y) * 8], axis=-1).astype(np.uint8)


def flat(colour: tuple[int, int, int], height: int = 16, width: int = 16) -> Pixels:
    """One colour all over."""
    return np.full((height, width, 3), colour, np.uint8)


def packed(picture: Image.Image, format: str, **options: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF that says how the picture is to be turned."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with a sound checksum."""
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *between: bytes) -> bytes:
    """A PNG of raw rows without their filter bytes; ``between`` lies before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    step = len(rows) // height if height else 0
    filtered = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step or 1))
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(filtered))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def with_chunk(file: bytes, name: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return file[:33] + chunk(name, data) + file[33:]


def tiff(tags: Mapping[int, tuple[int, int, int]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF whose pixels lie at byte 8 and whose tags are (type, count, value or place)."""
    place = 8 + len(pixels) + len(pixels) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place)
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        for tag, (kind, count, value) in sorted(tags.items())
    )
    body = head + pixels + bytes(len(pixels) % 2)
    return body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def grey_tags(side: int, length: int) -> dict[int, tuple[int, int, int]]:
    """Of a TIFF of side x side grey pixels of 8 bits, without compression."""
    return {
        256: (4, 1, side),
        257: (4, 1, side),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, side),
        279: (4, 1, length),
    }


def many_tags(count: int, size: int) -> bytes:
    """A TIFF of 4 x 4 pixels, ``count`` of whose tags all point at the same ``size`` bytes."""
    tags = grey_tags(4, 16) | {1000 + number: (7, size, 8) for number in range(count)}
    return tiff(tags, bytes(size))


class Files:
    """Writes pictures into a folder under numbered names."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.count = folder, name, 0

    def write(self, suffix: str, data: bytes) -> Path:
        """One file more."""
        self.count += 1
        path = self.folder / f"{self.name} {self.count}.{suffix}"
        path.write_bytes(data)
        return path

    def save(self, suffix: str, picture: Image.Image, **options: Any) -> Path:
        """One picture more, by Pillow."""
        self.count += 1
        path = self.folder / f"{self.name} {self.count}.{suffix}"
        picture.save(path, **options)
        return path
