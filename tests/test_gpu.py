"""Training on an NVIDIA GPU. `make gpu` runs this and what is in `tests/gpu`; elsewhere it is skipped."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


def test_training_runs_on_the_gpu_and_answers_as_the_cpu_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    from export.recipe import read
    from export.to_onnx import trained
    from export.train import main

    recipe = Path(__file__).parents[1] / "export" / "recipes" / "synthetic.toml"
    short = tmp_path / "short.toml"
    short.write_text(recipe.read_text().replace("epochs = 14", "epochs = 1"))
    assert read(short).training.epochs == 1
    assert main([str(short), "--data", "synthetic:256", "-o", str(tmp_path / "run")]) == 0
    model, plan, _ = trained(tmp_path / "run" / "model.safetensors")
    faces = torch.from_numpy(
        np.random.default_rng(0).normal(size=(8, 1, plan.input.size, plan.input.size))
    ).float()
    with torch.no_grad():
        here = model.trunk_map(faces)
        there = model.cuda().trunk_map(faces.cuda()).cpu()
    # TF32 is off by default for matrix products; convolutions may use it: 1e-2 relative
    assert torch.linalg.norm(here - there) < 1e-2 * torch.linalg.norm(here)
