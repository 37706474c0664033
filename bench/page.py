"""One self-contained HTML page: its style inside, nothing fetched, light and dark, readable on a phone."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SHORT = 24  # letters
_STYLE = Path(__file__).with_name("report.css").read_text("utf-8")


class Html(str):
    """Text that is HTML already; any other text is escaped where it meets a page."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it."""

    title: str
    body: Html

    @property
    def anchor(self) -> str:
        """What a link inside the page leads to."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def escaped(text: str) -> Html:
    """The text as HTML; ``Html`` stays what it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after the other, each escaped."""
    return Html(escaped(between).join(escaped(part) for part in parts))


def element(name: str, *content: str, **attributes: str) -> Html:
    """One element; a trailing underscore of an attribute's name falls away (``class_``), one inside is a dash."""
    texts = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{texts}>{joined(content)}</{name}>")


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Html:
    """A table that scrolls by itself where the screen is narrow; each row has a class, which may be empty."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", *map(_cell, cells), **({"class_": kind} if kind else {}))
        for kind, cells in rows
    ]
    label = f"table: {', '.join(head[:3])}"
    # With a tabindex it scrolls by the keyboard too.
    return element(
        "div",
        element("table", top, *body),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=label,
    )


def _cell(text: str) -> Html:
    """A cell: short words stay on one line, and long ones get room, so that no cell is a column of syllables."""
    if isinstance(text, Html):
        return element("td", text)
    return element("td", text, class_="short" if len(text) <= _SHORT else "long")


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """``table`` whose rows are all alike."""
    return table(head, (("", cells) for cells in rows))


def bullets(texts: Iterable[str]) -> Html:
    """A list, nothing where it is empty."""
    items = [element("li", text) for text in texts]
    return element("ul", *items) if items else Html()


def section(title: str, *content: str) -> Section:
    """A heading, and what stands below it."""
    return Section(title, joined(content))


def missing(what: str, command: str) -> Html:
    """Says that there are no results yet, and which command makes them."""
    return element("p", f"{what}: ", element("code", command), class_="missing")


def picture(svg: bytes, caption: str) -> Html:
    """An SVG of somebody's as an image, in which no script runs and nothing is loaded, and its caption."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    image = Html(f'<img src="{source}" alt="{html.escape(caption)}">')
    return element("figure", image, element("figcaption", caption))


def page(title: str, *sections: Section) -> str:
    """The whole page, with a list of its sections."""
    links = (element("li", element("a", each.title, href=f"#{each.anchor}")) for each in sections)
    contents = element("nav", element("ul", *links), aria_label="Contents")
    parts = (
        element("section", element("h2", each.title), each.body, id=each.anchor)
        for each in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # an empty icon: a browser asks for one otherwise
        '<link rel="icon" href="data:,">'
        f"{element('title', title)}<style>{_STYLE}</style></head>\n"
        f"<body>{element('h1', title)}\n{contents}\n" + "\n".join(parts) + "\n</body></html>\n"
    )
