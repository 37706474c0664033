"""The pages of this repository: their blocks, headings and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            page
            for folder in ("bench", "convcut_trt", "docs", "examples")
            for page in (ROOT / folder).rglob("*.md")
        ),
    ]
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
_FENCE = re.compile(
    r"^(?:<!-- run(?:: (?P<needs>\w+))? (?P<run>-->)\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# What stands behind `run:`, an extra or another package, and the module that tells whether it is there.
_NEEDS = {
    "lab": "torch",
    "rtx": "tensorrt_rtx",
    "faces": "cv2",
    "zenoh": "zenoh",
    "dds": "cyclonedds",
    "mcap": "mcap",
    "mcap_ros2": "mcap_ros2",
}


@dataclass(frozen=True)
class Block:
    """A fenced block; one behind ``<!-- run -->`` is run, where what it needs is there."""

    language: str
    body: str
    run: bool
    needs: str | None


def blocks(page: Path) -> list[Block]:
    return [
        Block(
            found["language"],
            dedent(found["body"]),
            found["run"] is not None,
            _NEEDS[found["needs"]] if found["needs"] else None,
        )
        for found in _FENCE.finditer(page.read_text("utf-8"))
    ]


@cache
def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


@cache
def anchors(page: Path) -> list[str]:
    """What GitHub calls the headings of a page."""
    slugs: list[str] = []
    for heading in _HEADING.findall(prose(page)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")
        before = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in slugs
        )
        slugs.append(f"{slug}-{before}" if before else slug)
    return slugs


def words_of(text: str) -> Iterator[list[str]]:
    """The command lines of a block, as words: quotes may go over several lines."""
    pending = ""
    for line in text.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:
            continue
        pending = ""
        part: list[str] = []
        for word in [*words, "&&"]:
            if word not in ("&&", "|"):
                part.append(word)
            elif part:
                yield part
                part = []
    assert not pending, f"a quote is left open: {pending}"


def commands(page: Path) -> Iterator[list[str]]:
    """What a page calls ``convcut-trt`` with, in its blocks and in its sentences."""
    lines = [
        words
        for block in blocks(page)
        if block.language in ("", "sh")
        for words in words_of(block.body)
    ]
    for code in _CODE.findall(prose(page)):
        if code.startswith("convcut-trt ") and "..." not in code:
            for words in words_of(code.replace("\\|", "|").replace("\n", " ")):
                lines.append(words if len(words) > 2 else [*words, "--help"])  # a verb's name
    for words in lines:
        while words and re.fullmatch(r"\$|[A-Z_]+=.*", words[0]):
            words = words[1:]
        if len(words) > 1 and Path(words[0]).name == "convcut-trt" and words[1] != "VERB":
            yield words[1:]
