"""The deploy form: exact rewrites of a trained Conv-cut into what every backend runs best.

Each rewrite changes the form of the computation and not its result; ``deploy`` measures every one against
the trained model. Where the rewrites come from and what they gain: fewer device operations in the built
plan (1x1 convolutions in place of linear layers with permutes: 40 against 49 operations for two stages).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convcut_trt.errors import ConvcutError
from export.model import ConvCut, ConvolutionStem, NormedDepthwise, SelfAttention
from export.recipe import Input

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, the weights of Pillow's convert("L")
MAXIMUM_ERROR = 1e-5


@dataclass(frozen=True)
class Rewrite:
    """One rewrite and the largest relative error of the map after it, against the trained model in FP32."""

    name: str
    error: float


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of [N, C, H, W], its affine part possibly folded away (ones and zeros)."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to the same shape."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvolutionBlock(nn.Module):
    """A ConvNeXt block with its MLP as 1x1 convolutions and without layer scale."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        mlp = cast(nn.Module, block.mlp)
        self.conv_dw = cast(nn.Module, block.conv_dw)
        self.norm = LayerNorm2d(cast(nn.LayerNorm, block.norm))
        self.fc1 = _as_convolution(cast(nn.Linear, mlp.fc1))
        self.fc2 = _as_convolution(cast(nn.Linear, mlp.fc2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to the same shape."""
        return x + cast(Tensor, self.fc2(F.gelu(self.fc1(self.norm(self.conv_dw(x))))))


class Scale(nn.Module):
    """x * weight + bias: a BatchNorm in evaluation that follows no linear layer directly."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        variance, mean = cast(Tensor, norm.running_var), cast(Tensor, norm.running_mean)
        weight = norm.weight / torch.sqrt(variance + norm.eps)
        self.weight = nn.Buffer(weight.detach())
        self.bias = nn.Buffer((norm.bias - mean * weight).detach())

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C] to the same shape."""
        return x * self.weight + self.bias


class ChannelAttention(nn.Module):
    """Channel attention as Mul and ReduceSum: 2 device operations for 6, no second C x C matrix."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.kind = attention.kind
        self.score_scale = attention.score_scale

    def forward(self, y: Tensor) -> Tensor:
        """Maps [N, C] to the same shape."""
        weights = torch.softmax((self.score_scale * y).unsqueeze(2) * y.unsqueeze(1), dim=2)
        return (weights * y.unsqueeze(1)).sum(dim=2)


class Deployed(nn.Module):
    """What is exported: uint8 RGB faces [N, S, S, 3] -> logits [N, K], probabilities [N, K], map [N, C, P, P]."""

    def __init__(self, model: ConvCut, mean: Tensor | None, temperature: float) -> None:
        super().__init__()
        self.trunk, self.detail, self.tail = model.trunk, model.detail, model.tail
        self.mean: Tensor | None
        self.register_buffer("mean", mean)
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cast first, then transpose: TensorRT-RTX refuses the other order."""
        x = images.float().permute(0, 3, 1, 2)
        x = self.detail(self.trunk(x if self.mean is None else x - self.mean))
        logits = self.tail(x)
        return logits, torch.softmax(logits / self.temperature, dim=1), x


def fold_layer_scale(model: ConvCut) -> None:
    """Layer scale into weight and bias of the linear layer in front of it."""
    for block in _blocks(model):
        gamma = cast("nn.Parameter | None", block.gamma)
        if gamma is not None:
            fc2 = cast(nn.Linear, cast(nn.Module, block.mlp).fc2)
            fc2.weight.mul_(gamma[:, None])
            cast(Tensor, fc2.bias).mul_(gamma)
            block.register_parameter("gamma", None)


def fold_norm_affine(model: ConvCut) -> None:
    """LayerNorm's scale and shift into the linear layer or the unpadded convolution behind it."""
    for block in _blocks(model):
        _fold_affine(
            cast(nn.LayerNorm, block.norm), cast(nn.Linear, cast(nn.Module, block.mlp).fc1)
        )
    for stage in model.trunk.stages:
        downsample = cast(nn.Module, stage.downsample)
        if isinstance(downsample, nn.Sequential):
            _fold_affine(cast(nn.LayerNorm, downsample[0]), cast(nn.Conv2d, downsample[1]))


def mlp_as_convolution(model: ConvCut) -> None:
    """Linear layers with permutes around them as 1x1 convolutions."""
    for stage in model.trunk.stages:
        blocks = cast(nn.Sequential, stage.blocks)
        for number, block in enumerate(blocks):
            if not isinstance(block, NormedDepthwise):
                blocks[number] = ConvolutionBlock(block)


def fold_stem_norm(model: ConvCut) -> None:
    """BatchNorm of a convolutional stem into the convolution in front of it."""
    stem = model.trunk.stem
    if isinstance(stem, ConvolutionStem):
        for place in range(0, len(stem), 3):
            stem[place] = fuse_conv_bn_eval(
                cast(nn.Conv2d, stem[place]), cast(nn.BatchNorm2d, stem[place + 1])
            )
            stem[place + 1] = nn.Identity()


def batchnorm_as_scale(model: ConvCut) -> None:
    """The projection's BatchNorm, which stands behind a ReLU, as one multiplication and one addition."""
    projection = model.tail.projection
    if isinstance(projection, nn.Sequential):
        projection[2] = Scale(cast(nn.BatchNorm1d, projection[2]))


def channel_attention_as_sum(model: ConvCut) -> None:
    """Channel attention as Mul and ReduceSum."""
    tail = model.tail
    if isinstance(tail.attention, SelfAttention) and tail.attention.kind == "channel":
        tail.attention = cast(SelfAttention, ChannelAttention(tail.attention))


REWRITES: tuple[Callable[[ConvCut], None], ...] = (
    fold_layer_scale,
    fold_norm_affine,
    mlp_as_convolution,
    fold_stem_norm,
    batchnorm_as_scale,
    channel_attention_as_sum,
)


def fold_input(model: ConvCut, input: Input) -> Tensor | None:
    """Division by 255, standard deviation and luma into the stem, and the mean where the stem is not padded.

    Afterwards the trunk takes RGB in 0 ... 255, also where it was trained on grey.

    Returns:
        What is still to be subtracted from RGB in 0 ... 255, [1, 3, 1, 1]: a padded stem pads with the mean.
    """
    stem = cast(nn.Conv2d, model.trunk.stem[0])
    mean, std = torch.tensor(input.mean).double(), torch.tensor(input.std).double()
    weight, bias = stem.weight.double() / std[None, :, None, None], cast(Tensor, stem.bias).double()
    padded = any(cast("tuple[int, int]", stem.padding))
    if not padded:
        bias = bias - (weight * mean[None, :, None, None]).sum((1, 2, 3))
    weight = weight / 255
    if weight.shape[1] == 1:
        weight = weight * torch.tensor(LUMA).double()[None, :, None, None]
    folded = nn.Conv2d(
        3,
        stem.out_channels,
        cast("tuple[int, int]", stem.kernel_size),
        cast("tuple[int, int]", stem.stride),
        cast("tuple[int, int]", stem.padding),
    )
    folded.weight.copy_(weight)
    cast(Tensor, folded.bias).copy_(bias)
    model.trunk.stem[0] = folded
    return (mean.float() * 255).expand(3).reshape(1, 3, 1, 1) if padded else None


@torch.no_grad()
def deploy(
    model: ConvCut, input: Input, images: Tensor, temperature: float = 1.0
) -> tuple[Deployed, list[Rewrite]]:
    """Rewrites a trained model into its deploy form.

    Args:
        model: The trained model; it is left as it is.
        input: What the recipe says of the input.
        images: uint8 RGB faces [N, S, S, 3] on which every rewrite is measured.
        temperature: Divides the logits in front of the softmax.

    Returns:
        The deploy form, in evaluation mode on the CPU, and the rewrites with their errors.

    Raises:
        ConvcutError: A rewrite changed the map by more than ``MAXIMUM_ERROR`` relative to its norm.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    reference = model.trunk_map(normalised(images, input))
    rewrites: list[Rewrite] = []
    for rewrite in REWRITES:
        rewrite(model)
        rewrites.append(
            Rewrite(rewrite.__name__, _error(model.trunk_map(normalised(images, input)), reference))
        )
    mean = fold_input(model, input)
    deployed = Deployed(model, mean, temperature).eval()
    rewrites.append(Rewrite("fold_input", _error(deployed(images)[2], reference)))
    # max() would pass over a NaN, and a NaN must fail.
    wrong = [rewrite for rewrite in rewrites if not rewrite.error <= MAXIMUM_ERROR]
    if wrong:
        raise ConvcutError(
            f"the rewrite {wrong[0].name} changes the map by {wrong[0].error:.1e}, more than {MAXIMUM_ERROR:.0e}: "
            "the trained weights are not finite or overflow FP32; train again with a lower learning rate"
        )
    return deployed, rewrites


def normalised(images: Tensor, input: Input) -> Tensor:
    """What the trained model expects of uint8 RGB faces [N, S, S, 3]: float32 [N, 1 or 3, S, S]."""
    x = images.permute(0, 3, 1, 2).double() / 255
    if len(input.mean) == 1:
        x = (x * torch.tensor(LUMA).double()[None, :, None, None]).sum(dim=1, keepdim=True)
    mean, std = torch.tensor(input.mean).double(), torch.tensor(input.std).double()
    return ((x - mean[None, :, None, None]) / std[None, :, None, None]).float()


def _blocks(model: ConvCut) -> list[nn.Module]:
    blocks = [block for stage in model.trunk.stages for block in cast(nn.Sequential, stage.blocks)]
    return [block for block in blocks if not isinstance(block, NormedDepthwise)]


def _as_convolution(linear: nn.Linear) -> nn.Conv2d:
    convolution = nn.Conv2d(linear.in_features, linear.out_features, 1)
    convolution.weight = nn.Parameter(linear.weight[:, :, None, None])
    convolution.bias = linear.bias
    return convolution


def _fold_affine(norm: nn.LayerNorm, layer: nn.Linear | nn.Conv2d) -> None:
    weight = layer.weight.double()
    shape = (1, -1) + (1,) * (weight.ndim - 2)
    shift = (weight * norm.bias.double().view(shape)).flatten(1).sum(dim=1)
    cast(Tensor, layer.bias).add_(shift.float())
    layer.weight.copy_(weight * norm.weight.double().view(shape))
    norm.weight.fill_(1.0)
    norm.bias.zero_()


def _error(values: Tensor, reference: Tensor) -> float:
    difference = (values - reference).flatten(1).norm(dim=1)
    return float((difference / reference.flatten(1).norm(dim=1)).max())
