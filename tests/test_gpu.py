"""What only a machine with an NVIDIA GPU can show. `make gpu` runs these; elsewhere they are skipped."""

from pathlib import Path

import numpy as np
import pytest

from convcut_trt.backends import probe
from convcut_trt.build import Request, build
from convcut_trt.home import find_model
from tests import models

pytestmark = pytest.mark.gpu


def test_rtx_builds_for_the_gpu_of_this_machine_and_the_engine_loads(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    request = Request("fp16", tmp_path, backend="tensorrt-rtx")
    manifest = build(find_model("conv-cut-mini"), request, models.quiet)
    gpu = probe.gpu()
    assert not isinstance(gpu, str)
    assert manifest.compute_capability == ".".join(map(str, gpu.compute_capability))
    runtime = trt.Runtime(trt.Logger())
    engine = runtime.deserialize_cuda_engine(manifest.engine.read_bytes())
    assert engine is not None
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert set(names) == {"images", "logits", "probabilities", "map"}


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
