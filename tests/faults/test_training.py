"""Runs of ``train`` beside each other, over a model, and when the clock is set.

That a run that is killed anywhere resumes to the same weights is in ``tests/export/test_trainer.py``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from convcut_trt.alone import alone  # noqa: E402
from convcut_trt.datasets import Dataset  # noqa: E402
from convcut_trt.errors import InputError  # noqa: E402
from export import checkpoint  # noqa: E402
from export.data import open_faces  # noqa: E402
from export.trainer import Trainer  # noqa: E402
from tests.export import tiny  # noqa: E402

DAY_S = 86_400


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return open_faces("synthetic:32")


def trainer(faces: Dataset, folder: Path) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(tiny.recipe(**{"training.epochs": 2}), faces, folder, tiny.fabric())


@pytest.mark.skipif(os.name == "nt", reason="Windows locks no folders")
def test_two_trainings_in_one_folder(faces: Dataset, tmp_path: Path) -> None:
    one = trainer(faces, tmp_path)
    with alone(tmp_path, "busy"):
        for begin in (one.run, one.resume):
            with pytest.raises(InputError, match="another training .*: wait for it, or .* with -o"):
                begin()
    assert not list(tmp_path.iterdir())


def test_a_run_overwrites_no_other_run_and_no_model(faces: Dataset, tmp_path: Path) -> None:
    trainer(faces, tmp_path).run()
    with pytest.raises(InputError, match="go on with --resume"):
        trainer(faces, tmp_path).run()
    (tmp_path / "state.safetensors").unlink()
    kept = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="without the state.safetensors .* with -o"):
        trainer(faces, tmp_path).run()
    assert (tmp_path / "model.safetensors").read_bytes() == kept


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_is_set_changes_nothing(
    faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Between two epochs, and again between a run and its resumption."""
    trainer(faces, tmp_path / "whole").run()
    now, jumps = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: now() + jumps[0] * days * DAY_S)
    monkeypatch.setattr("tqdm.std.time", lambda: time.time())
    one = trainer(faces, tmp_path / "set")
    record = one._record

    def jump(seconds: float) -> None:
        record(seconds)
        jumps[0] += 1
        if jumps[0] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(one, "_record", jump)
    with pytest.raises(KeyboardInterrupt):
        one.run()
    jumps[0] += 1
    again = trainer(faces, tmp_path / "set")
    again.resume()
    for name in ("model", "state"):
        ours, whole = (
            checkpoint.read(tmp_path / place / f"{name}.safetensors")[0]
            for place in ("set", "whole")
        )
        torch.testing.assert_close(ours, whole, rtol=0, atol=0)
    assert all(epoch["seconds"] >= 0 for epoch in again.progress.history)
