"""Charts as inline SVG: axes, lines, marks and whiskers that take the page's colours, light and dark.

A series is a number: it chooses colour, shape and dashes alike, so that nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bench.page import Html, element, escaped, joined

COLOURS = 7
WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 12, 46
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2")
_ROW = 42
_STRIP = 66
_LETTER = 8  # its width, in most fonts


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: With the unit.
        low: Its lower end, scaled.
        high: Its upper end, scaled.
        ticks: Values and their texts.
        scale: What is drawn evenly, as a function of the value.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    scale: Callable[[float], float]

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        share = (self.scale(value) - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))


def linear(label: str, values: Iterable[float]) -> Axis:
    """An even axis around the values."""
    low, high = _ends(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    return Axis(label, low, high, _even_ticks(low, high), lambda value: value)


def logarithmic(label: str, values: Iterable[float]) -> Axis:
    """A logarithmic axis around the values, all above 0."""
    low, high = (math.log10(value) for value in _ends(values))
    room = max((high - low) * 0.05, 0.02)
    low, high = low - room, high + room
    steps: tuple[int, ...] = (1,) if high - low > 3 else (1, 2, 5)
    ticks = tuple(
        (step * 10.0**power, number(step * 10.0**power))
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low <= math.log10(step * 10.0**power) <= high
    )
    if len(ticks) < 3:
        ticks = _even_ticks(10**low, 10**high)
    return Axis(label, low, high, ticks, math.log10)


def marked(axis: Axis, values: Iterable[float]) -> Axis:
    """The same axis with its ticks at these values alone."""
    return replace(axis, ticks=tuple((value, number(value)) for value in sorted(set(values))))


def percentiles(label: str, calls: int) -> Axis:
    """Percentiles up to the longest of so many calls; each nine takes as much room as the one before."""
    high = max(1.0, math.log10(calls))
    texts = [(0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")]
    ticks = tuple(tick for tick in texts if _nines(tick[0]) <= high + 1e-9)
    return Axis(label, 0.0, high, ticks, _nines)


def _nines(percent: float) -> float:
    return -math.log10(max(1 - percent / 100, 1e-12))


def _ends(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    return min(known), max(known)


def _even_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = (k * step for k in range(first, math.floor(high / step + 1e-9) + 1))
    return tuple((value, number(value)) for value in values)


def number(value: float) -> str:
    """Short, as an axis has it."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


class Plot:
    """Two axes and what is drawn between them."""

    def __init__(self, title: str, text: str, x: Axis, y: Axis) -> None:
        """An empty one.

        Args:
            title: What it is of, for those who cannot see it.
            text: What it shows, for them.
            x: Below.
            y: On the left.
        """
        self._title, self._text, self._x, self._y = title, text, x, y
        self._parts: list[Html] = []

    def _point(self, x: float, y: float) -> tuple[float, float]:
        across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * self._x.at(x), TOP + down * (1 - self._y.at(y))

    def line(self, points: Sequence[tuple[float, float]], series: int, kind: str = "line") -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self._point(*point) for point in points))
        self._parts.append(_stroke(path, series, kind))

    def mark(self, x: float, y: float, series: int) -> None:
        """A point."""
        self._parts.append(_mark(*self._point(x, y), series))

    def upright(self, x: float, low: float, high: float, series: int) -> None:
        """An interval of y."""
        (left, bottom), (_, top) = self._point(x, low), self._point(x, high)
        self._parts.append(_path(f"M{left:.1f} {bottom:.1f}V{top:.1f}", series))

    def level(self, low: float, high: float, y: float, series: int) -> None:
        """An interval of x."""
        (left, top), (right, _) = self._point(low, y), self._point(high, y)
        self._parts.append(_path(f"M{left:.1f} {top:.1f}H{right:.1f}", series))

    def band(self, low: float, high: float) -> None:
        """A grey band over a range of x."""
        (left, top), (right, bottom) = self._point(low, math.inf), self._point(high, -math.inf)
        self._parts.append(_band(left, top, right, bottom))

    def note(self, x: float, y: float, text: str) -> None:
        """Words that end at a point, above it."""
        across, down = self._point(x, y)
        self._parts.append(_text(across - 2, down - 5, text, "end"))

    def svg(self) -> Html:
        """The chart."""
        bottom = HEIGHT - BOTTOM
        parts = [*_axis_below(self._x, TOP, bottom)]
        for value, text in self._y.ticks:
            height = TOP + (bottom - TOP) * (1 - self._y.at(value))
            parts.append(Html(f'<path class="grid" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>'))
            parts.append(_text(LEFT - 6, height + 5, text, "end"))
        middle = (TOP + bottom) / 2
        turned = Html(
            f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
            f"{escaped(self._y.label)}</text>"
        )
        return _drawing(self._title, self._text, HEIGHT, [*parts, turned, *self._parts])


@dataclass(frozen=True)
class Row:
    """One row of ``rows``.

    Attributes:
        label: What it is; cut off where it would run into ``text``.
        text: The figure in words.
        value: Where its mark lies; None draws the interval alone.
        low: Of its interval; None without one.
        high: Upper end.
        series: Its looks.
    """

    label: str
    text: str
    value: float | None
    low: float | None
    high: float | None
    series: int


