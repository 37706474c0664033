"""Conv-cut: a ConvNeXt trunk cut early, detail extraction, self-attention, head.

Network of "A Visual Self-attention Mechanism Facial Expression Recognition Network beyond ConvNeXt"
(Nan, Liu, Qian, Song), Algorithm 1, with the order of layers of its released code. The model meets the
rest of the project at one seam: ``ConvCut.trunk_map`` (faces -> map) and ``ConvCut.tail`` (map -> logits).
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convcut_trt.errors import InputError

AttentionKind = Literal["channel", "spatial", "batch", "none"]
ATTENTIONS: tuple[AttentionKind, ...] = ("channel", "spatial", "batch", "none")
MINIMUM_POSITIONS = 4

_CUT = re.compile(r"stage(?P<stage>[1-4])(?:\.block(?P<block>\d+)(?:\.(?P<part>norm))?)?")


@dataclass(frozen=True)
class Cut:
    """Where a ConvNeXt trunk ends. ``stage`` counts from 1, ``block`` from 0; ``norm`` ends inside the block."""

    stage: int
    block: int | None = None
    norm: bool = False

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Reads ``stage2``, ``stage3.block5`` (after that block) or ``stage3.block23.norm``.

        Raises:
            InputError: The text is no place in a ConvNeXt.
        """
        match = _CUT.fullmatch(text)
        if match is None:
            raise InputError(
                f"cut {text!r} is no place in a ConvNeXt: write stage1 ... stage4, "
                "stage3.block5 or stage3.block23.norm"
            )
        block = match["block"]
        return cls(
            int(match["stage"]), None if block is None else int(block), match["part"] == "norm"
        )


class NormedDepthwise(nn.Module):
    """The first half of a ConvNeXt block: depthwise convolution, LayerNorm; no MLP, layer scale, residual."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv_dw = cast(nn.Module, block.conv_dw)
        self.norm = cast(nn.Module, block.norm)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to the same shape."""
        x = self.conv_dw(x).permute(0, 2, 3, 1)
        return cast(Tensor, self.norm(x)).permute(0, 3, 1, 2)


