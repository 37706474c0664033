"""What the pixels of a picture file need, and nothing else of the file.

A decoder is shown no comments, colour profiles, EXIF, XMP, thumbnails and further pictures. All of those can be
made to fill the memory or to take for ever: text that inflates, thousands of tags that share one megabyte, a
hundred thousand passes over the pixels of a JPEG. Of EXIF the orientation is read, here.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAX_SCANS = 64  # passes over a JPEG's pixels; encoders make about ten
_MAX_TAGS = (
    1 << 21
)  # bytes in a TIFF's tags; a strip for each of 65000 rows takes 1 MB in the longest form
_MAX_TILE = 1 << 24  # pixels
_TILE_SIDES = {322, 323}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a byte of the pixels, padding or a restart
_BLOCK = re.compile(rb"[!,;]")  # of a GIF: an extension, a picture, the end
_ORIENTATION = 0x112
# Sizes in bytes of TIFF's types 1 to 18; there are no 14 and 15.
_TIFF_SIZES = (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
# From ImageWidth to ReferenceBlackWhite: what says how a TIFF's pixels are stored.
_TIFF_TAGS = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325)
    + (332, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532)
)


class Bare(NamedTuple):
    """A picture without all that is not pixels.

    Attributes:
        format: Pillow's name of it.
        data: The file.
        orientation: How it is to be turned, 1 to 8 as EXIF counts; 1 where the file does not say.
    """

    format: str
    data: bytes
    orientation: int = 1


def bare(data: bytes) -> Bare | None:
    """Takes a picture file apart and puts together what its pixels need; what is cut short stays so.

    Args:
        data: The whole file: PNG, JPEG, GIF, WebP, TIFF, BMP, or PPM and PGM in binary.

    Returns:
        The picture; None for any other file.

    Raises:
        ValueError: A JPEG of more than ``MAX_SCANS`` passes, a TIFF whose tags or tiles are none of a picture.
        struct.error: A TIFF that is cut short.
    """
    for start, take in _KINDS:
        if start.match(data):
            return take(data)
    return None


def _png(data: bytes) -> Bare:
    """Critical chunks and transparency. https://www.w3.org/TR/png-3/#5Chunk-layout"""
    kept, orientation, at = bytearray(data[:8]), 1, 8
    whole = memoryview(data)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        elif not kind[0] & 0x20 or kind == b"tRNS":
            kept += whole[at:end]
        at = end
    kept += whole[at:]
    return Bare("PNG", bytes(kept), orientation)


def _jpeg(data: bytes) -> Bare:
    """All but comments and application segments; of those JFIF's and Adobe's, which name the colours.

    https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B. What follows the picture is left out.
    """
    kept, orientation, scans, at = bytearray(data[:2]), 1, 0, 2
    whole = memoryview(data)
    while match := _MARKER.search(data, at):
        begin, marker = match.start(), data[match.start() + 1]
        kept += whole[at:begin]
        if marker == 0xD9:  # the end
            kept += whole[begin : begin + 2]
            break
        length = int.from_bytes(data[begin + 2 : begin + 4], "big")
        if marker in (0x01, 0xD8) or length < 2:  # libjpeg goes no further either
            kept += whole[begin:]
            break
        at = begin + 2 + length
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise ValueError(f"a JPEG of more than {MAX_SCANS} passes over its pixels")
        if marker == 0xE1 and data[begin + 4 : begin + 8] == b"Exif":
            orientation = _orientation(data[begin + 4 : at])
        elif not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):
            kept += whole[begin:at]
    else:
        kept += whole[at:]
    return Bare("JPEG", bytes(kept), orientation)


def _gif(data: bytes) -> Bare:
    """The screen and its first picture. https://www.w3.org/Graphics/GIF/spec-gif89a.txt"""
    at = 13 + _colours(data, 10)
    kept = bytearray(data[:at])
    while match := _BLOCK.search(data, at):
        at = begin = match.start()
        kind = data[begin]
        if kind == 0x3B:  # the end
            break
        at += 11 + _colours(data, begin + 9) if kind == 0x2C else 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if kind == 0x2C or data[begin + 1 : begin + 2] == b"\xf9":  # what is transparent
            kept += data[begin:at]
        if kind == 0x2C:
            return Bare("GIF", bytes(kept) + (b";" if at <= len(data) else b""))
    return Bare("GIF", bytes(kept))


