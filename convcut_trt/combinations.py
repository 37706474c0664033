"""Versions that are known not to go together: ``combinations.json``, matched against what is here."""

from __future__ import annotations

import contextlib
import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

Fact = tuple[int, ...] | str | frozenset[str]
"""A version, a text, or the names of the packages that are installed."""

_COMPARE = {">=": operator.ge, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class Combination:
    """One row of ``combinations.json``.

    Attributes:
        what: What happens.
        fix: What to do about it.
        source: Where both come from.
        when: By the name of a fact, what it must be, all of them: for a version, comparisons that all hold
            (``>=10.3,<11``); for a text, a part of it; for the installed packages, names that are all among
            them. A list means any of its entries. The facts: versions by module (``tensorrt``,
            ``cuda.bindings``), with ``_folder`` where it lies and ``_error`` where it does not load; ``cuda``
            of the driver; ``l4t``; ``compute_capability``; ``installed``, packages as pip calls them.
    """

    what: str
    fix: str
    source: str
    when: Mapping[str, str | list[str]]

    def matches(self, facts: Mapping[str, Fact]) -> bool:
        """A fact that is not known matches nothing."""
        return all(
            name in facts and any(_holds(facts[name], one) for one in _listed(must))
            for name, must in self.when.items()
        )


def known() -> list[Combination]:
    """All rows, in the order of the file."""
    text = Path(__file__).with_name("combinations.json").read_text("utf-8")
    return [Combination(**row) for row in json.loads(text)["combinations"]]


def version(text: str) -> tuple[int, ...]:
    """The numbers a version begins with: (10, 16, 2) of ``10.16.2rc1``, () of a text without any."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found.group().split("."))) if found else ()


def installed() -> frozenset[str]:
    """Those of the packages named in the table that are installed here."""
    found = set()
    for combination in known():
        for must in _listed(combination.when.get("installed", [])):
            for name in must.split(", "):
                with contextlib.suppress(metadata.PackageNotFoundError):
                    metadata.version(name)
                    found.add(name)
    return frozenset(found)


def _listed(must: str | list[str]) -> list[str]:
    return [must] if isinstance(must, str) else must


def _holds(fact: Fact, must: str) -> bool:
    if isinstance(fact, str):
        return must in fact
    parts = [part.strip() for part in must.split(",")]
    if isinstance(fact, frozenset):
        return fact.issuperset(parts)
    for part in parts:
        sign, bound = re.fullmatch(r"(>=|<|==)([\d.]+)", part).groups()  # type: ignore[union-attr]
        if not _COMPARE[sign](fact, version(bound)):
            return False
    return True
