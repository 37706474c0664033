"""Recipes: one TOML file = one trained model. Validation reports every mistake at once."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import tomllib
from pydantic import BaseModel, ConfigDict, Field

from convcut_trt.errors import InputError
from convcut_trt.fields import check_tree, read_text
from convcut_trt.spec import MAX_SIZE
from export.model import AttentionKind, ConvCut

RECIPES = Path(__file__).parent / "recipes"

_MOST_CHARACTERS = 20_000  # ours have 1,200
_MOST_SECTIONS = 8

_Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(_Section):
    """Arguments of ``ConvCut``; ``weights`` is a local file or ``timm`` for timm's download."""

    trunk: str
    trunk_options: Mapping[str, Any] = Field(default_factory=dict)
    stem: tuple[tuple[_Count, _Count], ...] = ()
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

    size: int = Field(ge=16, le=MAX_SIZE)
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @pydantic.model_validator(mode="after")
    def _one_value_a_channel(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError("mean and std need one value each for grey, three for RGB")
        return self


class Augmentation(_Section):
    """Half-widths of the uniform distributions; rotation in radians, shift as a share of the side.

    ``erase`` is the longest side of a grey rectangle, as a share of the picture's (Zhong et al., "Random
    Erasing Data Augmentation", 2020); half of the pictures get one.
    """

    flip: bool = True
    rotation: float = Field(default=0.0, ge=0)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    erase: float = Field(default=0.0, ge=0, lt=1)


class Training(_Section):
    """One stage of optimisation: optimizer, schedule, stopping, weight averaging, gradient clipping.

    - ``batch``: what one optimizer step sees, whatever ``accumulate`` (the parts it is computed in) and the number
      of processes.
    - ``schedule``: ``one-cycle`` (warm-up, then cosine to zero, per step); ``plateau`` (a tenth after three epochs
      without a better validation accuracy, not below 1e-6); ``inverse-time`` (divided by 1 + epoch / 80);
      ``constant``.
    - ``patience``: ends the stage after so many epochs without ``min_delta`` more; 0 never does.
    - ``class_weights``: ``balanced`` weighs a class's loss by n / (K n_k).
    - ``resolution``: (epoch, side in pixels): from that epoch on pictures of that size, from small to the input's
      own (progressive resizing).
    - ``views``: how many augmented views of each picture the features of a frozen trunk are computed for; epoch e
      sees view e % views.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=2)
    accumulate: int = Field(default=1, ge=1)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    schedule: Literal["one-cycle", "plateau", "inverse-time", "constant"] = "one-cycle"
    warmup: float = Field(default=0.1, gt=0, lt=1)
    patience: int = Field(default=0, ge=0)
    min_delta: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=3.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    targets: Literal["votes", "majority"] = "votes"
    class_weights: Literal["none", "balanced"] = "none"
    dropout: float | None = Field(default=None, ge=0, lt=1)
    resolution: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=16)]], ...] = ()
    frozen_trunk: bool = False
    views: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"a batch of {self.batch} has no {self.accumulate} equal parts")
        if self.resolution and self.frozen_trunk:
            raise ValueError("the features of a frozen trunk have one size: leave out resolution")
        if list(self.resolution) != sorted(self.resolution):
            raise ValueError("resolution must be in the order of its epochs")
        return self

    def side(self, epoch: int, own: int) -> int:
        """Side in pixels of an epoch's pictures; ``own`` where ``resolution`` says nothing."""
        return next((side for first, side in reversed(self.resolution) if first <= epoch), own)


class Recipe(_Section):
    """Everything that turns pictures into one trained model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    network: Network
    input: Input
    augmentation: Augmentation = Augmentation()
    training: Training
    second_stage: Training | None = None

    @property
    def stages(self) -> tuple[Training, ...]:
        """The stages in order; the second begins with the best weights of the first and a fresh optimizer."""
        return (self.training,) if self.second_stage is None else (self.training, self.second_stage)

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> Self:
        channels = self.network.trunk_options.get("in_chans", 3)
        if channels != len(self.input.mean):
            raise ValueError(
                f"the trunk takes {channels} channels and input.mean has {len(self.input.mean)} values: "
                "set in_chans in network.trunk_options"
            )
        if self.network.stem and self.network.weights:
            raise ValueError("weights are those of a trunk with its own stem: leave out stem")
        first, last = self.stages[0], self.stages[-1]
        for shared in ("seed", "precision", "targets", "frozen_trunk", "views"):
            if getattr(first, shared) != getattr(last, shared):
                raise ValueError(f"both stages need the same {shared}")
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
            stem=network.stem,
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


def read(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe by path, or by the name of one in ``export/recipes``.

    Args:
        name: Of the recipe.
        changes: ``section.key=VALUE`` each, VALUE as in TOML: ``training.epochs=5``.

    Raises:
        InputError: No such recipe, no TOML, or mistakes in it.
    """
    path = Path(name)
    if not path.suffix and not os.path.isfile(path):
        path = RECIPES / f"{name}.toml"
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        known = ", ".join(sorted(entry.stem for entry in RECIPES.glob("*.toml")))
        raise InputError(f"there is no recipe {str(name)!r}: give a .toml file or one of {known}")
    try:
        values = _toml(read_text(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    return parse(changed(values, changes), str(path))


def changed(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The values of a recipe with ``section.key=VALUE`` changes, VALUE as in TOML.

    Raises:
        InputError: A change that is not of this form.
    """
    result = copy.deepcopy(dict(values))
    for change in changes:
        place, _, text = change.partition("=")
        *sections, key = place.strip().split(".")
        try:
            if len(sections) > _MOST_SECTIONS:
                raise KeyError(place)
            value = _toml(f"value = {text}")["value"]
            target = result
            for section in sections:
                target = target.setdefault(section, {})
            target[key] = value
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"--set {change[:80]!r} is no change of a recipe: write training.epochs=5, or "
                'training.optimizer="adam" in quotes'
            ) from None
    return result


def _toml(text: str) -> dict[str, Any]:
    """Reads TOML.

    Raises:
        ValueError: It is none, or too large, or nested too deep.
    """
    # a.b.c = 1 nests as deep as it is long, and takes the square of that.
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it has more than {_MOST_CHARACTERS} characters")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    check_tree(values)
    return values
