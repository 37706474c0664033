"""What stands behind the figures: what a comparison can tell, the room in the gates, the sizes of the engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from bench import charts, openings_page
from bench.charts import Plot, Row
from bench.openings_page import RESAMPLINGS, Tried
from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Raw
from bench.sections_latency import NONE, commit
from convcut_trt.measuring.measure import ALIKE, INCONCLUSIVE, SAME

_LOOKS = {"fp32": 0, "fp16": 1, "bf16": 4, "int8": 2}
_OPENINGS = 12  # of a comparison, as `bench` makes them


def openings(found: Sequence[Raw]) -> Section:
    """Recorded openings of identical and of delayed sessions, and what comparisons of a few would say."""
    title = "What a comparison can tell, measured"
    if not found:
        return section(title, missing("Yet to be recorded", "python -m bench.openings"))
    return section(title, *(part for raw in found for part in _openings(raw)))


def _openings(raw: Raw) -> Iterator[Html]:
    values = raw.values
    given, settings, machine = values["openings"], values["settings"], values["machine"]
    logs = {name: [row["log_ratios"][name] for row in given] for name in given[0]["log_ratios"]}
    spread = "; ".join(
        f"{name}: standard deviation {np.std(own, ddof=1):.1%} from opening to opening"
        for name, own in logs.items()
    )
    yield element(
        "p",
        f"{len(given)} openings of {settings['seconds']:g} s: sessions of one engine against another of the same, "
        f"and against one that is delayed by 5 %. {spread}.",
    )
    yield element(
        "p",
        f"{machine['processor']}, {machine['cores']} cores. ",
        element("code", values["command"]),
        f", {values['date'][:10]}{commit(values['commit'])}. From ",
        element("code", raw.file),
        ".",
        class_="origin",
    )
    yield charts.figures([_distribution(logs)])
    head = (
        "compared with A",
        "openings",
        "faster or slower",
        ALIKE,
        INCONCLUSIVE,
        "interval covers",
    )
    rows = []
    for name, own in logs.items():
        tried = _tried(tuple(own))
        shares = (
            tried.told_apart,
            tried.verdicts[ALIKE],
            tried.verdicts[INCONCLUSIVE],
            tried.covered,
        )
        rows.append((name, str(_OPENINGS), *(f"{share:.1%}" for share in shares)))
    yield plain_table(head, rows)
    yield element(
        "p",
        f"{RESAMPLINGS:,} comparisons, each of {_OPENINGS} openings drawn with replacement. Covers: the 95 % "
        "interval holds the mean of all recorded openings.",
    )


@cache
def _tried(log_ratios: tuple[float, ...]) -> Tried:
    return openings_page.tried(log_ratios, openings=_OPENINGS, replace=True)


def _distribution(logs: Mapping[str, Sequence[float]]) -> Html:
    """Shares of the openings below each ratio."""
    ratios = {name: np.sort(np.exp(own)) for name, own in logs.items()}
    x = charts.logarithmic(
        "times as fast as the other", [v for own in ratios.values() for v in own]
    )
    y = charts.linear("share of the openings, %", (0.0, 100.0))
    told = "; ".join(
        f"{name}: median {np.median(own):.3f}, from {own[0]:.3f} to {own[-1]:.3f}"
        for name, own in ratios.items()
    )
    plot = Plot("How many times as fast A was, opening by opening", told, x, y)
    plot.band(1 / SAME, SAME)
    for number, own in enumerate(ratios.values()):
        shares = np.linspace(0, 100, len(own))
        plot.line([(float(v), float(s)) for v, s in zip(own, shares, strict=True)], number)
    caption = (
        "How many times as fast A was in each opening: share below. Grey: within 2 %, the same."
    )
    return charts.figure(plot.svg(), caption, [(name, k) for k, name in enumerate(ratios)])


def gates(found: Sequence[Raw]) -> Section:
    """How many times what honest engines lose fits into each gate's budget."""
    title = "Room in the gates, measured"
    if not found:
        return section(title, missing("Yet to be measured", "python -m bench.gate_table"))
    return section(title, *(part for raw in found for part in _gates(raw.file, raw.values)))


