"""torch: the trained network as it is, eager or through torch.compile."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.peers import F32, U8, Answering, cores, entrant, original, place, same_bits
from convcut_trt.backends.base import Runnable
from convcut_trt.errors import BackendMissing, InputError
from convcut_trt.fields import sha256
from convcut_trt.home import Model
from convcut_trt.measuring.entrants import Entrant
from export import recipe
from export.data import normalise
from export.deploy import LUMA
from export.model import ConvCut
from export.recipe import Recipe
from export.to_onnx import trained

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CPU_MODE, GPU_MODE = "default", "max-autotune"
"""Of torch.compile. On a GPU the one with a CUDA graph, as our engines have, and kernels chosen by measuring. On a
CPU constant weights (``freezing``) gained nothing over the default: 0.99x (0.89 to 1.09) on the edge network."""


class FaceNetwork(nn.Module):
    """The trained network between uint8 faces and probabilities, as its users run it."""

    def __init__(
        self, network: ConvCut, plan: Recipe, temperature: float, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.input, self.temperature, self.dtype = plan.input, temperature, dtype
        self.grey = len(plan.input.mean) == 1

    def forward(self, images: Tensor) -> Tensor:
        """Maps uint8 RGB [N, S, S, 3] to float32 [N, K]."""
        x = images.permute(0, 3, 1, 2)
        if self.grey:
            luma = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
            x = (x * luma).sum(dim=1, keepdim=True)
        logits: Tensor = self.network(normalise(x, self.input).to(self.dtype))
        return torch.softmax(logits.float() / self.temperature, dim=1)


@dataclass(frozen=True)
class Trained:
    """A checkpoint, read once; every opening copies it.

    Attributes:
        network: See ``FaceNetwork``, on the CPU.
        sha256: Of the file.
        precision: What it computes in.
    """

    network: FaceNetwork
    sha256: str
    precision: str

    @classmethod
    def read(cls, engine: Entrant) -> Trained:
        """The checkpoint of the model that an engine was built from, in the engine's bits where torch has them.

        Raises:
            InputError: There is no such model, or its checkpoint is not found.
        """
        path, precision = checkpoint_of(original(engine)), same_bits(engine)
        network, plan, note = trained(path)
        asked = FaceNetwork(network, plan, float(note["temperature"]), DTYPES[precision]).eval()
        return cls(asked, sha256(path), precision)


def checkpoint_of(model: Model) -> Path:
    """The checkpoint that a model was exported from: beside it, or that of a bundled one beside its recipe.

    Raises:
        InputError: Neither is the one whose hash the model's spec has.
    """
    name, wanted = model.spec.name, model.spec.provenance.get("checkpoint_sha256")
    places = (
        model.folder / f"{name}.safetensors",
        model.folder / "model.safetensors",
        recipe.RECIPES / f"{name}.safetensors",
    )
    for path in places:
        if path.is_file() and sha256(path) == wanted:
            return path
    raise InputError(
        f"torch needs the checkpoint that {model.onnx.name} was exported from: copy its model.safetensors to "
        f"{places[0]}"
    )


def eager(engine: Entrant) -> Entrant:
    """torch as it is.

    Raises:
        BackendMissing: The engine is on a GPU, and torch sees none.
        InputError: No checkpoint.
    """
    _check_device(engine)
    weights = Trained.read(engine)
    return _entrant(engine, "torch", weights, "eager", lambda network: network)


def compiled(engine: Entrant) -> Entrant:
    """torch.compile, in ``CPU_MODE`` or ``GPU_MODE``.

    Raises:
        BackendMissing: No C++ compiler, or the engine is on a GPU, and torch sees none.
        InputError: No checkpoint.
    """
    _check_device(engine)
    compiler = os.environ.get("CXX", "g++")
    if engine.on_cpu and shutil.which(compiler) is None:
        raise BackendMissing(
            f"torch.compile needs a C++ compiler, and there is no {compiler}: install it, or name one in CXX"
        )
    mode = CPU_MODE if engine.on_cpu else GPU_MODE

    def build(network: FaceNetwork) -> Callable[[Tensor], Tensor]:
        # A network beyond the eighth would run uncompiled without a word. What was generated for the ones before
        # lies on the disk and is taken from there.
        torch.compiler.reset()
        done: Callable[[Tensor], Tensor] = torch.compile(network, mode=mode)
        return done

    return _entrant(engine, "torch-compile", Trained.read(engine), f"compiled, mode {mode}", build)


def _entrant(
    engine: Entrant,
    peer: str,
    weights: Trained,
    words: str,
    build: Callable[[FaceNetwork], Callable[[Tensor], Tensor]],
) -> Entrant:
    return entrant(
        engine,
        peer,
        weights.precision,
        f"{weights.precision}, {words}, {place(engine)}",
        partial(opened, weights.network, engine.on_cpu, build),
        versions={"torch": torch.__version__},
        sha256={"checkpoint": weights.sha256},
    )


def _check_device(engine: Entrant) -> None:
    if not engine.on_cpu and not torch.cuda.is_available():
        raise BackendMissing("torch sees no GPU: install the build of it for this CUDA")


@contextmanager
def opened(
    network: FaceNetwork, on_cpu: bool, build: Callable[[FaceNetwork], Callable[[Tensor], Tensor]]
) -> Iterator[Runnable]:
    """A copy of a network on its device, and what ``build`` makes of it; torch's settings are ours meanwhile."""
    device = torch.device("cpu" if on_cpu else "cuda")

    def answer(images: U8) -> F32:
        with torch.inference_mode():
            faces = torch.from_numpy(np.require(images, requirements="W")).to(device)
            found: F32 = call(faces).cpu().numpy()
            return found

    with _settings():
        call = build(copy.deepcopy(network).to(device))
        yield Answering(answer)


@contextmanager
def _settings() -> Iterator[None]:
    """As many threads as everybody has, and FP32 that is FP32: TF32 has 10 bits of mantissa."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(cores())
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
