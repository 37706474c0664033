"""The fuzzer sees what is wrong, makes it small, and keeps it; what is refused is no finding."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import strategies

from convcut_trt.errors import InputError
from tests.fuzz import fuzzing
from tests.fuzz.apart import Outcome, Reader
from tests.fuzz.fuzzing import Report, Target, fuzz, kept

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fuzzing, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


def breaks_on_a(content: bytes, folder: Path) -> None:
    if b"a" in content:
        raise ZeroDivisionError


def breaks_on_b(content: bytes, folder: Path) -> None:
    if b"b" in content:
        raise ZeroDivisionError
    raise InputError("no")


LETTERS = strategies.text("abc", min_size=1, max_size=20).map(str.encode)


def test_what_is_found_is_small_and_kept_beside_what_was_found_before(
    folder: Path, tmp_path: Path
) -> None:
    with closing(Reader(tmp_path)) as reader:
        reports = [
            fuzz(Target(LETTERS, read), reader) for read in (breaks_on_a, breaks_on_b, breaks_on_a)
        ]
    found = [content for report in reports for _, content in report.found.values()]
    assert found == [b"a", b"b", b"a"]
    assert {path.read_bytes() for path in folder.iterdir()} == {b"a", b"b"}
    for report, content in zip(reports, found, strict=True):
        assert "ZeroDivisionError" in str(report) and str(kept(content)) in str(report)
    assert reports[0].counts["taken"] and reports[1].counts["refused"]


def test_to_say_what_was_found_writes_nothing(folder: Path) -> None:
    report = Report(found={"place": (Outcome("wrong", "place", "detail"), b"a")})
    assert str(kept(b"a")) in str(report)
    assert not folder.exists()


def test_where_nothing_is_wrong_nothing_is_kept(folder: Path, tmp_path: Path) -> None:
    with closing(Reader(tmp_path)) as reader:
        report = fuzz(Target(strategies.just(b"c"), breaks_on_b), reader)
    assert not report.found and not folder.exists()
