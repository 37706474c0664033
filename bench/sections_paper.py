"""Ours beside the paper's: its Table 1, its ablations, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.page import Html, Section, element, joined, missing, picture, section, table
from bench.results import Ablation, AblationRow, Drawn, Evaluation, Mean
from convcut_trt.errors import InputError
from convcut_trt.fields import Fields

_COLUMNS = {"RAF-DB": "raf_db", "FERPlus": "ferplus"}
_NONE = "–"


def comparison(published: Fields, evaluations: Sequence[Evaluation]) -> Section:
    """The paper's Table 1 with ours below it."""
    rows = [("", _published_row(row)) for row in published.objects("table_1")]
    known = [e for e in evaluations if _column(e) is not None]
    rows += [("ours", _own_row(e, name)) for e in known for name in ("clean", "official")]
    head = ("method", *_COLUMNS, "what it is", "source", "elsewhere")
    paper = published.inside("paper")
    text = element(
        "p",
        "Accuracy as Table 1 of ",
        _link(paper.get("title", str), paper.get("url", str)),
        f" ({paper.get('authors', str)}, {paper.get('year', int)}) prints it, and ours with 95 % intervals.",
    )
    notes = [element("p", note) for note in published.list_of("notes", str)]
    if not known:
        notes.append(
            missing(
                "Ours are yet to be measured",
                "convcut-trt evaluate runs/NAME/model.safetensors --data ferplus.npz --json "
                "> bench/results/NAME.json",
            )
        )
    return section("The paper's Table 1", text, table(head, rows), *notes, _elsewhere(evaluations))


def _published_row(row: Fields) -> list[str]:
    title, url, year = (
        row.optional("title", str),
        row.optional("url", str),
        row.optional("year", int),
    )
    figures = [row.optional(column, float) for column in _COLUMNS.values()]
    source: str = "not found"
    if title and url:
        source = _link(f"{row.get('venue', str)} {year}", url, title)
    return [
        row.get("method", str),
        *(_NONE if figure is None else f"{figure:.2f}" for figure in figures),
        row.get("status", str),
        source,
        row.optional("elsewhere", str) or "",
    ]


def _own_row(evaluation: Evaluation, name: str) -> list[str]:
    entry, column = evaluation.sets[name], _column(evaluation)
    low, high = entry.interval
    figure = joined(
        [
            element("strong", f"{100 * entry.value:.2f}"),
            element("small", f" [{100 * low:.1f}, {100 * high:.1f}]"),
        ]
    )
    what = (
        f"ours, measured: {name} {evaluation.split}, {entry.images:,} images, {len(evaluation.classes)} classes, "
        f"{_rule(evaluation)}"
    )
    return [
        _name(evaluation.model),
        *(figure if title == column else _NONE for title in _COLUMNS),
        what,
        joined([element("code", evaluation.file), f", SHA-256 {evaluation.sha256[:12]}"]),
        "",
    ]


def _elsewhere(evaluations: Sequence[Evaluation]) -> Html:
    """Ours on data that the paper does not have."""
    rows = [
        (
            "ours",
            [
                _name(e.model),
                e.data,
                f"{name} {e.split}",
                f"{s.images:,}",
                _share(s.value),
                interval,
            ],
        )
        for e in evaluations
        if _column(e) is None
        for name, s in e.sets.items()
        for interval in [f"{_share(s.interval[0])} to {_share(s.interval[1])}"]
    ]
    if not rows:
        return Html()
    head = ("model", "data", "set", "images", "accuracy", "95 % interval")
    return joined([element("p", "Ours on other data:"), table(head, rows)])


def _column(evaluation: Evaluation) -> str | None:
    return next((title for title in _COLUMNS if evaluation.data.startswith(title)), None)


def _rule(evaluation: Evaluation) -> str:
    """How right and wrong were told apart."""
    votes = evaluation.data.startswith("FERPlus")
    order = {
        None: "",
        True: ", the same in any order of the test set",
        False: ", one face at a time, other answers in batches",
    }
    return ("majority of the votes" if votes else "labels as given") + order[evaluation.independent]


def _name(model: str) -> str:
    """A run is called by its folder: its file is always model.safetensors."""
    path = Path(model)
    return path.parent.name if path.name == "model.safetensors" else path.stem


def ablations(found: Sequence[Ablation]) -> Section:
    """The paper's Tables 2 and 3 repeated, and what the order of the test set does."""
    title = "Ablations: the paper's Tables 2 and 3"
    if not found:
        return section(
            title,
            missing(
                "They are yet to be run",
                "convcut-trt ablate runs/NAME/model.safetensors --data ferplus.npz -o bench/results",
            ),
        )
    return section(title, *(part for ablation in found for part in _ablation(ablation)))


def _ablation(ablation: Ablation) -> list[Html]:
    own = ("accuracy, clean", "accuracy, official", "macro F1, clean")
    orders = ("one at a time", "shuffled", "by class", "by class over one at a time")
    return [
        element("p", f"On {ablation.data}, from ", element("code", ablation.file), ", in percent."),
        element("h3", "Attention and detail extraction"),
        table(
            (
                "attention",
                "layers of detail",
                *own,
                "over no attention",
                "paper: RAF-DB",
                "paper: FERPlus",
            ),
            [("", _cells(row, 2)) for row in ablation.table_2],
        ),
        element("h3", "Layers of detail extraction"),
        table(
            ("attention", "layers of detail", *own, "paper: accuracy", "paper: F1"),
            [("", _cells(row, 2)) for row in ablation.table_3],
        ),
        element("h3", "The same weights, other orders of the clean test set"),
        table(
            ("attention", "layers of detail", *orders),
            [("", _cells(row, 0)) for row in ablation.orders],
        ),
        element("ul", *(element("li", sentence) for sentence in ablation.differences)),
    ]


def _cells(row: AblationRow, published: int) -> list[str]:
    """A row's texts, the last ``published`` of them the paper's."""
    own = [_percent(mean, signed="over" in name) for name, mean in row.means.items()]
    paper = [_NONE] * published if row.paper is None else [f"{value:.2f}" for value in row.paper]
    return [row.attention, str(row.layers), *own, *paper]


def _percent(mean: Mean | None, *, signed: bool) -> str:
    if mean is None:
        return _NONE
    text = f"{100 * mean.value:{'+' if signed else ''}.1f}"
    return text if mean.half_width is None else f"{text} ± {100 * mean.half_width:.1f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def figures(drawn: Sequence[Drawn]) -> Section:
    """The paper's figures, drawn for a model of ours."""
    title = "The paper's figures, for a model of ours"
    if not drawn:
        return section(
            title,
            missing(
                "They are yet to be drawn",
                "convcut-trt explain runs/NAME/model.safetensors --data ferplus.npz -o figures && "
                "convcut-trt report --figures figures",
            ),
        )
    pictures = (picture(each.svg, f"The paper's {each.paper}. {each.caption}") for each in drawn)
    return section(title, *pictures)


def _link(text: str, url: str, title: str = "") -> Html:
    if not url.startswith("https://"):
        raise InputError(f"{url!r} is no https address: correct it in bench/published.json")
    return element("a", text, href=url, title=title)
