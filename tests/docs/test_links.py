"""Links lead somewhere, every page is in the contents, and pictures can be read by all."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from tests.docs.pages import DOCS, NAMES, ROOT, anchors, prose

PICTURES = sorted(DOCS.glob("*.svg"))
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")


def dead(link: str, page: Path) -> str:
    """What is wrong with a link; nothing where it leads somewhere. Those into the web are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        whole = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return "" if whole else "no address of a page"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return "no such file"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in anchors(target)):
        return "no such heading"
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    assert [(link, why) for link in _LINK.findall(prose(page)) if (why := dead(link, page))] == []


@pytest.mark.parametrize(
    "link",
    [
        "missing.md",
        "README.md#no-such-heading",
        "network.svg#seam",
        "../../elsewhere.md",
        "#no-such-heading",
        "http://example.org/page",
        "https://nowhere/page",
        "ftp://example.org/file",
    ],
)
def test_a_dead_link_is_found(link: str) -> None:
    assert dead(link, DOCS / "README.md")


def test_the_contents_name_every_page() -> None:
    linked = {urlsplit(link).path for link in _LINK.findall(prose(DOCS / "README.md"))}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: str(path.name))
def test_a_picture_is_shown_and_can_be_read_by_all(picture: Path) -> None:
    """GitHub shows it as a picture: nothing is fetched or run, and it brings its colours, light and dark."""
    root = ElementTree.fromstring(picture.read_text("utf-8"))  # noqa: S314 our own file
    space = "{http://www.w3.org/2000/svg}"
    title, text = root.find(f"{space}title"), "".join(root.itertext())
    assert title is not None and title.text and "viewBox" in root.attrib
    assert "prefers-color-scheme: dark" in text and ".ground" in text
    assert not [each.tag for each in root.iter() if each.tag in (f"{space}script", f"{space}image")]
    shown = [page for page in DOCS.glob("*.md") if f"]({picture.name})" in prose(page)]
    assert shown
    outer = [float(number) for number in root.attrib["viewBox"].split()[2:]]
    for each in root.iter(f"{space}text"):
        assert 0 < float(each.attrib["x"]) < outer[0] and 0 < float(each.attrib["y"]) < outer[1]
