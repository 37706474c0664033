"""What several tests of the lab share: rendered faces, and one trained tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convcut_trt.datasets import Dataset
from export.data import open_faces
from export.trainer import Trainer
from tests.export import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Small tensors are slower on several threads, and results would depend on their number.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def faces() -> Dataset:
    """160 rendered faces to train on, 20 to validate, 20 to test."""
    return open_faces("synthetic:160")


@pytest.fixture(scope="session")
def run(faces: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("run")
    Trainer(tiny.recipe(), faces, folder, tiny.fabric()).run()
    return folder
