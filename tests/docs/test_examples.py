"""What stands behind ``<!-- run -->`` in a page is run, in the order of the page."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from convcut_trt import cli
from tests.docs.pages import DOCS, NAMES, ROOT, blocks, words_of
from tests.packaging.smokes import LOOPBACK

# They need a compiler, a server, ROS or a quiet machine, or there is nothing to do in them.
NOTHING_TO_RUN = {
    *("bench.md", "cpp.md", "plugin.md", "ros2.md", "triton.md"),
    *("README.md", "api.md", "pictures.md", "security.md"),
}
# As LOOPBACK does for DDS: on this machine, and apart from all others.
ZENOH = """{"listen": {"endpoints": ["tcp/127.0.0.1:0"]}, "scouting": {"multicast": {"enabled": false}}}"""


def runnable() -> list[str]:
    return [name for name in NAMES if any(block.run for block in blocks(ROOT / name))]


def test_a_page_that_leads_anybody_has_an_example_that_runs() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}
    assert pages >= NOTHING_TO_RUN
    assert pages - NOTHING_TO_RUN <= {Path(name).name for name in runnable()}


@pytest.mark.slow
@pytest.mark.parametrize("name", runnable())
def test_examples_run(
    name: str,
    own_engines: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In an empty folder with the examples beside it, and an engine in the cache; few pictures at the gates."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVCUT_HOME", str(own_engines))
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK.format(tag=tmp_path))
    (tmp_path / "zenoh.json5").write_text(ZENOH)
    monkeypatch.setenv("ZENOH_CONFIG", str(tmp_path / "zenoh.json5"))
    for block in blocks(ROOT / name):
        if not block.run or (block.needs and find_spec(block.needs) is None):
            continue
        if block.language == "python":
            exec(compile(block.body, name, "exec"), {})  # noqa: S102 our own page
            assert capsys.readouterr().out
            continue
        for program, *arguments in words_of(block.body):
            assert program == "convcut-trt"
            few = ["--gate-pictures", "16"] if arguments[0] == "build" else []
            assert cli.main([*arguments, *few]) == 0, arguments
