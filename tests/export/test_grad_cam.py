"""Grad-CAM: it lights up where the class is decided, and is the gradient times the map of the definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.grad_cam import grad_cam, spread
from tests.export import tiny


class Spotter(nn.Module):
    """Bright pixels speak for class 0 and dark ones for class 1, wherever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        self.map = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, 1, H, W] to logits [N, 2]."""
        seen: Tensor = self.map(self.look(x))
        return seen.mean(dim=(2, 3))


@pytest.mark.parametrize("label", [0, 1])
def test_it_lights_up_where_the_class_is_decided_and_nowhere_else(label: int) -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[:, :, 2:10, 3:11] = 1
    image[:, :, 20:28, 22:30] = -1
    model = Spotter()
    ((activation,), logits) = grad_cam(model, (model.map,), image, label)
    assert logits.tolist() == [1 / 16, 1 / 16]
    lit = {tuple(place) for place in activation.nonzero().tolist()}
    top, left = [(2, 3), (20, 22)][label]
    assert lit == {(top + y, left + x) for y in range(8) for x in range(8)}


@pytest.mark.parametrize("attention", ["none", "channel", "spatial", "batch"])
def test_it_is_the_mean_gradient_times_the_map(attention: str) -> None:
    model = tiny.network(tiny.recipe(**{"network.attention": attention}))
    model.requires_grad_(False)  # a frozen trunk is explained as well
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    trunk, front = model.trunk(image), model.trunk_map(image)
    lit = 0
    for label in range(8):
        maps, logits = grad_cam(model, (model.trunk, model.detail), image, label)
        torch.testing.assert_close(logits, model(image)[0])
        expected = [
            _by_definition(trunk, model.from_features, label),
            _by_definition(front, model.tail, label),
        ]
        torch.testing.assert_close(maps, expected)
        lit += sum(bool(activation.any()) for activation in maps)
    assert lit >= 4  # what speaks for nothing has an empty map
    assert not model.trunk._forward_hooks  # the network is left as it was


def _by_definition(place: Tensor, rest: Callable[[Tensor], Tensor], label: int) -> Tensor:
    jacobian = torch.autograd.functional.jacobian
    gradient: Tensor = jacobian(lambda x: rest(x)[0, label], place)  # type: ignore[no-untyped-call]
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * place).sum(dim=1)[0].clamp_min(0)


def test_an_overlay_fills_0_to_1_and_stays_empty_where_nothing_spoke() -> None:
    overlay = spread(torch.tensor([[0.0, 1.0], [2.0, 4.0]]), 16).numpy()
    assert overlay.shape == (16, 16)
    assert (overlay.min(), overlay.max()) == (0.0, 1.0)
    assert np.unravel_index(overlay.argmax(), overlay.shape)[0] >= 8
    assert not spread(torch.zeros(3, 3), 8).any()
