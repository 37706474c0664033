"""Reads what the other verbs have measured: JSON files, each checked for what the report uses of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convcut_trt.errors import InputError
from convcut_trt.fields import Fields, check_tree, read_text
from convcut_trt.measuring import results as bench_results
from convcut_trt.measuring.results import Result

SCHEMA = 1  # of every file read here
MEASURED = (
    *("roofs", "robot", "detectors", "aligned", "spinning", "kernels", "gates", "engines"),
    *("openings", "soak", "tails", "layers"),
)
"""Files that ``python -m bench.NAME`` and its like write, by the first part of their names."""
_FIX = "make it again with this version, or move it away"
_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, InputError)
_UNKNOWN = "no result of this project, by its name and its fields"


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers on ``images`` images, and its 95 % interval."""

    images: int
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """What ``convcut-trt evaluate --json`` found: accuracies of the ``official`` and the ``clean`` set.

    ``independent``: whether no answer depends on the faces beside it; None where ``--batch-order`` was not given.
    """

    file: str
    model: str
    sha256: str
    data: str
    split: str
    classes: tuple[str, ...]
    sets: dict[str, Accuracy]
    independent: bool | None


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and half the width of its 95 % interval, which one seed does not have."""

    value: float
    half_width: float | None
    seeds: int


@dataclass(frozen=True)
class AblationRow:
    """A row of ``convcut-trt ablate``: ``means`` by name, and the paper's two figures in percent, if any."""

    attention: str
    layers: int
    means: dict[str, Mean | None]
    paper: tuple[float, ...] | None


@dataclass(frozen=True)
class Ablation:
    """What ``convcut-trt ablate`` found; ``differences`` says what to read it with."""

    file: str
    data: str
    table_2: list[AblationRow]
    table_3: list[AblationRow]
    orders: list[AblationRow]
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """A figure of ``convcut-trt explain``."""

    paper: str
    caption: str
    svg: bytes


@dataclass(frozen=True)
class Bench:
    """What ``convcut-trt bench`` found."""

    file: str
    result: Result


@dataclass(frozen=True)
class Raw:
    """A file of ``MEASURED``, as it was read."""

    file: str
    values: Mapping[str, Any]


@dataclass
class Results:
    """All results of a folder.

    Attributes:
        evaluations: See Evaluation.
        ablations: See Ablation.
        benches: In the order of their dates.
        measured: Of each of ``MEASURED`` its files.
        left_out: File -> why it is not in the report: of another schema, or nothing of ours.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    ablations: list[Ablation] = field(default_factory=list)
    benches: list[Bench] = field(default_factory=list)
    measured: dict[str, list[Raw]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> list[Raw]:
        """The files of one of ``MEASURED``."""
        return self.measured.get(kind, [])


@contextmanager
def as_written(*files: Raw | Bench) -> Iterator[None]:
    """Around work on files whose values are only looked at there.

    Raises:
        InputError: One of them lacks something, or has something else in its place.
    """
    try:
        yield
    except _DAMAGE as error:
        names = " or ".join(one.file for one in files)
        raise InputError(
            f"{names} is not as this version writes it ({type(error).__name__}: {error}): {_FIX}"
        ) from error


def read_results(folder: Path) -> Results:
    """Reads every ``*.json`` of a folder; none is no mistake, the results may be yet to come.

    A file of another schema is left out and named.

    Raises:
        InputError: A damaged file; the text names it.
    """
    results = Results()
    for path in sorted(folder.glob("*.json")):
        fields = _read(path)
        keys, kind = fields.values.keys(), path.name.partition(".")[0]
        known = (
            {"official", "clean"} <= keys
            or {"measured", "compared"} <= keys
            or "summary" in keys
            or kind in MEASURED
        )
        if not known:
            results.left_out[path.name] = _UNKNOWN
        elif (found := fields.values.get("schema")) != SCHEMA:
            results.left_out[path.name] = f"schema {found}, and this version reads {SCHEMA}: {_FIX}"
        elif {"official", "clean"} <= keys:
            results.evaluations.append(_evaluation(path.name, fields))
        elif {"measured", "compared"} <= keys:
            results.benches.append(Bench(path.name, bench_results.read(path)))
        elif "summary" in keys:
            results.ablations.append(_ablation(path.name, fields))
        else:
            results.measured.setdefault(kind, []).append(Raw(path.name, fields.values))
    results.benches.sort(key=lambda bench: bench.result.date)
    return results


def read_figures(folder: Path) -> list[Drawn]:
    """Reads ``explain.json`` of a folder and the pictures it names.

    Raises:
        InputError: None there, or damaged ones.
    """
    fields = _checked(_read(folder / "explain.json"))
    figures = fields.inside("figures")
    drawn = []
    for name in figures.values:
        figure = figures.inside(name)
        # The name alone: a report shall not carry off a file from elsewhere.
        path = folder / Path(figure.get("file", str)).name
        try:
            svg = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): {_FIX}") from None
        drawn.append(Drawn(figure.get("paper", str), figure.get("caption", str), svg))
    return drawn


def _read(path: Path) -> Fields:
    try:
        values = json.loads(read_text(path))
        check_tree(values)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON
        raise InputError(f"{path} cannot be read ({error}): {_FIX}") from None
    return Fields(values, str(path), InputError)


def _checked(fields: Fields) -> Fields:
    found = fields.get("schema", int)
    if found != SCHEMA:
        raise InputError(f"{fields.source} has schema {found}, this version reads {SCHEMA}: {_FIX}")
    return fields


def _evaluation(file: str, fields: Fields) -> Evaluation:
    return Evaluation(
        file,
        fields.get("model", str),
        fields.get("sha256", str),
        fields.get("data", str),
        fields.get("split", str),
        fields.list_of("classes", str),
        {name: _accuracy(fields.inside(name)) for name in ("official", "clean")},
        fields.inside("batch_order").get("independent", bool)
        if fields.optional("batch_order", dict)
        else None,
    )


def _accuracy(fields: Fields) -> Accuracy:
    value, interval = fields.get("accuracy", float), fields.list_of("accuracy_interval", float)
    if len(interval) != 2 or not 0 <= interval[0] <= value <= interval[1] <= 1:
        raise InputError(
            f"{fields.source}: {value} with {list(interval)} is no accuracy with its interval: {_FIX}"
        )
    return Accuracy(fields.get("images", int), value, (interval[0], interval[1]))


def _ablation(file: str, fields: Fields) -> Ablation:
    summary = fields.inside("summary")
    names = ("clean_accuracy", "official_accuracy", "clean_macro_f1")

    def rows(name: str, means: Callable[[Fields], dict[str, Mean | None]]) -> list[AblationRow]:
        return [
            AblationRow(
                row.get("attention", str),
                len(row.get("detail", list)),
                means(row),
                None if row.values.get("paper") is None else row.list_of("paper", float),
            )
            for row in summary.objects(name)
        ]

    def of(*wanted: str) -> Callable[[Fields], dict[str, Mean | None]]:
        return lambda row: {name: _mean(row, name) for name in wanted}

    return Ablation(
        file,
        fields.inside("data").get("name", str),
        rows("table_2", of(*names, "over_none")),
        rows("table_3", of(*names)),
        rows("orders", of("single", "shuffled", "sorted", "sorted_over_single")),
        fields.list_of("differences", str),
    )


def _mean(row: Fields, name: str) -> Mean | None:
    if row.values.get(name, row) is None:
        return None  # what the row itself is compared with
    fields = row.inside(name)
    return Mean(
        fields.get("mean", float), fields.optional("half_width", float), fields.get("seeds", int)
    )