class ConvolutionStem(nn.Sequential):
    """Padded 3x3 convolutions with BatchNorm and ReLU from a (channels, stride) list, in place of the patches.

    A small network that learns from scratch learns sooner behind one (Xiao et al., "Early Convolutions Help
    Transformers See Better", 2021).
    """

    def __init__(self, inputs: int, layers: Sequence[tuple[int, int]]) -> None:
        modules: list[nn.Module] = []
        for channels, stride in layers:
            modules += [
                nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            inputs = channels
        super().__init__(*modules)
        self.reduction = math.prod(stride for _, stride in layers)


class Trunk(nn.Module):
    """A timm ConvNeXt up to a cut. Parameter names stay timm's, so that its weight files load as they are."""

    def __init__(self, backbone: nn.Module, cut: Cut, stem: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__()
        _check_blocks(backbone)
        stages = list(cast(nn.Sequential, backbone.stages))[: cut.stage]
        last = stages[-1]
        if cut.block is not None:
            blocks = list(cast(nn.Sequential, last.blocks))
            if cut.block >= len(blocks):
                raise InputError(
                    f"stage{cut.stage} has blocks 0 ... {len(blocks) - 1}, the cut asks for block{cut.block}"
                )
            blocks = blocks[: cut.block + 1]
            if cut.norm:
                blocks[-1] = NormedDepthwise(blocks[-1])
            last.blocks = nn.Sequential(*blocks)
        self.stem = cast(nn.Sequential, backbone.stem)
        patch = cast(nn.Conv2d, self.stem[0])
        self.input_channels = patch.in_channels
        self.stages = nn.Sequential(*stages)
        info = cast(Sequence[Mapping[str, int]], backbone.feature_info)[cut.stage - 1]
        self.channels, self.reduction = info["num_chs"], info["reduction"]
        if stem:
            if stem[-1][0] != patch.out_channels:
                raise InputError(
                    f"the stem ends with {stem[-1][0]} channels and the trunk begins with {patch.out_channels}: "
                    "make the last of stem the first of dims"
                )
            self.stem = ConvolutionStem(self.input_channels, stem)
            self.reduction = self.reduction // patch.stride[0] * self.stem.reduction

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalised faces [N, 1 or 3, H, W] to features [N, channels, H / reduction, W / reduction]."""
        # Linear blocks are fastest in channels_last, a format that a one-channel input cannot carry.
        x = self.stem(x).contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.stages(x))


class SeparableConv(nn.Module):
    """Depthwise convolution without bias, 1x1 convolution with bias, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, size: int, same: bool
    ) -> None:
        super().__init__()
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0) if same else 0
        self.pad = (total // 2, total - total // 2)
        self.size = (size + total - kernel) // stride + 1
        padding = self.pad[0] if self.pad[0] == self.pad[1] else 0
        self.depthwise = nn.Conv2d(
            inputs, inputs, kernel, stride, padding, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, inputs, size_in, size_in] to [N, outputs, size, size]."""
        if self.pad[0] != self.pad[1]:
            x = F.pad(x, (*self.pad, *self.pad))
        return F.relu(self.pointwise(self.depthwise(x)))


class DetailExtraction(nn.Sequential):
    """Separable convolutions from a (kernel, stride) list: the first padded "same", the others "valid"."""

    def __init__(
        self, channels: int, size: int, layers: Sequence[tuple[int, int]], width: int
    ) -> None:
        modules: list[nn.Module] = []
        self_sizes = [size]
        for number, (kernel, stride) in enumerate(layers):
            layer = SeparableConv(channels, width, kernel, stride, self_sizes[-1], same=number == 0)
            modules.append(layer)
            self_sizes.append(layer.size)
            channels = width
        super().__init__(*modules)
        self.channels, self.sizes = channels, tuple(self_sizes)


class SelfAttention(nn.Module):
    """softmax(s A A^T) A with a learned score scale s, over channels, positions or samples.

    Args:
        kind: ``channel``: a sample's C pooled values attend to each other (Algorithm 1 read for one sample);
            ``spatial``: the positions of one map; ``batch``: the samples of a batch, what the released code
            computes: a face's answer then depends on its neighbours, and alone it is the identity.
        dimension: Vector length d; the score scale starts at 1 / sqrt(d), as in Algorithm 1.
    """

    def __init__(self, kind: AttentionKind, dimension: int) -> None:
        super().__init__()
        self.kind = kind
        self.score_scale = nn.Parameter(torch.tensor(dimension**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C] (channel, batch) or [N, P, C] (spatial) to the same shape."""
        if self.kind == "channel":
            x = x.unsqueeze(-1)
        weights = torch.softmax(self.score_scale * (x @ x.transpose(-1, -2)), dim=-1)
        x = weights @ x
        return x.squeeze(-1) if self.kind == "channel" else x


class Tail(nn.Module):
    """From the map to logits: pool -> [projection: linear, ReLU, BatchNorm] -> attention -> head.

    ``spatial`` attends over the positions first, then pools, projects and classifies.
    """

    def __init__(
        self,
        channels: int,
        positions: int,
        projection: int,
        attention: AttentionKind,
        classes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        width = projection or channels
        self.projection = (
            nn.Sequential(nn.Linear(channels, projection), nn.ReLU(), nn.BatchNorm1d(projection))
            if projection
            else nn.Identity()
        )
        self.attention: SelfAttention | None = None
        if attention != "none":
            self.attention = SelfAttention(attention, channels if attention == "spatial" else width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to what the head sees, [N, projection or C]."""
        attention = self.attention
        if attention is not None and attention.kind == "spatial":
            # Channels last, as the trunk leaves them: of any other order the CPU makes slow copies on its way back.
            positions = int(x.shape[2]) * int(x.shape[3])
            attended = attention(x.permute(0, 2, 3, 1).reshape(-1, positions, int(x.shape[1])))
            return cast(Tensor, self.projection(attended.mean(dim=1)))
        pooled = self.projection(x.mean(dim=(2, 3)))
        return cast(Tensor, pooled if attention is None else attention(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to logits [N, classes]."""
        return cast(Tensor, self.head(self.dropout(self.features(x))))


def create_backbone(
    name: str, options: Mapping[str, Any] | None = None, *, pretrained: bool = False
) -> nn.Module:
    """A whole timm ConvNeXt, head included.

    Args:
        name: Of the model, with or without the tag of its weights (``convnext_base.fb_in1k``).
        options: Further arguments for ``timm.create_model``.
        pretrained: Whether timm downloads the weights.

    Raises:
        InputError: timm has no such ConvNeXt, or it does not take these options.
    """
    if not name.startswith("convnext") or not timm.is_model(name):
        raise InputError(f"trunk {name!r} is no ConvNeXt of timm; convnext_base is the paper's")
    try:
        return timm.create_model(name, pretrained=pretrained, **(options or {}))
    except (TypeError, ValueError, IndexError, AssertionError) as error:
        raise InputError(f"timm cannot make {name} with {dict(options or {})}: {error}") from None


def _check_blocks(backbone: nn.Module) -> None:
    """The cut, the deploy form and its tests know one kind of block: refuse the others by name."""
    stem = cast(nn.Sequential, backbone.stem)
    mlps = [cast(nn.Module, module.mlp) for module in backbone.modules() if hasattr(module, "mlp")]
    if (
        len(stem) != 2
        or not all(isinstance(mlp.fc1, nn.Linear) for mlp in mlps)
        or any(isinstance(getattr(mlp, "grn", None), nn.Module) for mlp in mlps)
    ):
        raise InputError(
            "this ConvNeXt has an overlapping stem, a convolutional MLP or a response norm, which the deploy "
            "form has not: use convnext_tiny ... convnext_large, or conv_mlp = false in trunk_options"
        )


class ConvCut(nn.Module):
    """The Conv-cut network.

    Args:
        trunk: Name of a timm ConvNeXt (``convnext_base``).
        cut: Where the trunk ends, see ``Cut.parse``.
        detail: (kernel, stride) of each separable convolution; () leaves detail extraction out.
        width: Channels of detail extraction.
        projection: Units of the dense layer behind the pool (the released code has 32); 0 for none.
        attention: One of ``ATTENTIONS``.
        classes: Number of expressions.
        image_size: Side of the square input in pixels; fixes padding and the number of positions.
        trunk_options: Further arguments for ``timm.create_model`` (dims, depths, patch_size, in_chans ...).
        stem: (channels, stride) of each convolution of a ``ConvolutionStem``; () keeps the trunk's patches.
        dropout: Spatial dropout behind detail extraction, and dropout in front of the head.
        ablation: Allows fewer than four positions in front of the pool, as some rows of the paper's tables do.

    Raises:
        InputError: A place, kind or size that cannot be built; the text names what would work.
    """

    def __init__(
        self,
        trunk: str = "convnext_base",
        cut: str = "stage3.block23.norm",
        detail: Sequence[tuple[int, int]] = ((4, 4), (2, 2)),
        width: int = 256,
        projection: int = 0,
        attention: AttentionKind = "channel",
        classes: int = 8,
        *,
        image_size: int = 224,
        trunk_options: Mapping[str, Any] | None = None,
        stem: Sequence[tuple[int, int]] = (),
        dropout: float = 0.1,
        ablation: bool = False,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise InputError(
                f"attention {attention!r} is not known: choose one of {', '.join(ATTENTIONS)}"
            )
        if any(kernel < 1 or stride < 1 for kernel, stride in detail):
            raise InputError(f"detail {list(detail)} needs kernels and strides of 1 or more")
        self.trunk = Trunk(create_backbone(trunk, trunk_options), Cut.parse(cut), stem)
        if image_size % self.trunk.reduction:
            raise InputError(
                f"image size {image_size} does not divide by the trunk's reduction {self.trunk.reduction}"
            )
        self.detail = DetailExtraction(
            self.trunk.channels, image_size // self.trunk.reduction, detail, width
        )
        positions = self.detail.sizes[-1] ** 2
        if min(self.detail.sizes) < 1 or (positions < MINIMUM_POSITIONS and not ablation):
            sizes = " -> ".join(f"{side}x{side}" for side in self.detail.sizes)
            raise InputError(
                f"detail extraction {list(detail)} leaves {sizes}: at least {MINIMUM_POSITIONS} positions must "
                "reach the pool; use smaller strides, an earlier cut or a larger image"
            )
        self.spatial_dropout = nn.Dropout2d(dropout)
        self.tail = Tail(self.detail.channels, positions, projection, attention, classes, dropout)
        self.image_size = image_size
        self.input_channels = self.trunk.input_channels

    def trunk_map(self, x: Tensor) -> Tensor:
        """Maps normalised faces [N, 1 or 3, S, S] to the map [N, C, P, P] in front of the tail."""
        return cast(Tensor, self.detail(self.trunk(x)))

    def behind_trunk(self) -> nn.Sequential:
        """What stands behind the trunk, from its features to logits; modules and their names are the network's."""
        parts = ("detail", "spatial_dropout", "tail")
        return nn.Sequential(OrderedDict((name, self.get_submodule(name)) for name in parts))

    def faces_at_once(self, most: int) -> int:
        """How many faces to ask for at once: ``most``, or 1 where attention across the batch would mix them."""
        attention = self.tail.attention
        return 1 if attention is not None and attention.kind == "batch" else most

    def from_features(self, x: Tensor) -> Tensor:
        """Maps what the trunk gives, [N, C, H, W], to logits [N, classes]."""
        return cast(Tensor, self.behind_trunk()(x))

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalised faces [N, 1 or 3, S, S] to logits [N, classes]."""
        return self.from_features(self.trunk(x))
