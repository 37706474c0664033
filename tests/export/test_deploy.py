"""The deploy form computes what was trained, for every kind of network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convcut_trt.errors import ConvcutError
from export import deploy as module
from export.deploy import REWRITES, ChannelAttention, ConvolutionBlock, Scale, deploy, normalised
from export.model import ConvCut, NormedDepthwise
from tests.export import tiny


def faces(number: int = 6, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (number, size, size, 3), generator=generator).to(torch.uint8)


KINDS = [
    pytest.param({"network.attention": attention, "network.projection": projection} | colour)
    for attention in ("channel", "spatial", "none")
    for projection in (0, 12)
    for colour in ({}, tiny.COLOUR)
] + [
    pytest.param(tiny.STEM),
    pytest.param(
        tiny.COLOUR
        | tiny.STEM
        | {"network.trunk_options": tiny.OPTIONS | {"patch_size": 4, "in_chans": 3}}
    ),
]


@torch.no_grad()
@pytest.mark.parametrize("changes", KINDS)
def test_every_rewrite_is_exact(changes: dict[str, Any]) -> None:
    plan = tiny.recipe(**changes)
    model = tiny.network(plan)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    deployed, rewrites = deploy(model, plan.input, faces(), temperature=1.7)
    assert [rewrite.name for rewrite in rewrites] == [
        *(rewrite.__name__ for rewrite in REWRITES),
        "fold_input",
    ]
    assert max(rewrite.error for rewrite in rewrites) < 1e-5
    logits, probabilities, feature_map = deployed(faces())
    x = normalised(faces(), plan.input)
    torch.testing.assert_close(feature_map, model.trunk_map(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, model(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(probabilities, (model(x) / 1.7).softmax(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_the_deploy_form_takes_bytes_height_width_colour() -> None:
    plan = tiny.recipe()
    deployed, _ = deploy(tiny.network(plan), plan.input, faces())
    assert not deployed.training
    stem = deployed.trunk.stem[0]
    assert isinstance(stem, nn.Conv2d) and stem.in_channels == 3
    assert [part.shape for part in deployed(faces(3))] == [(3, 8), (3, 8), (3, 16, 3, 3)]


def test_nothing_is_left_of_what_was_folded() -> None:
    plan = tiny.recipe(**{"network.attention": "channel", "network.projection": 12})
    deployed, _ = deploy(tiny.network(plan), plan.input, faces())
    kinds = {type(layer) for layer in deployed.modules()}
    assert not kinds & {nn.BatchNorm1d}
    assert {ConvolutionBlock, Scale, ChannelAttention} <= kinds
    assert not any(name.endswith("gamma") for name, _ in deployed.named_parameters())
    # Only the norms with a linear layer behind them lose their affine part; the stem's has none.
    parameters = dict(deployed.trunk.named_parameters())
    torch.testing.assert_close(parameters["stages.1.blocks.0.norm.weight"].data, torch.ones(16))
    torch.testing.assert_close(parameters["stages.1.blocks.0.norm.bias"].data, torch.zeros(16))
    assert not torch.equal(parameters["stem.1.weight"], torch.ones(8))


def test_a_stem_of_convolutions_has_no_norm_left_and_pads_with_the_mean() -> None:
    plan = tiny.recipe(**tiny.STEM)
    deployed, _ = deploy(tiny.network(plan), plan.input, faces())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in deployed.trunk.modules())
    assert deployed.mean is not None
    torch.testing.assert_close(deployed.mean.flatten(), torch.full((3,), 127.5))


@torch.no_grad()
def test_a_cut_inside_a_block_keeps_its_norm() -> None:
    plan = tiny.recipe(**{"network.cut": "stage2.block0.norm"})
    model = tiny.network(plan)
    deployed, _ = deploy(model, plan.input, faces())
    blocks = deployed.trunk.stages[1].blocks
    assert isinstance(blocks, nn.Sequential) and isinstance(blocks[-1], NormedDepthwise)
    expected = model.trunk_map(normalised(faces(), plan.input))
    torch.testing.assert_close(deployed(faces())[2], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_grey_network_sees_the_luma_of_a_colour_face() -> None:
    plan = tiny.recipe()
    deployed, _ = deploy(tiny.network(plan), plan.input, faces())
    swapped = deployed(faces().flip(3))[2]
    assert float((swapped - deployed(faces())[2]).abs().max()) > 1e-3
    level = torch.full((1, 32, 32, 3), 77, dtype=torch.uint8)
    grey = normalised(level, plan.input)
    torch.testing.assert_close(grey, torch.full((1, 1, 32, 32), (77 / 255 - 0.5) / 0.25))


def _wrong(model: ConvCut) -> None:
    model.get_parameter("detail.0.pointwise.weight").mul_(1.001)


def _dead(model: ConvCut) -> None:
    model.get_parameter("detail.0.pointwise.weight").fill_(torch.nan)


@pytest.mark.parametrize("rewrite", [_wrong, _dead])
def test_a_rewrite_that_changes_the_map_is_refused(
    monkeypatch: pytest.MonkeyPatch, rewrite: Any
) -> None:
    monkeypatch.setattr(module, "REWRITES", (*REWRITES[:2], rewrite, *REWRITES[2:]))
    plan = tiny.recipe()
    with pytest.raises(ConvcutError, match=rewrite.__name__):
        deploy(tiny.network(plan), plan.input, faces())


def test_weights_that_are_not_finite_are_refused() -> None:
    plan = tiny.recipe()
    model = tiny.network(plan)
    with torch.no_grad():
        model.get_parameter("trunk.stem.0.weight")[0, 0, 0, 0] = torch.nan
    with pytest.raises(ConvcutError, match="not finite"):
        deploy(model, plan.input, faces())
