"""A disk that is full: beside engines of the bundled model, and where a failed build leaves its report."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from convcut_trt.errors import GateFailed, InputError
from tests.building import check_published, make


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reaches the disk any more, once the test asks for it."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def test_witnesses_of_another_engine_outlive_it(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    former = make(tmp_path, precision="fp32")
    stays = {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()}
    request.getfixturevalue("full")
    with pytest.raises(InputError, match="could not be written .No space left .*free some space"):
        make(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "witnesses").iterdir()} == stays
    check_published(former, tmp_path)


def test_a_gate_that_failed_is_told_though_its_report_does_not_fit(
    tmp_path: Path, full: None
) -> None:
    with pytest.raises(
        GateFailed, match="at loss, median: nothing .*, and the report neither: "
    ) as caught:
        make(tmp_path, budgets={"loss_median": 1e-9})
    assert "loss, median" in caught.value.log
    assert not list(tmp_path.iterdir())


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="gone .No such file.*name another folder in TMPDIR"):
        make(tmp_path / "out")
