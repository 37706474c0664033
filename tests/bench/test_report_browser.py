"""The report in a browser: nothing is fetched or logged, nothing overflows a phone, light and dark can be read."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import report as module
from bench.report import report
from convcut_trt.measuring import results
from tests.bench.report_results import sweep, usual

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

PHONE, DESK = 390, 1200
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--dump-dom"),
)
# A window is 500 pixels wide at least: the page lies in a frame, which is as wide as it is told. The policy holds
# in the frame too, and the console tells of everything that it forbids.
_FRAME = """<!DOCTYPE html><meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<body style="margin:0">
<iframe id="frame" width="{width}" height="844" style="border:0" srcdoc="{page}"></iframe>
<pre id="told"></pre><script>
addEventListener("load", () => {{
  const view = document.getElementById("frame").contentWindow, page = view.document, root = page.documentElement;
  const style = (found, name) => [...new Set(found.map(e => view.getComputedStyle(e)[name]))];
  const all = chosen => [...page.querySelectorAll(chosen)];
  const drawings = all("svg[role=img], figure img");
  const outside = text => {{
    const own = text.getBoundingClientRect(), around = text.ownerSVGElement.getBoundingClientRect();
    return own.left < around.left - 1 || own.right > around.right + 1 || own.bottom > around.bottom + 1;
  }};
  document.getElementById("told").textContent = JSON.stringify({{
    width: root.clientWidth,
    needed: Math.max(root.scrollWidth, page.body.scrollWidth),
    drawings: drawings.map(e => e.getBoundingClientRect()).map(box => [box.width, box.height]),
    outside: all("svg[role=img] text").filter(outside).map(e => e.textContent),
    letters: Math.min(...all("svg[role=img] text").map(e => e.getBoundingClientRect().height).filter(h => h > 0)),
    scrolling: all(".scroll").filter(e => e.scrollWidth > e.clientWidth).length,
    background: style([page.body], "backgroundColor"),
    texts: style([page.body, ...all(".origin, .missing, figcaption")], "color"),
    marks: style(all("path.mark"), "fill"),
  }});
}});
</script>"""


def seen(page: str, folder: Path, *flags: str, width: int) -> tuple[dict[str, Any], str]:
    """What a browser has of a page in a window of a width, and what it logged to the console."""
    path = folder / f"frame{width}.html"
    path.write_text(_FRAME.format(width=width, page=html.escape(page)))
    assert BROWSER is not None
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [BROWSER, *_FLAGS, profile, *flags, f"--window-size={DESK},900", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    (told,) = re.findall(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(told)), console


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All committed results, a bench, and a sweep."""
    folder = tmp_path_factory.mktemp("results")
    for path in module.RESULTS.glob("*.json"):
        shutil.copy(path, folder)
    results.write(folder / "by-hand.json", usual())
    results.write(folder / "sweep-by-hand.json", sweep())
    return report(folder, None)


def contrast(one: str, other: str) -> float:
    """Of two colours as a browser writes them, 1 to 21 (WCAG 2.2, relative luminance)."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize(
    ("width", "flags", "light"),
    [(PHONE, (), True), (DESK, ("--blink-settings=preferredColorScheme=0",), False)],
    ids=["a phone, light", "a desk, dark"],
)
def test_a_browser_shows_it_whole(
    width: int, flags: tuple[str, ...], light: bool, page: str, tmp_path: Path
) -> None:
    told, console = seen(page, tmp_path, *flags, width=width)
    assert console == ""
    assert told["width"] <= width
    assert told["needed"] <= told["width"]
    assert len(told["drawings"]) > 15
    assert all(min(size) > 70 for size in told["drawings"])  # one of a single row on a phone: 73
    assert told["outside"] == []
    assert told["letters"] > 10
    assert told["scrolling"] > 0 or width == DESK
    (background,) = told["background"]
    assert (
        contrast(background, "rgb(255, 255, 255)") < contrast(background, "rgb(0, 0, 0)")
    ) == light
    assert all(contrast(background, text) >= 4.5 for text in told["texts"])
    assert len(told["marks"]) >= 3
    assert all(contrast(background, mark) >= 3 for mark in told["marks"])


def test_the_browser_would_tell_of_a_bad_page(tmp_path: Path) -> None:
    bad = (
        '<!DOCTYPE html><body style="color: #999"><div style="width: 2000px">wide</div><img src="gone.png">'
        '<figure><img src="data:,"></figure><script>console.error("told")</script>'
        '<svg role="img" width="200" height="100"><text x="190" y="20">outside</text></svg>'
    )
    told, console = seen(bad, tmp_path, width=PHONE)
    assert "told" in console
    assert "gone.png" in console
    assert told["needed"] > told["width"]
    assert told["outside"] == ["outside"]
