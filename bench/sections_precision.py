"""What each precision and placement gains over FP32, and how it did at the gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench import charts
from bench.charts import Row
from bench.page import Html, Section, element, missing, plain_table, section
from bench.results import Bench
from bench.sections_choice import interval, ratio_chart, ratio_row, turned
from bench.sections_latency import COMMAND, NONE, name_of, short, whence
from convcut_trt.measuring.results import Compared, Measured


def precisions(benches: Sequence[Bench]) -> Section:
    """What each precision and placement gains over FP32, and how it did at the gates."""
    title = "Precision and placement, measured"
    parts: list[Html] = []
    for bench in benches:
        engines = [one for one in bench.result.measured if one.subject.kind == "engine"]
        if len(engines) > 1:
            parts += [element("h3", name_of(bench)), whence(bench), *_precisions(bench, engines)]
    if not parts:
        parts = [missing("No bench has measured several engines yet", COMMAND)]
    return section(title, *parts)


def _precisions(bench: Bench, engines: Sequence[Measured]) -> list[Html]:
    names = short([one.subject.name for one in engines])
    rows: list[tuple[str, ...]] = []
    drawn: dict[int, list[Row]] = {}
    for one in engines:
        subject = one.subject
        pairs = _over_fp32(bench, one, engines)
        for pair in pairs:
            row = ratio_row(f"{names[subject.name]} over {names[pair.other]}", pair)
            drawn.setdefault(pair.batch, []).append(row)
        verdicts = Counter(str(gate.get("verdict")) for gate in subject.gates)
        counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or NONE
        rows.append(
            (
                *(names[subject.name], subject.flavour, subject.precision),
                *(subject.placement or NONE, subject.mlp or NONE, subject.tail or NONE),
                *(_gains(pairs), names[pairs[0].other] if pairs else NONE),
                *(counted, _open(one), subject.verified_on or NONE),
                *(_detail(one, "agreement"), f"{one.difference:.2g}", subject.judged_on or NONE),
            )
        )
    head = ("engine", "backend", "precision", "placement", "MLPs", "tail", "times as fast as fp32")
    more = ("gates", "not passed", "gates ran on", "labels kept", "largest difference", "judged on")
    table = plain_table((*head, "which fp32", *more), rows)
    figures = [
        ratio_chart("Speed over the FP32 engine", bench, batch, found, len(found))
        for batch, found in drawn.items()
    ]
    return [charts.figures(figures), table] if figures else [table]


def _gains(pairs: Sequence[Compared]) -> str:
    """Ratio, interval and verdict, of each batch where there are several."""
    texts = [f"{pair.ratio:.3f} ({interval(pair)}), {pair.verdict}" for pair in pairs]
    if len(texts) > 1:
        texts = [f"batch {pair.batch}: {text}" for pair, text in zip(pairs, texts, strict=True)]
    return "; ".join(texts) or NONE


def _detail(one: Measured, name: str) -> str:
    """What a gate said, as the manifest has it."""
    found = (str(g.get("detail")) for g in one.subject.gates if g.get("name") == name)
    return next(found, NONE)


def _open(one: Measured) -> str:
    """Gates that did not pass, by name."""
    gates = one.subject.gates
    found = [f"{g.get('name')}: {g.get('verdict')}" for g in gates if g.get("verdict") != "pass"]
    return ", ".join(found) or NONE


def _over_fp32(bench: Bench, one: Measured, engines: Sequence[Measured]) -> list[Compared]:
    """Comparisons with one FP32 engine of the same network, at every batch, turned so that it comes second.

    Of several it is one of the same backend, if they were compared; an FP32 engine is held against an earlier one.
    """
    own = one.subject
    fp32 = [
        e.subject for e in engines if e.subject.asked == "fp32" and e.subject.model == own.model
    ]
    if own in fp32:
        fp32 = fp32[: fp32.index(own)]
    for other in sorted(fp32, key=lambda subject: subject.flavour != own.flavour):
        names = {own.name, other.name}
        found = [pair for pair in bench.result.compared if {pair.name, pair.other} == names]
        if found:
            return [pair if pair.name == own.name else turned(pair) for pair in found]
    return []
