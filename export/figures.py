"""Draws the paper's figures as SVG: the same numbers give the same bytes, readable on light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_INK = "#010203"  # stands for the text colour of the page, put in at the end
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the layout is the same everywhere
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    ),
}
_THEME = "<style>svg{color:#1c1c1c}@media(prefers-color-scheme:dark){svg{color:#e4e4e4}}</style>"
# Okabe and Ito's palette, which colour-blind people tell apart; ten colours of matplotlib follow it.
_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a7f00", "#7f7f7f"),
    *(f"C{number}" for number in range(10)),
)
_MARKERS = "os^vD<>p"
# From transparent to full: the page shines through where there is nothing.
_BLUES = LinearSegmentedColormap.from_list("share", [(0.0, 0.45, 0.7, 0.0), (0.0, 0.45, 0.7, 1.0)])


@dataclass(frozen=True)
class Sight:
    """One face of the Grad-CAM figure.

    Attributes:
        name: What to write beside it.
        face: uint8 [S, S, 3], as the network sees it.
        overlays: Title of a column -> float32 [S, S] in 0 ... 1.
    """

    name: str
    face: NDArray[np.uint8]
    overlays: Mapping[str, Floats]


def distribution(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> bytes:
    """Figure 1A: how many images each class has in each split, on a logarithmic axis."""
    with _style("class-distribution"):
        figure = Figure(figsize=(5.2, 0.55 * len(classes) + 0.9), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(counts)
        for number, (split, values) in enumerate(counts.items()):
            places = np.arange(len(classes)) + (number - (len(counts) - 1) / 2) * width
            bars = axes.barh(places, values, width, label=split, color=_COLOURS[number])
            axes.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=6)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(0, 3 * max(map(max, counts.values())))
        axes.set_yticks(range(len(classes)), classes)
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.legend(frameon=False, loc="lower right", fontsize=7)
        return _svg(figure)


def confusion(classes: Sequence[str], sets: Mapping[str, NDArray[np.int64]]) -> bytes:
    """Figure 3: confusion matrices int64 [K, K], rows labels, columns answers, one panel for each title."""
    with _style("confusion"):
        side = 0.42 * len(classes) + 1.1
        figure = Figure(figsize=(side, (side - 0.1) * len(sets)), layout="constrained")
        panels = figure.subplots(len(sets), squeeze=False)[:, 0]
        for axes, (title, matrix) in zip(panels, sets.items(), strict=True):
            totals = matrix.sum(axis=1, keepdims=True)
            shares = matrix / np.maximum(totals, 1)
            axes.pcolormesh(shares, cmap=_BLUES, vmin=0, vmax=1)
            for (row, column), count in np.ndenumerate(matrix):
                # Under 30 images a share is not worth a percentage.
                share = f"\n{shares[row, column]:.0%}" if count and totals[row, 0] >= 30 else ""
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{count}{share}",
                    ha="center",
                    va="center",
                    fontsize=5.5,
                    color="white" if shares[row, column] > 0.5 else _INK,
                )
            ticks = np.arange(len(classes)) + 0.5
            axes.set_xticks(ticks, classes, rotation=45, ha="right")
            axes.set_yticks(ticks, classes)
            axes.invert_yaxis()
            axes.set(title=title, xlabel="answer", ylabel="label", aspect="equal")
        return _svg(figure)


def embedding(
    classes: Sequence[str], labels: NDArray[np.int64], planes: Mapping[str, tuple[str, Floats]]
) -> bytes:
    """Figure 4: faces as points [N, 2], a panel for each title with a line of scores below it."""
    with _style("features"):
        figure = Figure(figsize=(4, 3.6 * len(planes)), layout="constrained")
        panels = figure.subplots(len(planes), squeeze=False)[:, 0]
        for axes, (title, (score, points)) in zip(panels, planes.items(), strict=True):
            for k in np.unique(labels).tolist():
                axes.plot(
                    *points[labels == k].T,
                    _MARKERS[k % len(_MARKERS)],
                    color=_COLOURS[k % len(_COLOURS)],
                    markersize=2.5,
                    markeredgewidth=0,
                    label=classes[k],
                )
            axes.set(title=title, xlabel=score)
            _bare(axes)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(4, len(names)),
            frameon=False,
            fontsize=7,
            markerscale=2,
        )
        return _svg(figure)


def sights(rows: Sequence[Sight]) -> bytes:
    """Figure 5: a row for each face, as the network sees it and under each overlay."""
    with _style("grad-cam"):
        titles = ("input", *rows[0].overlays)
        figure = Figure(figsize=(1.5 * len(titles), 1.5 * len(rows) + 0.2), layout="constrained")
        for panels, sight in zip(
            figure.subplots(len(rows), len(titles), squeeze=False), rows, strict=True
        ):
            pictures = [sight.face, *(_heated(sight.face, o) for o in sight.overlays.values())]
            for axes, picture in zip(panels, pictures, strict=True):
                # "none" embeds the pixels as they are.
                axes.imshow(picture, interpolation="none")
                _bare(axes)
            panels[0].set_ylabel(sight.name, fontsize=7)
            if sight is rows[0]:
                for axes, title in zip(panels, titles, strict=True):
                    axes.set_title(title)
        return _svg(figure)


def _style(salt: str) -> AbstractContextManager[None]:
    # matplotlib's types list every setting by name, and another list in each version.
    return mpl.rc_context(cast(Any, {**_STYLE, "svg.hashsalt": salt}))


def _heated(face: NDArray[np.uint8], overlay: Floats) -> NDArray[np.uint8]:
    """The face in grey under the colours of the overlay, which cover it the more the hotter they are."""
    grey = np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2) / 255
    share = 0.65 * overlay[..., None]
    mixed = (1 - share) * grey + share * mpl.colormaps["inferno"](overlay)[..., :3]
    heated: NDArray[np.uint8] = np.rint(255 * mixed).astype(np.uint8)
    return heated


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _svg(figure: Figure) -> bytes:
    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue().replace(_INK, "currentColor")
    # Without the prolog, which names an address, the same text can stand inside an HTML page.
    head, body = text[text.index("<svg") :].split(">", 1)
    return f"{head}>{_THEME}{body}".encode()
