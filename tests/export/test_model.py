"""The network: sizes and shapes of the paper, the cut, the attentions, the order of the tail."""

from __future__ import annotations

from typing import Any, cast, get_args

import pytest
import torch
from torch import nn

from convcut_trt.errors import InputError
from export import recipe
from export.model import ATTENTIONS, AttentionKind, ConvCut, Cut, NormedDepthwise, SeparableConv
from tests.export import tiny


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**changes: Any) -> ConvCut:
    return tiny.network(tiny.recipe(**changes))


def faces(number: int, size: int = 32) -> torch.Tensor:
    return torch.randn(number, 1, size, size, generator=torch.Generator().manual_seed(number))


@pytest.fixture(scope="module")
def paper() -> ConvCut:
    """The recipe conv-cut without its weights."""
    return recipe.read("conv-cut").build(8).eval()


def test_the_paper_network_has_the_parameters_of_the_released_code(paper: ConvCut) -> None:
    assert count(paper.trunk) == 51_640_448
    assert count(paper.detail) == 206_336


def test_the_paper_network_ends_inside_the_24th_block_of_stage_3(paper: ConvCut) -> None:
    assert len(paper.trunk.stages) == 3
    blocks = paper.trunk.stages[2].blocks
    assert isinstance(blocks, nn.Sequential) and len(blocks) == 24
    assert isinstance(blocks[23], NormedDepthwise)
    assert set(dict(blocks[23].named_children())) == {"conv_dw", "norm"}


def test_the_paper_network_has_the_maps_of_the_released_code(paper: ConvCut) -> None:
    assert (paper.trunk.channels, paper.trunk.reduction) == (512, 16)
    assert paper.detail.sizes == (14, 4, 2)
    assert [layer.pad for layer in paper.detail] == [(1, 1), (0, 0)]
    out = paper.detail(torch.randn(1, 512, 14, 14))
    assert out.shape == (1, 256, 2, 2)
    assert paper.tail(out).shape == (1, 8)


def test_the_small_recipes_are_small() -> None:
    edge = recipe.read("conv-cut-edge").build(8)
    assert 2.2e6 < count(edge) < 2.4e6
    assert edge.detail.sizes[-1] ** 2 >= 4
    assert count(recipe.read("conv-cut-mini").build(8)) <= 2_000_000


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("stage2", Cut(2)),
        ("stage3", Cut(3)),
        ("stage3.block5", Cut(3, 5)),
        ("stage3.block23.norm", Cut(3, 23, norm=True)),
    ],
)
def test_a_cut_is_read(text: str, cut: Cut) -> None:
    assert Cut.parse(text) == cut