def _gates(file: str, values: Mapping[str, Any]) -> Iterator[Html]:
    honest, machine = values["honest"], values["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in values["versions"].items())
    yield element(
        "p",
        f"Headroom: the budget over what was measured, of the form with the least; 1 would just pass. "
        f"{values['name']}, judged on {honest['faces']}.",
    )
    text = f"{machine['cores']} cores of {machine['processor']}, {versions}. "
    source = (element("code", "python -m bench.gate_table"), ". From ", element("code", file), ".")
    yield element("p", text, *source, class_="origin")
    rows = [
        Row(
            f"{name}, {precision}",
            f"{entry['headroom']:.1f}",
            entry["headroom"],
            1.0,
            entry["headroom"],
            _LOOKS[precision],
        )
        for precision, of in honest["precisions"].items()
        for name, entry in of["gates"].items()
        if entry["headroom"] is not None and entry["headroom"] < 100
    ]
    closest = sorted(rows, key=lambda row: row.value or 0)[:12]
    axis = charts.logarithmic("headroom", [1.0, *(row.value or 1.0 for row in closest)])
    told = "; ".join(f"{row.label}: {row.text}" for row in closest)
    svg = charts.rows("The gates with the least room", told, axis, closest)
    legend = [(precision, _LOOKS[precision]) for precision in honest["precisions"]]
    yield charts.figures([charts.figure(svg, "The twelve gates with the least room.", legend)])
    names = dict.fromkeys(name for of in honest["precisions"].values() for name in of["gates"])
    yield plain_table(
        ("gate", *honest["precisions"]),
        [
            (name, *(_gate(of["gates"].get(name)) for of in honest["precisions"].values()))
            for name in names
        ],
    )
    broken = values["broken"]
    kinds = {**broken["graphs"], **broken["exports"]}
    unseen = sorted(
        f"{name}, {precision}"
        for name, of in kinds.items()
        for precision, failed in of.items()
        if not failed
    )
    seen = f"{len(kinds)} kinds of broken engines were tried on {broken['faces']}: "
    yield element("p", seen, f"not seen: {'; '.join(unseen)}." if unseen else "the gates saw each.")


def _gate(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return NONE
    budget = "" if entry["budget"] is None else f" (budget {entry['budget']:.3g})"
    return f"{entry['measured']:.3g}{budget}, {entry['verdict']}"


def engines(found: Sequence[Raw]) -> Section:
    """Sizes of the engines that were built for GPUs, which says nothing of their time."""
    title = "TensorRT-RTX engines, built and not run"
    if not found:
        return section(title, missing("Yet to be built", "python -m bench.engines"))
    return section(title, *(part for raw in found for part in _engines(raw)))


def _engines(raw: Raw) -> Iterator[Html]:
    yield element(
        "p",
        "Size in MB, and device operations, of engines built ahead of time. No gate and no engine was run.",
    )
    for name, model in raw.values["models"].items():
        versions = ", ".join(f"{key} {number}" for key, number in model["versions"].items())
        trained = "" if model["trained"] else ", random weights"
        text = f"{name}: {model['pixels']} px, {model['weights'] / 1e6:.1f} M weights{trained}. {versions}. "
        source = (element("code", "python -m bench.engines"), ". From ", element("code", raw.file))
        yield element("p", text, *source, ".", class_="origin")
        built: dict[str, dict[str, str]] = {}
        for row in model["rows"]:
            column = f"{row['sm']}, batch {':'.join(map(str, dict.fromkeys(row['batch'])))}"
            text = row["refused"] or f"{row['megabytes']:.1f}, {row['operations']}"
            built.setdefault(row["form"], {})[column] = text
        columns = list(dict.fromkeys(column for cells in built.values() for column in cells))
        yield plain_table(
            ("form", *columns),
            [(form, *(cells.get(c, NONE) for c in columns)) for form, cells in built.items()],
        )
