"""Faces out of a camera frame in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.inputs import Boxes, Bytes
from bench.torch_side import TorchGpu
from bench.turns import WAYS, Wrong
from convcut_trt.frames import Layout

TORCH = "torch eager, interpolate with antialias"
TORCH_LEVELS = 2  # of 255: torch rounds once, the rule after each pass


class TorchFaces:
    """Slices, ``interpolate(antialias=True)`` of each face, and a stack of them."""

    name = TORCH
    ways = WAYS

    def __init__(
        self, gpu: TorchGpu, layout: Layout, frame: Bytes, boxes: Boxes, expected: Bytes
    ) -> None:
        self._gpu, self._layout, self._expected = gpu, layout, expected
        self._frame = gpu.tensor(layout.view(frame).copy())
        self._boxes = boxes.astype(int).tolist()
        self._result = self._faces()

    def call(self) -> None:
        """See Method."""
        self._result = self._faces()

    def capture(self, runs: int) -> Callable[[], object]:
        """See Method."""
        return self._gpu.capture(self.call, runs)

    def poison(self) -> None:
        """See Method."""
        self._result.fill_(0xFF)

    def check(self) -> float:
        """See Method: the largest difference, in levels.

        The pixels at the edge are left out: for them the rule looks beyond the crop, where a slice ends.
        """
        seen = self._result.cpu().numpy().astype(int)
        inside = np.abs(seen - self._expected)[:, 1:-1, 1:-1]
        largest = int(inside.max())
        if largest > TORCH_LEVELS:
            raise Wrong(f"differs by {largest} levels where {TORCH_LEVELS} are allowed")
        return float(largest)

    def _faces(self) -> Tensor:
        size = list(self._expected.shape[1:3])
        found = []
        for x, y, width, height in self._boxes:
            crop = self._rgb(slice(x, x + width), slice(y, y + height))
            planes = crop.permute(2, 0, 1)[None].float()
            found.append(F.interpolate(planes, size, mode="bilinear", antialias=True))
        batch = torch.cat(found).round().clamp(0, 255).to(torch.uint8)
        return batch.permute(0, 2, 3, 1).contiguous()

    def _rgb(self, columns: slice, rows: slice) -> Tensor:
        if self._layout.format == "nv12":
            return self._nv12(columns, rows)
        crop = self._frame[rows, columns]
        return crop.flip(-1) if self._layout.format == "bgr8" else crop

    def _nv12(self, columns: slice, rows: slice) -> Tensor:
        """The integer formulas of ``frames``."""
        height = self._layout.height
        below = slice(height + rows.start // 2, height + rows.stop // 2)
        chroma = self._frame[below, columns].int() - 128
        u, v = (
            chroma[:, place::2].repeat_interleave(2, 0).repeat_interleave(2, 1) for place in (0, 1)
        )
        c = 298 * (self._frame[rows, columns].int() - 16) + 128
        sums = torch.stack((c + 409 * v, c - 100 * u - 208 * v, c + 516 * u), dim=-1)
        return (sums >> 8).clamp(0, 255)
