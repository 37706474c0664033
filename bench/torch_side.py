"""torch on the stream on which everything is timed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from convcut_trt.errors import BackendMissing


class TorchGpu:
    """``with TorchGpu(stream) as gpu:`` makes a stream torch's own, without gradients and without TF32."""

    def __init__(self, stream: int) -> None:
        """Takes the handle of the stream.

        Raises:
            BackendMissing: torch sees no GPU.
        """
        if not torch.cuda.is_available():
            raise BackendMissing("torch sees no GPU: install the build of it for this CUDA")
        self._stream = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        self._open = ExitStack()

    def __enter__(self) -> TorchGpu:
        torch.backends.cuda.matmul.allow_tf32 = False
        self._open.enter_context(torch.no_grad())
        self._open.enter_context(torch.cuda.stream(self._stream))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def tensor(self, array: Any) -> Tensor:
        """A copy of a numpy array on the GPU."""
        return torch.from_numpy(array).cuda()

    def capture(self, call: Callable[[], object], runs: int) -> Callable[[], object]:
        """Records calls as one CUDA graph; what is returned launches it."""
        graph = torch.cuda.CUDAGraph()
        # torch.cuda.graph() would collect garbage each time, which takes longer than all that is timed.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for _ in range(runs):
                call()
        finally:
            graph.capture_end()
        return graph.replay

    def compiled(self, module: Callable[..., Any], mode: str) -> Callable[..., Any]:
        """``torch.compile`` of it."""
        return torch.compile(module, mode=mode)

    def tidy(self) -> None:
        """Gives back what graphs and compiled code of the last comparison held."""
        torch.compiler.reset()
        torch.cuda.empty_cache()
