"""A peer that is there on a GPU alone: torch-tensorrt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.peer_torch import FaceNetwork, Trained, opened
from bench.peers import entrant
from convcut_trt.backends.base import Runnable
from convcut_trt.errors import BackendMissing
from convcut_trt.measuring.entrants import Entrant
from convcut_trt.optional import load


def torch_tensorrt(engine: Entrant) -> Entrant:
    """torch-tensorrt on the trained network, typed as the network is, in a CUDA graph as our engines are.

    Raises:
        BackendMissing: Not installed, or the engine is on the CPU.
        InputError: No checkpoint.
    """
    if engine.on_cpu or not torch.cuda.is_available():
        raise BackendMissing(
            f"torch-tensorrt computes on a GPU: compare an engine of TensorRT with it, {engine.name} is on the CPU"
            if engine.on_cpu
            else "torch sees no GPU: install the build of it for this CUDA"
        )
    try:
        library = load("torch_tensorrt", "lab")
    except BackendMissing as error:
        raise BackendMissing(
            "torch-tensorrt is not installed, or does not load: pip install torch-tensorrt, of torch's version",
            log=str(error),
        ) from error
    weights = Trained.read(engine)
    return entrant(
        engine,
        "torch-tensorrt",
        weights.precision,
        f"{weights.precision}, TensorRT and torch, on the GPU",
        partial(_in_tensorrt, library, weights.network, engine),
        versions={"torch": torch.__version__, "torch-tensorrt": library.__version__},
        sha256={"checkpoint": weights.sha256},
    )


def _in_tensorrt(
    library: Any, network: FaceNetwork, engine: Entrant
) -> AbstractContextManager[Runnable]:
    size = engine.work.spec.size
    low, usual, high = ((count, size, size, 3) for count in engine.subject.batch)

    def build(network: FaceNetwork) -> Callable[[Tensor], Tensor]:
        taken = library.Input(min_shape=low, opt_shape=usual, max_shape=high, dtype=torch.uint8)
        done: Callable[[Tensor], Tensor] = library.compile(
            network, ir="dynamo", inputs=[taken], use_explicit_typing=True, disable_tf32=True
        )
        library.runtime.set_cudagraphs_mode(True)
        return done

    return opened(network, False, build)
