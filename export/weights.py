"""ImageNet weights for a trunk: timm's download, or a local file in timm's or Meta's naming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv, load_state_dict
from timm.models.convnext import checkpoint_filter_fn
from torch import Tensor, nn

from convcut_trt.errors import InputError
from export.model import Trunk, create_backbone

TIMM = "timm"
_STEM = "stem.0.weight"
_HEAD = ("head.", "norm_pre.")


def load_trunk(
    trunk: Trunk, source: str, name: str, options: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Loads pretrained weights into a trunk; a stem of one channel gets the sum over the colours.

    Args:
        trunk: Where the weights go.
        source: ``timm`` for its download, or a .safetensors, .pth or .bin file (no pickled code is run).
            A file holds the whole ConvNeXt or exactly the trunk.
        name: timm's name of the ConvNeXt that the trunk was cut from.
        options: Its ``trunk_options``.

    Returns:
        Names of the tensors that were left out, all behind the cut.

    Raises:
        InputError: No such file, no weights in it, or those of another network.
    """
    whole = create_backbone(name, options)
    tensors = _download(name, options) if source == TIMM else _read(Path(source), whole)
    inputs = trunk.state_dict()[_STEM].shape[1]
    if _STEM in tensors and tensors[_STEM].ndim == 4 and tensors[_STEM].shape[1] == 3:
        tensors[_STEM] = adapt_input_conv(inputs, tensors[_STEM])
    _check(tensors, whole, trunk, f"{source} does not fit {name}", name)
    trunk.load_state_dict({key: tensors[key] for key in trunk.state_dict()})
    return tuple(sorted(tensors.keys() - trunk.state_dict().keys()))


def summary(source: str, dropped: tuple[str, ...]) -> str:
    """One line for the log: where the weights come from and which parts were left out."""
    parts = sorted(
        {".".join(key.split(".")[: 1 if key.startswith(_HEAD) else 2]) for key in dropped}
    )
    left_out = f"{len(dropped)} tensors behind the cut left out ({', '.join(parts)})"
    return f"trunk weights from {source}, {left_out if dropped else 'all of them used'}"


def _download(name: str, options: Mapping[str, Any] | None) -> dict[str, Tensor]:
    try:
        return dict(create_backbone(name, options, pretrained=True).state_dict())
    except InputError:
        raise
    except Exception as error:  # whatever the network and the hub's client raise
        raise InputError(
            f"timm could not download weights of {name} ({_line(error)}): download them elsewhere and name "
            "the file in network.weights"
        ) from error


def _read(path: Path, whole: nn.Module) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"there are no weights {str(path)!r}: network.weights is a .safetensors or .pth file, or '{TIMM}'"
        )
    try:
        values = load_state_dict(str(path), weights_only=True)
        renamed = checkpoint_filter_fn(values, whole)  # type: ignore[no-untyped-call]
        return {key: value for key, value in renamed.items() if isinstance(value, Tensor)}
    except Exception as error:  # a broken file can make its readers raise anything
        raise InputError(
            f"{path} holds no weights of this ConvNeXt ({_line(error)}): download the .safetensors file again"
        ) from error


def _check(
    tensors: Mapping[str, Tensor], whole: nn.Module, trunk: Trunk, problem: str, name: str
) -> None:
    shapes = {key: value.shape for key, value in whole.state_dict().items() if _body(key)}
    found = {key: value.shape for key, value in tensors.items() if _body(key)}
    fix = f"give weights of {name}, or change network.trunk to what they are of"
    needed = (
        trunk.state_dict().keys() if found.keys() == trunk.state_dict().keys() else shapes.keys()
    )
    if missing := sorted(needed - found.keys()):
        raise InputError(
            f"{problem}, {len(missing)} tensors such as {missing[0]} are missing: {fix}"
        )
    if strange := sorted(found.keys() - needed):
        raise InputError(
            f"{problem}, it has {len(strange)} more tensors such as {strange[0]}: {fix}"
        )
    if wrong := [key for key in found if found[key] != shapes[key]]:
        key = wrong[0]
        raise InputError(
            f"{problem}, {key} is {list(found[key])} where {list(shapes[key])} is needed: {fix}"
        )
    if broken := [key for key in found if not torch.isfinite(tensors[key]).all()]:
        raise InputError(f"{problem}, {broken[0]} has values that are not finite: {fix}")


def _body(key: str) -> bool:
    return not key.startswith(_HEAD)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
