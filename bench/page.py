"""One self-contained HTML page: its style inside, nothing fetched, light and dark, readable on a phone."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --page: #fff; --faint: #6b6b6b; --line: #d8d8d8; --ours: #e8f1fb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --page: #161616; --faint: #a0a0a0; --line: #3a3a3a; --ours: #1b2c3f }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 60rem; padding: 1rem; overflow-wrap: break-word }
h1 { font-size: 1.5rem; line-height: 1.25 }
h2 { font-size: 1.2rem; margin-top: 2.5rem }
p, li, figcaption { max-width: 46rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap }
td { min-width: 4rem }
tr.ours { background: var(--ours) }
small, figcaption, .missing { color: var(--faint); font-size: .875rem }
small { white-space: nowrap }
figure { margin: 1.5rem 0 }
figure img { width: 100%; height: auto }
code { font-size: .875em; overflow-wrap: anywhere }
a { color: inherit }
"""


class Html(str):
    """Text that is HTML already; any other text is escaped where it meets a page."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """The text as HTML; ``Html`` stays what it is."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Parts one after the other, each escaped."""
    return Html(escaped(between).join(escaped(part) for part in parts))


def element(name: str, *content: str, **attributes: str) -> Html:
    """One element; a trailing underscore of an attribute's name falls away (``class_``)."""
    texts = "".join(
        f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{texts}>{joined(content)}</{name}>")


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Html:
    """A table that scrolls by itself where the screen is narrow; each row has a class, which may be empty."""
    top = element("tr", *(element("th", cell) for cell in head))
    body = [
        element("tr", *(element("td", cell) for cell in cells), class_=kind) for kind, cells in rows
    ]
    return element("div", element("table", top, *body), class_="scroll")


def section(title: str, *content: str) -> Html:
    """A heading, and what stands below it."""
    return element("section", element("h2", title), *content)


def missing(what: str, command: str) -> Html:
    """Says that there are no results yet, and which command makes them."""
    return element("p", f"{what}: ", element("code", command), class_="missing")


def picture(svg: bytes, caption: str) -> Html:
    """An SVG of somebody's as an image, in which no script runs and nothing is loaded, and its caption."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    image = Html(f'<img src="{source}" alt="{html.escape(caption)}">')
    return element("figure", image, element("figcaption", caption))


def page(title: str, *content: str) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{element('title', title)}<style>{_STYLE}</style></head>\n"
        f"<body>{element('h1', title)}\n" + "\n".join(map(escaped, content)) + "\n</body></html>\n"
    )
