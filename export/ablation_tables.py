"""What an ablation says: its rows, means over seeds with intervals, and the tables beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from export.batch_order import BATCH
from export.model import AttentionKind

# "A Visual Self-attention Mechanism Facial Expression Recognition Network beyond ConvNeXt", in percent.
# Table 2, (attention, detail extraction): accuracy on RAF-DB and on FERPlus; its code attends across the batch.
PAPER_TABLE_2 = {
    ("none", False): (75.62, 75.71),
    ("batch", False): (78.65, 78.31),
    ("none", True): (84.24, 82.46),
    ("batch", True): (97.33, 95.69),
}
# Table 3, layers of detail extraction: accuracy and F1.
PAPER_TABLE_3 = {1: (92.86, 86.84), 2: (97.33, 94.69), 3: (95.24, 90.91)}

_KINDS: tuple[AttentionKind, ...] = ("none", "channel", "spatial", "batch")
_FURTHER = (2, 1)  # a layer beyond the recipe's: the least that still mixes neighbours


@dataclass(frozen=True)
class Row:
    """One network of the tables: its attention, and (kernel, stride) of each layer of detail extraction."""

    attention: AttentionKind
    detail: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """Attention and number of layers: ``spatial-2``."""
        return f"{self.attention}-{len(self.detail)}"


@dataclass(frozen=True)
class Tables:
    """The rows of the paper's Table 2 (attention, detail extraction off and on) and Table 3 (layers)."""

    second: tuple[Row, ...]
    third: tuple[Row, ...]

    @classmethod
    def around(cls, attention: AttentionKind, detail: Sequence[tuple[int, int]]) -> Tables:
        """The rows around a network's own attention and layers, those cut short or followed by 2x2, stride 1."""

        def layers(count: int) -> tuple[tuple[int, int], ...]:
            return (*detail, *[_FURTHER] * count)[:count]

        third = attention if attention != "none" else "channel"
        return cls(
            tuple(Row(kind, layers(count)) for count in (0, 2) for kind in _KINDS),
            tuple(Row(third, layers(count)) for count in (1, 2, 3)),
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them, each once: two layers stand in both tables."""
        return tuple(dict.fromkeys(self.second + self.third))


def over_seeds(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean over seeds and half the width of its 95 % t interval, which one seed does not have."""
    count = len(values)
    half = None
    if count > 1:
        half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return {"mean": float(np.mean(values)), "half_width": half, "seeds": count}


def summary(results: Sequence[Mapping[str, Any]], tables: Tables) -> dict[str, Any]:
    """Both tables and that of the orders; rows without a result are left out.

    Args:
        results: As ``Ablation.run`` returns them.
        tables: Which rows stand where.
    """
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for result in results:
        found.setdefault(result["row"], {})[result["seed"]] = result

    def mean(row: Row, value: Callable[[Mapping[str, Any]], float]) -> dict[str, Any]:
        return over_seeds([value(result) for result in found[row.name].values()])

    def figures(row: Row) -> dict[str, Any]:
        own, none = found[row.name], found.get(f"none-{len(row.detail)}", {})
        gains = [
            own[seed]["clean"]["accuracy"] - none[seed]["clean"]["accuracy"]
            for seed in own.keys() & none.keys()
        ]
        return {
            "row": row.name,
            "attention": row.attention,
            "detail": row.detail,
            "positions": next(iter(own.values()))["positions"],
            "clean_accuracy": mean(row, lambda result: result["clean"]["accuracy"]),
            "official_accuracy": mean(row, lambda result: result["official"]["accuracy"]),
            "clean_macro_f1": mean(row, lambda result: result["clean"]["macro_f1"]),
            "over_none": over_seeds(gains) if gains and row.attention != "none" else None,
        }

    def orders(row: Row) -> dict[str, Any]:
        def of(order: str) -> Callable[[Mapping[str, Any]], float]:
            return lambda result: float(result["orders"][order]["accuracy"])

        return {
            "row": row.name,
            "attention": row.attention,
            "detail": row.detail,
            "single": mean(row, lambda result: result["clean"]["accuracy"]),
            "shuffled": mean(row, of("shuffled")),
            "sorted": mean(row, of("sorted")),
            "sorted_over_single": mean(
                row, lambda result: of("sorted")(result) - float(result["clean"]["accuracy"])
            ),
            "largest_difference": max(
                result["order_difference"] for result in found[row.name].values()
            ),
        }

    second = [row for row in tables.second if row.name in found]
    third = [row for row in tables.third if row.name in found]
    return {
        "table_2": [
            {**figures(row), "paper": PAPER_TABLE_2.get((row.attention, bool(row.detail)))}
            for row in second
        ],
        "table_3": [{**figures(row), "paper": PAPER_TABLE_3[len(row.detail)]} for row in third],
        "orders": [orders(row) for row in second],
    }


def differences(report: Mapping[str, Any]) -> list[str]:
    """What differs from the paper's ablation, and what to read the figures with, a sentence or two each."""
    own, data = report["checkpoint"], report["data"]
    plan, used = own["recipe"], report["identity"]["recipe"]
    network, stage = plan["network"], used["training"]
    began = f", beginning with {own['origin']}" if own["origin"] else ""
    layers = _layers(network["detail"])
    if report["identity"]["end_to_end"]:
        trunk = "Each row is a whole network, trained by the recipe from its beginning."
    else:
        trunk = (
            f"The trunk is frozen and the same for all rows: that of {own['file']}, recipe {plan['name']}, trained "
            f"on {own['data']['name']} ({own['training_images']:,} images, epoch {own['best_epoch'] + 1} of "
            f"{own['epochs']}, {own['validation_accuracy']:.2%} on validation{began}) together with "
            f"{network['attention']} attention and detail extraction {layers}. It has seen expressions, which "
            "lifts every row, and its features were made for that one, which is favoured. The paper's trunk, a "
            "ConvNeXt-Base, has seen ImageNet only."
        )
    epochs = " + ".join(str(used[s]["epochs"]) for s in ("training", "second_stage") if used[s])
    bars = 196 * math.sqrt(0.8 * 0.2 / data["clean"])
    return [
        trunk,
        f"What is trained: recipe {plan['name']}, {plan['input']['size']} px, {epochs} epochs, batches of "
        f"{stage['batch']}, {stage['targets']} as targets, from random weights. The paper: 224 px, 50 epochs, "
        "batches of 16.",
        "`channel` and `spatial` attend within one face, two readings of the paper's Algorithm 1. The paper's code "
        "attends across the batch: that is `batch`, and the paper's figures with attention stand beside it.",
        "Tables 2 and 3 answer one face at a time, whatever the attention; over one face `batch` is the identity. "
        f"The paper's code answers batches of {BATCH} that nearly all hold one class.",
        "The epoch is chosen on validation, which is answered one face at a time with `batch`; the "
        "paper's code chooses it on the test set.",
        f"Clean: {data['clean']:,} test images of {data['name']}, without the {data['official'] - data['clean']:,} "
        f"of the official {data['official']:,} that also occur in training or validation.",
        "± is half of the 95 % t interval of the mean over the seeds, each row with the same ones; it holds for "
        f"these test images. Which images those are leaves another {bars:.1f} points or so at 80 %. `over none` is "
        "the difference to the row without attention, paired by seed.",
    ]


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown: three tables and what to read them with."""
    tables, data = report["summary"], report["data"]
    lines = [f"# Ablation on {data['name']}", ""]
    lines += ["## Attention and detail extraction (the paper's Table 2)", ""]
    lines += _table(
        ["attention", "detail extraction", *_FIGURES, "over none", "paper RAF-DB", "paper FERPlus"],
        [
            [
                entry["attention"],
                "yes" if entry["detail"] else "no",
                *_figures(entry),
                "" if entry["over_none"] is None else _percent(entry["over_none"], signed=True),
                *_published(entry["paper"]),
            ]
            for entry in tables["table_2"]
        ],
    )
    lines += ["", "## Layers of detail extraction (the paper's Table 3)", ""]
    lines += _table(
        ["layers", "kernel/stride", "positions", *_FIGURES, "paper accuracy", "paper F1"],
        [
            [
                str(len(entry["detail"])),
                _layers(entry["detail"]),
                str(entry["positions"]),
                *_figures(entry),
                *_published(entry["paper"]),
            ]
            for entry in tables["table_3"]
        ],
    )
    if tables["table_3"]:
        lines += ["", f"With {tables['table_3'][0]['attention']} attention."]
    lines += ["", "## The same weights, other orders of the clean test set", ""]
    lines += _table(
        [
            "attention",
            "detail extraction",
            "one at a time",
            f"{BATCH}, shuffled",
            f"{BATCH}, by class",
            "by class over one at a time",
            "largest difference of a probability",
        ],
        [
            [
                entry["attention"],
                "yes" if entry["detail"] else "no",
                *(_percent(entry[order]) for order in ("single", "shuffled", "sorted")),
                _percent(entry["sorted_over_single"], signed=True),
                f"{entry['largest_difference']:.1e}",
            ]
            for entry in tables["orders"]
        ],
    )
    lines += ["", "## What differs from the paper", ""]
    lines += [f"- {sentence}" for sentence in report["differences"]]
    lines += [f"- {name} is left out: {why}" for name, why in report["skipped"].items()]
    lines += ["", _cost(report["results"], report["machine"]["device"])]
    return "\n".join(lines) + "\n"


def _cost(results: Sequence[Mapping[str, Any]], device: str) -> str:
    hours = sum(result["seconds"] for result in results) / 3600
    text = f"Trainings: {len(results)}, in {hours:.1f} hours on {device}."
    cached = [result for result in results if "cache" in result]
    if cached:
        epoch = np.median([result["seconds_per_epoch"] for result in cached])
        view = np.median([result["cache"]["seconds_per_view"] for result in cached])
        text += f" An epoch on cached features: {epoch:.1f} s; with the trunk computed again: {epoch + view:.1f} s."
    return text


_FIGURES = ("accuracy, clean", "accuracy, official", "macro F1, clean")


def _figures(entry: Mapping[str, Any]) -> list[str]:
    return [
        _percent(entry[key]) for key in ("clean_accuracy", "official_accuracy", "clean_macro_f1")
    ]


def _percent(value: Mapping[str, Any], *, signed: bool = False) -> str:
    mean = f"{100 * value['mean']:{'+' if signed else ''}.1f}"
    return mean if value["half_width"] is None else f"{mean} ± {100 * value['half_width']:.1f}"


def _published(values: Sequence[float] | None) -> list[str]:
    return ["", ""] if values is None else [f"{value:.2f}" for value in values]


def _layers(detail: Sequence[Sequence[int]]) -> str:
    return ", ".join(f"{kernel}/{stride}" for kernel, stride in detail) or "none"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
