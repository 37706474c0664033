"""Recipes: every mistake at once, and every recipe of the folder runs as its first line says."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from convcut_trt.errors import InputError
from export import recipe
from export.recipe import RECIPES
from tests.export import tiny

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def test_the_recipes_are_there() -> None:
    assert {"conv-cut", "conv-cut-edge", "conv-cut-mini", "synthetic"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_and_begins_with_its_command(name: str) -> None:
    plan = recipe.read(name)
    assert plan.name == name
    first = (RECIPES / f"{name}.toml").read_text().splitlines()[0]
    command = shlex.split(first.removeprefix("# "))
    assert command[:4] == ["convcut-trt", "train", name, "--data"]
    assert command[-2:] == ["-o", f"runs/{name}"]


@pytest.mark.parametrize("name", ["conv-cut", "conv-cut-edge"])
def test_the_large_recipes_freeze_a_pretrained_trunk(name: str) -> None:
    plan = recipe.read(name)
    assert plan.network.weights == "timm" and plan.training.frozen_trunk
    assert (plan.input.size, plan.network.projection) == (224, 32)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        'name = "Bad Name"\ncolour = 1\n[network]\ntrunk = "convnext_tiny"\ndetail = [[0, 1]]\n'
        'attention = "global"\n[input]\nsize = 48\nmean = [0.5, 0.5]\nstd = [0.2, 0]\n'
        "[training]\nepochs = 0\nlearning_rate = -1\n"
    )
    with pytest.raises(InputError) as caught:
        recipe.read(path)
    text = str(caught.value)
    assert "bad.toml" in text
    for place in (
        "name",
        "colour",
        "network.cut",
        "network.detail.0.0",
        "network.attention",
        "input.std.1",
        "training.epochs",
        "training.learning_rate",
    ):
        assert f"\n  {place}: " in text
    assert f"{text.count(chr(10))} mistake(s)" in text


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"input.mean": [0.5, 0.5], "input.std": [0.2, 0.2]}, "three for RGB"),
        ({"input.std": [0.2, 0.2, 0.2]}, "three for RGB"),
        ({"input.mean": [0.5] * 3, "input.std": [0.2] * 3}, "in_chans"),
        ({"network.stem": [[8, 2]], "network.weights": "timm"}, "leave out stem"),
        ({"training.batch": 32, "training.accumulate": 5}, "no 5 equal parts"),
        ({"training.frozen_trunk": True, "training.resolution": [[0, 16]]}, "one size"),
        ({"training.resolution": [[4, 16], [0, 24]]}, "in the order of its epochs"),
        ({"second_stage": {"epochs": 1, "seed": 3}}, "same seed"),
        ({"input.size": 8}, "input.size"),
        ({"input.mean": [math.nan]}, "input.mean.0: .* finite"),
        ({"training.learning_rate": math.inf}, "training.learning_rate: .* finite"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, Any], hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        tiny.recipe(**changes)


def test_the_paper_s_recipe_has_its_two_stages() -> None:
    first, second = recipe.read("conv-cut").stages
    assert (first.optimizer, first.learning_rate, first.clip_norm) == ("adam", 1e-3, 3.0)
    assert (first.class_weights, first.schedule, first.patience) == ("balanced", "plateau", 5)
    assert (second.optimizer, second.learning_rate, second.schedule) == (
        "adam",
        1e-5,
        "inverse-time",
    )
    assert (second.class_weights, second.dropout) == ("none", 0.2)


def test_values_are_changed_as_in_toml() -> None:
    plan = recipe.read("synthetic", ["training.epochs=3", 'network.attention="none"'])
    assert (plan.training.epochs, plan.network.attention) == (3, "none")
    assert recipe.read("synthetic").training.epochs != 3
    for mistake in (
        *("training.epochs", "training.epochs=", "name.x=1", "training.optimizer=adam"),
        *("training.epochs=" + "9" * 5000, "training.epochs=" + "[" * 2000, "a." * 2000 + "a=1"),
    ):
        with pytest.raises(InputError, match="--set"):
            recipe.read("synthetic", [mistake])
    with pytest.raises(InputError, match="training.epoch: Extra"):
        recipe.read("synthetic", ["training.epoch=3"])


def test_pictures_grow_at_the_epochs_named() -> None:
    training = tiny.recipe(**{"training.resolution": [[0, 16], [2, 24]]}).training
    assert [training.side(epoch, 32) for epoch in range(4)] == [16, 16, 24, 24]
    assert tiny.recipe().training.side(0, 32) == 32


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="conv-cut, conv-cut-edge, conv-cut-mini, synthetic"):
        recipe.read("conv-cut-maxi")


@pytest.mark.parametrize(
    "content",
    [
        *(b"name = ", b"\xff\xfe", b"= 1"),
        b"name = " + b"9" * 5000,  # Python reads no number as long as this
        *(b"name = " + start * 4000 + end * 4000 for start, end in ((b"[", b"]"), (b"{a=", b"}"))),
        b"name." + b"a." * 200 + b"a = 1",
        b"#" * 30_000,
    ],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(InputError, match="is not TOML"):
        recipe.read(tmp_path / "x.toml")


def test_a_name_that_no_file_can_have() -> None:
    for name in ("a" * 300, "a" * 300 + ".toml"):
        with pytest.raises(InputError, match="there is no recipe"):
            recipe.read(name)


def test_a_folder_of_the_same_name_does_not_hide_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert recipe.read("synthetic").name == "synthetic"
