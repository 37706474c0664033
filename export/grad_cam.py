"""Grad-CAM: where in a picture a network sees what speaks for a class.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017,
equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def grad_cam(
    model: nn.Module, places: Sequence[nn.Module], image: Tensor, label: int
) -> tuple[list[Tensor], Tensor]:
    """The class activation maps of one picture.

    The weight of a channel is the mean gradient of the class' logit over the positions of the map; the
    weighted sum of the channels, cut at zero, is what speaks for the class.

    Args:
        model: Maps float32 [1, C, H, W] to logits [1, K]; in evaluation mode.
        places: Modules inside it whose output is a map [1, channels, h, w].
        image: float32 [1, C, H, W]. One at a time: no other picture can have a part in the answer.
        label: The class asked about.

    Returns:
        One map float32 [h, w] a place, not negative, in the unit of the logit; and the logits [K].
    """
    maps: dict[int, Tensor] = {}

    def keep(number: int, output: Tensor) -> None:
        maps[number] = output

    hooks = [
        place.register_forward_hook(lambda _, __, output, number=number: keep(number, output))
        for number, place in enumerate(places)
    ]
    try:
        with torch.enable_grad():
            # Of a frozen network only the picture can carry a gradient.
            logits = model(image.detach().requires_grad_())
            kept = [maps[number] for number in range(len(places))]
            gradients = torch.autograd.grad(logits[0, label], kept)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        F.relu((gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1))[0].detach()
        for gradient, activation in zip(gradients, kept, strict=True)
    ], logits[0].detach()


def spread(activation: Tensor, size: int) -> Tensor:
    """An activation map [h, w] as an overlay [size, size] in 0 ... 1; zero where nothing spoke for the class."""
    wide = F.interpolate(activation[None, None], (size, size), mode="bilinear", align_corners=False)
    return wide[0, 0] / wide.amax().clamp_min(1e-12)
