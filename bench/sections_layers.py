"""What estimates for GPUs are worth: whole networks and groups of layers, held against what they took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import layers_page
from bench.kernels_page import Target
from bench.page import Html, Section, bullets, element, missing, plain_table, section
from bench.results import Raw
from bench.sections_latency import NONE
from bench.sections_robot import part_origin

_NOTHING: Mapping[str, Any] = {"cases": ()}


def layers(found: Sequence[Raw]) -> Section:
    """Targets first, then what stands behind them, for each GPU and backend."""
    title = "Layers on GPUs, measured and estimated"
    if not found:
        table = _targets([("any GPU", target) for target in layers_page.targets(_NOTHING)])
        return section(title, missing("No GPU has run them yet", "make gpu"), table)
    judged = [
        (f"{raw.values['device']}, {backend}", target)
        for raw in found
        for backend, part in raw.values["parts"].items()
        for target in layers_page.targets(part)
    ]
    parts = [element("p", layers_page.RULE), _targets(judged)]
    for raw in found:
        for backend, part in raw.values["parts"].items():
            parts += [element("h3", f"{raw.values['device']}, {backend}"), *_part(raw, part)]
    return section(title, *parts)


def _targets(judged: Sequence[tuple[str, Target]]) -> Html:
    rows = [
        (where, target.name, target.case, target.figure or NONE, target.verdict)
        for where, target in judged
    ]
    return plain_table(("where", "to be kept", "case", "the worst", "verdict"), rows)


def _part(raw: Raw, part: Mapping[str, Any]) -> Iterator[Html]:
    yield part_origin(raw, part, part["outcome"], raw.values["device"])
    if rows := list(layers_page.wholes(part)):
        yield plain_table(layers_page.WHOLES, rows)
    if rows := list(layers_page.groups(part)):
        yield plain_table(layers_page.GROUPS, rows)
    yield bullets(layers_page.notes(part))