def rows(
    title: str, text: str, axis: Axis, given: Sequence[Row], band: tuple[float, float] | None = None
) -> Html:
    """Marks and intervals one below the other, each with its words above it; a band marks what is the same."""
    bottom = TOP + _ROW * len(given)
    left, right = 10, WIDTH - 10

    def across(value: float) -> float:
        return left + (right - left) * axis.at(value)

    parts = [*_axis_below(axis, TOP, bottom, left, right)]
    if band is not None:
        parts.append(_band(across(band[0]), TOP, across(band[1]), bottom))
    for place, row in enumerate(given):
        height = TOP + _ROW * place
        parts += _words(left, right, height + 16, row.label, row.text)
        if row.low is not None and row.high is not None:
            path = f"M{across(row.low):.1f} {height + 28}H{across(row.high):.1f}"
            parts.append(_path(path, row.series))
        if row.value is not None:
            parts.append(_mark(across(row.value), height + 28, row.series))
    return _drawing(title, text, bottom + BOTTOM, parts)


@dataclass(frozen=True)
class Strip:
    """One strip of ``strips``.

    Attributes:
        label: What it is; cut off where it would run into ``text``.
        text: The figure in words.
        y: Of this strip alone, with few ticks.
        line: Points of a line; what lies beyond an axis is drawn at its edge.
        marks: Points, as well.
        series: Its looks.
    """

    label: str
    text: str
    y: Axis
    line: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float]]
    series: int


def strips(title: str, text: str, x: Axis, given: Sequence[Strip]) -> Html:
    """Low charts one below the other, each with its words above it, over one axis."""
    bottom = TOP + _STRIP * len(given)
    left, right = LEFT, WIDTH - RIGHT
    parts = [*_axis_below(x, TOP, bottom)]
    for place, strip in enumerate(given):
        top = TOP + _STRIP * place
        high, low = top + 27, top + _STRIP - 8
        parts += _words(left, right, top + 16, strip.label, strip.text)
        for value, tick in strip.y.ticks:
            height = low - (low - high) * strip.y.at(value)
            parts.append(Html(f'<path class="grid" d="M{left} {height:.1f}H{right}"/>'))
            parts.append(_text(left - 6, height + 5, tick, "end"))
        line, marks = (
            [
                (left + (right - left) * x.at(across), low - (low - high) * strip.y.at(value))
                for across, value in points
            ]
            for points in (strip.line, strip.marks)
        )
        parts.append(_stroke(" ".join(f"{a:.1f},{b:.1f}" for a, b in line), strip.series, "line"))
        parts += [_mark(*point, strip.series) for point in marks]
    return _drawing(title, text, bottom + BOTTOM, parts)


def _words(left: float, right: float, height: float, label: str, text: str) -> list[Html]:
    """A label on the left, cut off where it would run into the text on the right."""
    room = int((right - left) / _LETTER) - len(text)
    label = label if len(label) <= room else f"{label[: room - 1]}…"
    return [_text(left, height, label, "start"), _text(right, height, text, "end")]


def figure(svg: Html, caption: str, names: Sequence[tuple[str, int]] = ()) -> Html:
    """A chart with its legend, names with their series, and its caption."""
    legend = element("ul", *(_entry(*name) for name in names), class_="legend") if names else Html()
    return element("figure", svg, legend, element("figcaption", caption))


def figures(drawn: Iterable[Html]) -> Html:
    """Figures side by side where there is room."""
    return element("div", *drawn, class_="figures")


def _entry(name: str, series: int) -> Html:
    sample = f'<svg viewBox="0 0 34 16" aria-hidden="true">{_stroke("0,8 34,8", series, "line")}'
    return element("li", Html(f"{sample}{_mark(17, 8, series)}</svg>"), name)


def _axis_below(
    axis: Axis, top: float, bottom: float, left: float = LEFT, right: float = WIDTH - RIGHT
) -> Iterable[Html]:
    yield Html(f'<path class="frame" d="M{left} {bottom}H{right}"/>')
    for value, text in axis.ticks:
        place = left + (right - left) * axis.at(value)
        yield Html(f'<path class="grid" d="M{place:.1f} {top}V{bottom}"/>')
        yield _text(place, bottom + 17, text, "middle")
    yield _text((left + right) / 2, bottom + 38, axis.label, "middle")


def _drawing(title: str, text: str, height: float, parts: Sequence[Html]) -> Html:
    return Html(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
        f"{joined([element('title', title), element('desc', text), *parts])}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return Html(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(text)}</text>')


def _stroke(points: str, series: int, kind: str) -> Html:
    dash = _DASHES[series % len(_DASHES)] if kind == "line" else ""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return Html(f'<polyline class="{kind} c{series % COLOURS}"{dashes} points="{points}"/>')


def _band(left: float, top: float, right: float, bottom: float) -> Html:
    return Html(
        f'<rect class="band" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"/>'
    )


def _path(path: str, series: int) -> Html:
    return Html(f'<path class="whisker c{series % COLOURS}" d="{path}"/>')


def _mark(x: float, y: float, series: int) -> Html:
    """Circle, square, triangle, diamond, triangle on its tip, cross: six shapes and seven colours make 42 looks."""
    shapes = (
        "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
        "m-4.5-4.5h9v9h-9z",
        "m0-6l5.5 10h-11z",
        "m0-6.5l6.5 6.5l-6.5 6.5l-6.5-6.5z",
        "m0 6l5.5-10h-11z",
        "m-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    )
    shape = shapes[series % len(shapes)]
    return Html(f'<path class="mark c{series % COLOURS}" d="M{x:.1f} {y:.1f}{shape}"/>')
