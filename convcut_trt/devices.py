"""The devices an engine can be built for: ``devices.json``, looked up by key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from convcut_trt.errors import InputError


@dataclass(frozen=True)
class Figures:
    """Datasheet figures of a device, of one memory size or power mode of it. All are dense, none with sparsity.

    Attributes:
        variant: The memory size or power mode, empty where there is only one.
        bandwidth_gb_s: Of memory, 1e9 bytes a second.
        fp32_tflops: Without tensor cores, 1e12 operations a second; a multiply-add is two.
        fp16_tflops: Tensor cores, sums in FP32; BF16 goes as fast where there is any (compute capability 8.0).
        fp16_fp16_tflops: The same with sums in FP16: twice as fast on GeForce cards.
        int8_tops: Tensor cores, without a DLA.
        l2_mb: L2 cache, 1e6 bytes.
        memory_gb: Memory, 1e9 bytes; of a Jetson, shared with its CPU.
        power_w: Of the board or module, watts.
        sms: Streaming multiprocessors.
        cuda_cores: FP32 lanes of all of them.
        clock_mhz: Boost clock, or the highest of a power mode.
        sources: Field -> where its figure comes from.
        doubtful: Field -> why its figure may be wrong.
    """

    variant: str
    bandwidth_gb_s: float
    fp32_tflops: float
    fp16_tflops: float
    fp16_fp16_tflops: float
    int8_tops: float
    l2_mb: float
    memory_gb: float
    power_w: float
    sms: int
    cuda_cores: int
    clock_mhz: float
    sources: Mapping[str, str] = field(hash=False)
    doubtful: Mapping[str, str] = field(hash=False)


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
        variants: Its figures, the usual variant first; empty where there are none.
    """

    key: str
    name: str
    compute_capability: tuple[int, int]
    flavours: tuple[str, ...]
    note: str
    source: str
    variants: tuple[Figures, ...] = ()

    def figures(self, variant: str | None = None) -> Figures:
        """The figures of a variant, None for the usual one.

        Raises:
            InputError: It has no figures, or no such variant.
        """
        if not self.variants:
            known_ones = ", ".join(key for key, device in known().items() if device.variants)
            raise InputError(
                f"there are no datasheet figures of {self.name}: choose from {known_ones}"
            )
        names = {_plain(figures.variant): figures for figures in self.variants}
        if variant is None:
            return self.variants[0]
        if _plain(variant) not in names:
            choices = ", ".join(repr(figures.variant) for figures in self.variants)
            raise InputError(f"{self.name} has no variant {variant!r}: choose from {choices}")
        return names[_plain(variant)]

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
            variants=tuple(_variants(row["figures"])) if "figures" in row else (),
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


def _variants(row: Mapping[str, Any]) -> Iterator[Figures]:
    sources = {name: url for url, names in row["sources"].items() for name in names}
    for variant, own in row["variants"].items():
        figures = {**row["common"], **own}
        yield Figures(variant, **figures, sources=sources, doubtful=row.get("doubtful", {}))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
