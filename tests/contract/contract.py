"""Holds what our source uses of TensorRT against the APIs of its versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcut_trt.backends.trt_flavours import Feature
from tests.contract.scan import Api, Scan, Use, our_any

ROOT = Path(__file__).parents[2] / "convcut_trt"
COMMITTED = Path(__file__).with_name("api.json")
# Removed by a version that is supported: what the committed table has to know to refuse them.
REMOVED = ("BuilderFlag.FP16", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH")


@dataclass(frozen=True)
class Version:
    """One API: ``flavour`` is ``tensorrt`` or ``tensorrt-rtx``, ``number`` for example ``10.3.0``."""

    flavour: str
    number: str
    api: Api

    def __str__(self) -> str:
        return f"{self.flavour} {self.number}"

    def has(self, feature: Feature) -> bool:
        """What the product's table says."""
        first = feature.first[self.flavour]
        found = tuple(int(part) for part in self.number.split(".")[:2])
        return first is not None and found >= first


def sources() -> dict[str, str]:
    """Text by file name of our modules that handle TensorRT: that name ``trt`` or import a module of ours
    that is called after it."""
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in ROOT.rglob("*.py")
    }
    code = re.compile(
        r"(?<![\w.-])(self\.)?_?trt(?![\w-])|\bbackends[. ](import )?trt_(?!plan|flavours)"
    )
    return {name: text for name, text in sorted(texts.items()) if code.search(text)}


def merged(versions: Iterable[Version]) -> Api:
    """Every name that any of them has, as the last of them has it."""
    every: dict[str, Mapping[str, Any]] = {}
    for version in versions:
        every.update(version.api)
    return every


def scan(texts: Mapping[str, str], api: Api) -> tuple[list[Use], list[str]]:
    """What all the sources use, and what could not be told of them."""
    ours = our_any(texts.values())
    scans = [Scan(text, name, api, ours) for name, text in texts.items()]
    return (
        [use for one in scans for use in one.uses],
        [problem for one in scans for problem in one.problems],
    )


def violations(uses: Iterable[Use], version: Version) -> list[str]:
    """The uses that this version does not allow, unless the table says so and the code asks it."""
    found = []
    for use in uses:
        feature = feature_of(use)
        if feature is not None:
            if not any(_implies(Feature[name], feature) for name in use.asked):
                found.append(f"{use.line}: {use.path} without asking for Feature.{feature.name}")
                continue
            if not version.has(feature):
                continue
        if wrong := _wrong(use, version.api):
            found.append(f"{use.line}: {version} {wrong}")
    return found


def feature_of(use: Use) -> Feature | None:
    """The feature that a use belongs to."""
    keywords = use.call[1] if use.call else ()
    names = [use.path, *(f"{use.path}({keyword})" for keyword in keywords), use.path.split(".")[0]]
    return next((f for name in names for f in Feature if name in f.names), None)


def _implies(asked: Feature, used: Feature) -> bool:
    """Whether ``used`` is wherever ``asked`` is."""
    pairs = [(asked.first[flavour], used.first[flavour]) for flavour in used.first]
    return all(a is None or (u is not None and u <= a) for a, u in pairs)


def _wrong(use: Use, api: Api) -> str | None:
    if use.path not in api:
        return f"has no {use.path}"
    entry = api[use.path]
    if use.store and not entry.get("settable", False):
        return f"does not let {use.path} be set"
    if use.call and "calls" in entry and not any(_fits(use.call, c) for c in entry["calls"]):
        given = ", ".join(["_"] * use.call[0] + [f"{keyword}=_" for keyword in use.call[1]])
        return f"takes {entry['calls']} for {use.path}, not ({given})"
    return None


def _fits(call: tuple[int, tuple[str, ...]], arguments: list[str]) -> bool:
    count, keywords = call
    rest = arguments[count:]
    names = [name.rstrip("=") for name in rest]
    needed = {name for name in rest if not name.endswith("=")}
    return count <= len(arguments) and set(keywords) <= set(names) and needed <= set(keywords)


def table_errors(version: Version) -> list[str]:
    """Where the product's table of features says something else than the API."""
    found = []
    for feature in Feature:
        for name in feature.names:
            path, _, keyword = name.rstrip(")").partition("(")
            there = path in version.api
            if there and keyword:
                calls = version.api[path]["calls"]
                there = any(keyword in [a.rstrip("=") for a in c] for c in calls)
            # RTX kept the names of the timing cache, which does nothing there.
            kept = feature is Feature.TIMING_CACHE and version.flavour == "tensorrt-rtx"
            if there != version.has(feature) and not (kept and there):
                found.append(f"{version} {'has' if there else 'lacks'} {name} ({feature.name})")
    return found


def select(versions: Iterable[Version], uses: Iterable[Use]) -> dict[str, Any]:
    """What is committed: the names that our source uses, their classes, and those of the table."""
    versions = list(versions)
    every = merged(versions)
    wanted = {use.path for use in uses} | set(REMOVED)
    wanted |= {name.partition("(")[0] for feature in Feature for name in feature.names}
    wanted |= {str(every[path].get("returns")) for path in wanted if path in every}
    wanted |= {path.rpartition(".")[0] for path in wanted}
    names: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(wanted & set(every)):
        for version in versions:
            if path not in version.api:
                continue
            entry = dict(version.api[path])
            same = [old for old in names.get(path, []) if {**old, "in": 0} == {**entry, "in": 0}]
            if same:
                same[0]["in"].append(str(version))
            else:
                names.setdefault(path, []).append({**entry, "in": [str(version)]})
    return {"versions": [str(version) for version in versions], "names": names}


def committed() -> list[Version]:
    """The versions of ``api.json``, with the names in it."""
    content = json.loads(COMMITTED.read_text("utf-8"))
    apis: dict[str, dict[str, Any]] = {name: {} for name in content["versions"]}
    for path, entries in content["names"].items():
        for entry in entries:
            for name in entry["in"]:
                apis[name][path] = {key: value for key, value in entry.items() if key != "in"}
    halves = {name: name.partition(" ") for name in apis}
    return [Version(half[0], half[2], apis[name]) for name, half in halves.items()]
