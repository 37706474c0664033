"""The tail in torch: as it is trained, as ``NAME.onnx`` has it, and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.inputs import Expected, Map
from bench.torch_side import TorchGpu
from bench.turns import BACK_TO_BACK, WAITED, WAYS, Method
from convcut_trt.kernels.tail import Tail
from export.deploy import ChannelAttention, Scale
from export.model import SelfAttention
from export.model import Tail as TrainedTail

TORCH_ERROR = 1e-4  # torch adds up in other orders
EAGER, NAIVE, SUM = "torch eager", "native, softmax + MatMul", "native, Mul + ReduceSum"
MODES = ("default", "reduce-overhead")


class WithProbabilities(nn.Module):
    """A tail, and the softmax of its logits / T."""

    def __init__(self, tail: nn.Module, temperature: float) -> None:
        super().__init__()
        self.tail, self.temperature = tail, temperature

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [N, C, H, W] to logits and probabilities [N, K]."""
        logits = self.tail(x)
        return logits, torch.softmax(logits / self.temperature, dim=1)


def trained(tail: Tail) -> TrainedTail:
    """The module that training leaves, with these parameters."""
    attention = tail.attention
    module = TrainedTail(
        tail.map_shape[0], tail.positions, tail.units, attention, tail.classes, dropout=0.0
    ).eval()
    if tail.projection is not None:
        linear, _, norm = module.projection.children()
        norm = cast(nn.BatchNorm1d, norm)
        wanted = {"weight": tail.projection.scale, "bias": tail.projection.shift}
        _load(linear, weight=tail.projection.weight, bias=tail.projection.bias)
        _load(norm, **wanted, running_var=np.full(tail.units, 1 - norm.eps, np.float32))
    if module.attention is not None:
        _load(module.attention, score_scale=np.array(tail.score_scale, np.float32))
    _load(module.head, weight=tail.head_weight, bias=tail.head_bias)
    return module


def _load(module: nn.Module, **values: NDArray[np.float32]) -> None:
    state = {name: torch.from_numpy(value) for name, value in values.items()}
    module.load_state_dict(state, strict=False)


def exported(tail: Tail, *, as_sum: bool) -> TrainedTail:
    """The tail as ``NAME.onnx`` has it: BatchNorm as one scale; channel attention as a sum, or as trained."""
    module = trained(tail)
    if isinstance(module.projection, nn.Sequential):
        module.projection[2] = Scale(cast(nn.BatchNorm1d, module.projection[2]))
    if as_sum and module.attention is not None and module.attention.kind == "channel":
        module.attention = cast(SelfAttention, ChannelAttention(module.attention))
    return module


class TorchTail:
    """A tail as torch runs it; the map is on the GPU already."""

    def __init__(
        self,
        gpu: TorchGpu,
        name: str,
        run: Callable[[Tensor], tuple[Tensor, Tensor]],
        map: Tensor,
        expected: Expected,
        *,
        capturable: bool = True,
    ) -> None:
        self.name = name
        self.ways: tuple[str, ...] = WAYS if capturable else (WAITED, BACK_TO_BACK)
        self._gpu, self._run, self._map, self._expected = gpu, run, map, expected
        self._results: tuple[Tensor, Tensor] = run(map)

    def call(self) -> None:
        """See Method."""
        self._results = self._run(self._map)

    def capture(self, runs: int) -> Callable[[], object]:
        """See Method."""
        return self._gpu.capture(self.call, runs)

    def poison(self) -> None:
        """See Method."""
        for result in self._results:
            result.fill_(float("nan"))

    def check(self) -> float:
        """See Method."""
        logits, probabilities = (result.float().cpu().numpy() for result in self._results)
        return self._expected.error(logits, probabilities, TORCH_ERROR)


class TorchTails:
    """The modules of one tail; compiled ones keep what they compiled for the batches to come."""

    def __init__(self, gpu: TorchGpu, tail: Tail) -> None:
        self._gpu = gpu
        device = gpu.tensor(np.zeros(0, np.float32)).device

        def ready(module: nn.Module) -> WithProbabilities:
            return WithProbabilities(module, tail.temperature).to(device).eval()

        plain = ready(trained(tail))
        self._eager: dict[str, Any] = {EAGER: plain, NAIVE: ready(exported(tail, as_sum=False))}
        if tail.attention == "channel":
            self._eager[SUM] = ready(exported(tail, as_sum=True))
        self._compiled = {mode: gpu.compiled(plain, mode) for mode in MODES}

    def eager(self, map: Map, expected: Expected) -> Iterator[Method]:
        """torch eager and the native graph in its forms."""
        given = self._gpu.tensor(map)
        for name, module in self._eager.items():
            yield TorchTail(self._gpu, name, module, given, expected)

    @staticmethod
    def modes(batch: int) -> tuple[str, ...]:
        """Of torch.compile: larger batches share one compiled graph, but a CUDA graph each."""
        return MODES if batch == 1 else MODES[:1]

    def compiled(self, mode: str, map: Map, expected: Expected) -> Method:
        """Compiles for this batch, where what is compiled already does not serve it."""
        given = self._gpu.tensor(map)
        run = self._compiled[mode]
        name, capturable = (
            f"torch.compile, {mode}",
            mode != "reduce-overhead",
        )  # it is a graph itself
        return TorchTail(self._gpu, name, run, given, expected, capturable=capturable)