@pytest.mark.parametrize(
    "text", ["", "stage0", "stage5", "stage3.norm", "stage3.block", "stage3.block1.mlp", "Stage3"]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no place in a ConvNeXt"):
        Cut.parse(text)


def test_a_cut_ends_the_trunk_where_it_says() -> None:
    options = tiny.OPTIONS | {"depths": [1, 3, 1, 1]}
    torch.manual_seed(0)
    whole = small(**{"network.trunk_options": options, "network.cut": "stage2"})
    blocks = whole.trunk.stages[1].blocks
    assert isinstance(blocks, nn.Sequential)
    for cut in ("stage2.block1", "stage2.block1.norm"):
        part = small(**{"network.trunk_options": options, "network.cut": cut})
        part.trunk.load_state_dict(whole.trunk.state_dict(), strict=False)
        x = whole.trunk.stages[0](whole.trunk.stem(faces(2)))
        x = blocks[0](whole.trunk.stages[1].downsample(x))  # type: ignore[operator]
        if cut.endswith("norm"):
            x = blocks[1].conv_dw(x).permute(0, 2, 3, 1)  # type: ignore[operator]
            x = blocks[1].norm(x).permute(0, 3, 1, 2)  # type: ignore[operator]
        else:
            x = blocks[1](x)
        torch.testing.assert_close(part.trunk(faces(2)), x)


def test_uneven_padding_is_that_of_same() -> None:
    # Side 4, kernel 3, stride 2: "same" pads one pixel, at the far end.
    layer = cast(SeparableConv, small(**{"network.detail": [[3, 2]]}).detail[0])
    assert layer.pad == (0, 1)
    x = torch.randn(1, 16, 4, 4)
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    weight = layer.depthwise.weight
    expected = nn.functional.conv2d(padded, weight, stride=2, groups=16)
    torch.testing.assert_close(layer(x), layer.pointwise(expected).relu())


@pytest.mark.parametrize("projection", [0, 12])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_attention_gives_logits(attention: AttentionKind, projection: int) -> None:
    model = small(**{"network.attention": attention, "network.projection": projection})
    assert model(faces(5)).shape == (5, 8)
    assert model.tail.features(model.trunk_map(faces(5))).shape == (5, projection or 16)


def test_the_kinds_are_one_list() -> None:
    assert get_args(AttentionKind) == ATTENTIONS


@pytest.mark.parametrize("attention", ["channel", "spatial", "none"])
def test_an_answer_does_not_depend_on_the_neighbours(attention: str) -> None:
    model = small(**{"network.attention": attention, "network.projection": 12})
    together = model(faces(6))
    alone = torch.cat([model(face) for face in faces(6).split(1)])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_batch_attention_is_the_identity_alone_and_mixes_faces_together() -> None:
    model = small(**{"network.attention": "batch"})
    without = small(**{"network.attention": "none"})
    without.load_state_dict(model.state_dict(), strict=False)
    together = model(faces(6))
    alone = torch.cat([model(face) for face in faces(6).split(1)])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(alone, without(faces(6)), rtol=1e-5, atol=1e-5)
    assert (together - alone).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_attention_is_algorithm_1(attention: str) -> None:
    model = small(**{"network.attention": attention})
    x = model.trunk_map(faces(1))[0].double()
    y = x.flatten(1)
    if attention == "channel":
        y = y.mean(dim=1)[:, None]
        expected = torch.softmax(y @ y.T / 16**0.5, dim=1) @ y
        expected = expected[:, 0]
    else:
        expected = (torch.softmax(y.T @ y / 16**0.5, dim=1) @ y.T).mean(dim=0)
    torch.testing.assert_close(model.tail.features(x[None].float())[0], expected.float())


def test_the_tail_is_pool_projection_attention_head() -> None:
    model = small(**{"network.attention": "channel", "network.projection": 12})
    tail = model.tail
    x = model.trunk_map(faces(3))
    assert isinstance(tail.projection, nn.Sequential) and tail.attention is not None
    linear, relu, norm = tail.projection
    assert [type(layer) for layer in (linear, relu, norm)] == [nn.Linear, nn.ReLU, nn.BatchNorm1d]
    attended = tail.attention(norm(relu(linear(x.mean(dim=(2, 3))))))
    torch.testing.assert_close(model(faces(3)), tail.head(attended))


def test_spatial_attention_comes_before_the_pool() -> None:
    model = small(**{"network.attention": "spatial", "network.projection": 12})
    tail = model.tail
    tokens = model.trunk_map(faces(3)).flatten(2).transpose(1, 2)
    assert tail.attention is not None
    expected = tail.head(tail.projection(tail.attention(tokens).mean(dim=1)))
    torch.testing.assert_close(model(faces(3)), expected)


def test_fewer_than_four_positions_are_refused_with_the_sizes() -> None:
    with pytest.raises(InputError, match="4x4 -> 2x2 -> 1x1"):
        small(**{"network.detail": [[4, 2], [2, 1]]})
    model = small(**{"network.detail": [[4, 2], [2, 1]], "network.ablation": True})
    assert model(faces(2)).shape == (2, 8)


def test_detail_extraction_can_be_left_out() -> None:
    model = small(**{"network.detail": []})
    assert model.detail.sizes == (4,)
    assert model(faces(2)).shape == (2, 8)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"trunk": "resnet18"}, "no ConvNeXt"),
        ({"trunk": "convnext_enormous"}, "no ConvNeXt"),
        ({"trunk": "convnext_atto"}, "conv_mlp = false"),
        ({"trunk": "convnextv2_tiny"}, "response norm"),
        ({"trunk_options": {"colour": "blue"}}, "colour"),
        ({"trunk_options": {"dims": [8]}}, "timm cannot make"),
        ({"cut": "stage2.block7"}, "blocks 0 ... 2"),
        ({"attention": "global"}, "choose one of channel"),
        ({"detail": [(0, 1)]}, "1 or more"),
        ({"detail": [(2, 0)]}, "1 or more"),
        ({"detail": [(9, 1), (9, 1), (9, 1)], "ablation": True}, "positions"),
        ({"image_size": 30}, "does not divide"),
    ],
)
def test_what_cannot_be_built_is_named(changes: dict[str, Any], hint: str) -> None:
    settings: dict[str, Any] = {"trunk": "convnext_tiny", "cut": "stage2", "image_size": 64}
    with pytest.raises(InputError, match=hint):
        ConvCut(**(settings | changes))


def test_an_atto_trunk_fits_with_a_linear_mlp() -> None:
    model = ConvCut(
        "convnext_atto", "stage2", ((2, 2),), image_size=64, trunk_options={"conv_mlp": False}
    ).eval()
    assert model(faces(1, 64).expand(1, 3, 64, 64)).shape == (1, 8)
