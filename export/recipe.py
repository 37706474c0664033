"""Recipes: one TOML file = one trained model. Validation reports every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import tomllib
from pydantic import BaseModel, ConfigDict, Field

from convcut_trt.errors import InputError
from export.model import AttentionKind, ConvCut

RECIPES = Path(__file__).parent / "recipes"

_Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Section):
    """Arguments of ``ConvCut``; ``weights`` is a local file or ``timm`` for timm's download."""

    trunk: str
    trunk_options: Mapping[str, Any] = Field(default_factory=dict)
    cut: str
    detail: tuple[tuple[_Count, _Count], ...]
    width: int = Field(default=256, ge=1)
    projection: int = Field(default=0, ge=0)
    attention: AttentionKind = "channel"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    weights: str = ""
    ablation: bool = False


class Input(_Section):
    """The square input: side in pixels, and mean and standard deviation per channel of pixels in 0 ... 1."""

    size: int = Field(ge=16, le=512)
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @pydantic.model_validator(mode="after")
    def _one_value_a_channel(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError("mean and std need one value each for grey, three for RGB")
        return self


class Augmentation(_Section):
    """Half-widths of the uniform distributions; rotation in radians, shift as a share of the side.

    From epoch ``halve_from`` on (counted from 0) every width is half: a short training of a small
    network ends underfitted under wide ones.
    """

    flip: bool = True
    rotation: float = Field(default=0.0, ge=0)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    halve_from: int | None = Field(default=None, ge=0)

    def at(self, epoch: int) -> Augmentation:
        """The widths that hold in an epoch."""
        if self.halve_from is None or epoch < self.halve_from:
            return self
        widths = ("rotation", "scale", "shift", "brightness", "contrast")
        return self.model_copy(update={name: getattr(self, name) / 2 for name in widths})


class Training(_Section):
    """The optimisation: AdamW under a one-cycle schedule, weight averaging, gradient clipping."""

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: float = Field(default=0.1, gt=0, lt=1)
    clip_norm: float = Field(default=3.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    targets: Literal["votes", "majority"] = "votes"
    frozen_trunk: bool = False
    seed: int = 0


class Recipe(_Section):
    """Everything that turns pictures into one trained model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    network: Network
    input: Input
    augmentation: Augmentation = Augmentation()
    training: Training

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> Self:
        channels = self.network.trunk_options.get("in_chans", 3)
        if channels != len(self.input.mean):
            raise ValueError(
                f"the trunk takes {channels} channels and input.mean has {len(self.input.mean)} values: "
                "set in_chans in network.trunk_options"
            )
        if self.training.frozen_trunk and not self.network.weights:
            raise ValueError("frozen_trunk needs network.weights: a random trunk sees nothing")
        return self

    def build(self, classes: int) -> ConvCut:
        """The untrained network for ``classes`` expressions."""
        network = self.network
        return ConvCut(
            network.trunk,
            network.cut,
            network.detail,
            network.width,
            network.projection,
            network.attention,
            classes,
            image_size=self.input.size,
            trunk_options=network.trunk_options,
            dropout=network.dropout,
            ablation=network.ablation,
        )


def parse(values: Mapping[str, Any], source: str) -> Recipe:
    """Validates a recipe whole.

    Raises:
        InputError: Lists every mistake, one a line, with the place it is in.
    """
    try:
        return Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in mistake['loc']) or 'recipe'}: {mistake['msg']}"
            for mistake in error.errors()
        ]
        raise InputError(f"{source} has {len(lines)} mistake(s):\n" + "\n".join(lines)) from None


def read(name: str | Path) -> Recipe:
    """Reads a recipe by path, or by the name of one in ``export/recipes``.

    Raises:
        InputError: No such recipe, no TOML, or mistakes in it.
    """
    path = Path(name)
    if not path.suffix and not path.is_file():
        path = RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in RECIPES.glob("*.toml")))
        raise InputError(f"there is no recipe {str(name)!r}: give a .toml file or one of {known}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    return parse(values, str(path))
