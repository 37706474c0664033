"""The devices an engine can be built for: ``devices.json``, looked up by key."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from convcut_trt.errors import InputError


@dataclass(frozen=True)
class Device:
    """One row of ``devices.json``.

    Attributes:
        key: What ``--target`` takes, for example ``rtx4060ti``.
        name: What a person calls it.
        compute_capability: (major, minor), for example (8, 9).
        flavours: Backends that have engines for it; empty when it is not supported.
        note: What to know, or why it is not supported; may be empty.
        source: Where the row comes from.
    """

    key: str
    name: str
    compute_capability: tuple[int, int]
    flavours: tuple[str, ...]
    note: str
    source: str

    @property
    def sm(self) -> str:
        """The compute capability as compilers write it, for example ``sm_89``."""
        major, minor = self.compute_capability
        return f"sm_{major}{minor}"


@lru_cache(maxsize=1)
def known() -> dict[str, Device]:
    """All rows by key, in the order of the file, the unsupported ones among them."""
    rows = json.loads(Path(__file__).with_name("devices.json").read_text("utf-8"))["devices"]
    return {
        key: Device(
            key=key,
            name=row["name"],
            compute_capability=(row["compute_capability"][0], row["compute_capability"][1]),
            flavours=tuple(row["flavours"]),
            note=row.get("note", ""),
            source=row["source"],
        )
        for key, row in rows.items()
    }


def find(name: str) -> Device:
    """The device called ``name``; case, spaces, ``-`` and ``_`` do not matter.

    Raises:
        InputError: No such device (the closest names are given), or one that no backend supports.
    """
    plain = {_plain(key): device for key, device in known().items()}
    device = plain.get(_plain(name))
    if device is None:
        close = difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.5)
        meant = f" Did you mean {' or '.join(plain[key].key for key in close)}?" if close else ""
        raise InputError(f"no device named {name!r}.{meant} Known: {', '.join(supported())}")
    if not device.flavours:
        raise InputError(f"{device.name} is not supported: {device.note}")
    return device


def supported(flavour: str | None = None) -> list[str]:
    """Keys of the devices that ``flavour`` has engines for; of all supported ones without it."""
    return [
        key
        for key, device in known().items()
        if device.flavours and (flavour is None or flavour in device.flavours)
    ]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