def _colours(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags there announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Bare:
    """The picture, or an animation's first. https://developers.google.com/speed/webp/docs/riff_container"""
    kept, orientation, frames, at = bytearray(data[:12]), 1, 0, 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            orientation = _orientation(data[at + 8 : end])
        elif kind in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM") or (
            kind == b"ANMF" and frames == 1
        ):
            begin = len(kept)
            kept += data[at:end]
            if kind == b"VP8X" and len(kept) > begin + 8:
                kept[begin + 8] &= (
                    0b00010010  # transparent, animated: no longer profile, EXIF or XMP
                )
        at = end
    if at <= len(data):  # else it is cut short, and its size has to say so
        kept[4:8] = struct.pack("<I", len(kept) - 8)
    return Bare("WEBP", bytes(kept), orientation)


class _Entry(NamedTuple):
    """A tag of a TIFF: ``field`` is the entry as stored, ``values`` its numbers where they are in it."""

    tag: int
    size: int
    field: bytes
    values: tuple[int, ...]


def _directory(data: bytes) -> tuple[str, bool, int]:
    """The order of a TIFF's bytes as ``struct`` has it, whether it is a BigTIFF, where its first directory lies."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    return order, big, at


def _entries(data: bytes) -> Iterator[_Entry]:
    """The first directory of a TIFF. https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2

    Raises:
        struct.error: It is cut short.
        ValueError: More tags than there are.
    """
    order, big, at = _directory(data)
    layout, inside = (f"{order}HHQ8s", 8) if big else (f"{order}HHI4s", 4)
    (number,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)
    if number > 0xFFFF:
        raise ValueError(f"a TIFF of {number} tags")
    at += 8 if big else 2
    step = struct.calcsize(layout)
    for begin in range(at, at + number * step, step):
        tag, kind, count, field = struct.unpack_from(layout, data, begin)
        size = count * (_TIFF_SIZES[kind - 1] if 1 <= kind <= 18 else 0)
        code = {3: "H", 4: "I", 16: "Q"}.get(kind)
        whole = code is not None and size <= inside
        values = struct.unpack_from(f"{order}{count}{code}", field) if whole else ()
        yield _Entry(tag, size, data[begin : begin + step], values)


def _tiff(data: bytes) -> Bare:
    """The first page, under a directory of its own in the place of the former, which was no shorter."""
    fields: dict[int, bytes] = {}
    values: dict[int, int] = {}
    sizes = 0
    for tag, size, field, numbers in _entries(data):
        if tag in _TIFF_TAGS:
            fields[tag], sizes = field, sizes + size
        if numbers:
            values[tag] = numbers[0]
        if sizes > _MAX_TAGS:
            raise ValueError(f"a TIFF with more than {_MAX_TAGS >> 20} MB of tags")
    sides = [values.get(tag, math.inf) for tag in _TILE_SIDES]
    if _TILE_SIDES & set(fields) and math.prod(sides) > _MAX_TILE:
        raise ValueError(f"a TIFF with tiles of more than {_MAX_TILE >> 20} million pixels")
    order, big, at = _directory(data)
    new = struct.pack(f"{order}{'Q' if big else 'H'}", len(fields))
    new += b"".join(fields[tag] for tag in sorted(fields)) + bytes(8 if big else 4)
    orientation = values.get(_ORIENTATION, 1)
    whole = memoryview(data)
    stored = b"".join((whole[:at], new, whole[at + len(new) :]))
    return Bare("TIFF", stored, orientation if 1 <= orientation <= 8 else 1)


def _orientation(block: bytes) -> int:
    """What a block of EXIF says, 1 where it is none or damaged: then viewers show the picture as it is stored."""
    try:
        for entry in _entries(block.removeprefix(b"Exif\0\0")):
            if entry.tag == _ORIENTATION and entry.values and 1 <= entry.values[0] <= 8:
                return entry.values[0]
    except (struct.error, ValueError):
        pass
    return 1


_KINDS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Bare]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"GIF8[79]a"), _gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    (re.compile(rb"BM"), lambda data: Bare("BMP", data)),
    (re.compile(rb"P[456]\s"), lambda data: Bare("PPM", data)),
)
