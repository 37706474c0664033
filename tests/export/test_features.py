"""Cached features: equal to computing them again, found by content only, whole or not there."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convcut_trt.datasets import Dataset
from convcut_trt.errors import ConvcutError, InputError
from export import features as module
from export.data import Split, augment, draws, load_split, normalise
from export.features import Features, cached
from export.model import ConvCut
from export.recipe import Recipe
from tests.export import tiny

PLAN = tiny.recipe(**{"augmentation.erase": 0.3})
EVERY = torch.arange(160)


@pytest.fixture(scope="module")
def split(faces: Dataset) -> Split:
    rows = faces.subset("train")
    return load_split(faces, rows, faces.targets()[rows], PLAN.input)


@pytest.fixture
def model() -> ConvCut:
    return tiny.network(PLAN)


@pytest.fixture
def calls(model: ConvCut) -> Iterator[list[Tensor]]:
    """What the trunk was asked for, from now on."""
    seen: list[Tensor] = []
    handle = model.trunk.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    yield seen
    handle.remove()


def of(model: ConvCut, split: Split, folder: Path, plan: Recipe = PLAN, **more: Any) -> Features:
    options = {"views": 2, "folder": folder, **more}
    return cached(model.trunk, split, plan.input, plan.augmentation, **options)


def test_a_view_is_what_its_epoch_would_see(model: ConvCut, split: Split, tmp_path: Path) -> None:
    features = of(model, split, tmp_path, resolution=24)
    chosen = torch.tensor([3, 159, 40])
    for epoch, view in ((0, 0), (1, 1), (5, 1)):
        images = normalise(split.images[chosen], PLAN.input)
        rows = torch.from_numpy(draws(0, view, len(split)))[chosen]
        with torch.no_grad():
            exact = model.trunk(augment(images, rows, PLAN.augmentation, 24))
        given = features.batch(epoch, chosen)
        assert given.shape == exact.shape == (3, 16, 3, 3) and given.dtype == torch.float32
        assert given.is_contiguous(memory_format=torch.channels_last)
        # float16 keeps eleven bits; below 6e-5 it counts in steps of 6e-8.
        torch.testing.assert_close(given, exact, rtol=2**-11, atol=2e-6)
        stored = torch.from_numpy(np.array(features.maps[view][chosen.numpy()]))
        torch.testing.assert_close(stored.float(), given, rtol=0, atol=0)


def test_the_answers_hardly_change(model: ConvCut, split: Split, tmp_path: Path) -> None:
    features = cached(model.trunk, split, PLAN.input, folder=tmp_path)
    with torch.no_grad():
        exact = model(normalise(split.images, PLAN.input))
        given = model.from_features(features.batch(0, EVERY))
    # The tiny network's weights are four times what training begins with; its answers still hold three digits.
    assert (given - exact).square().mean().sqrt() < 1e-3 * exact.std()


def test_the_second_call_computes_nothing(
    model: ConvCut, split: Split, tmp_path: Path, calls: list[Tensor]
) -> None:
    first = of(model, split, tmp_path)
    assert first.computed == 2 and first.seconds > 0 and calls
    calls.clear()
    model.train()
    second = of(model, split, tmp_path)
    assert not calls and second.computed == 0 and second.seconds == first.seconds
    torch.testing.assert_close(second.batch(1, EVERY), first.batch(1, EVERY), rtol=0, atol=0)


def test_more_views_cost_only_those(
    model: ConvCut, split: Split, tmp_path: Path, calls: list[Tensor]
) -> None:
    of(model, split, tmp_path)
    calls.clear()
    assert of(model, split, tmp_path, views=3).computed == 1
    assert sum(map(len, calls)) == 160 + 1  # and one picture for the size of its map
    assert of(model, split, tmp_path, views=1).computed == 0


def test_the_maps_stay_on_the_disk(model: ConvCut, split: Split, tmp_path: Path) -> None:
    features = of(model, split, tmp_path)
    for view in features.maps:
        assert isinstance(view, np.memmap) and view.shape == (160, 16, 4, 4)
        assert not view.flags.writeable
    files = sorted(tmp_path.rglob("*.float16"))
    assert [file.stat().st_size for file in files] == [2 * 160 * 16 * 4 * 4] * 2


def test_a_trunk_in_training_gives_the_features_it_is_deployed_with(
    split: Split, tmp_path: Path
) -> None:
    plan = tiny.recipe(**{"network.trunk_options": tiny.OPTIONS | {"drop_path_rate": 0.5}})
    model = tiny.network(plan).train()
    features = of(model, split, tmp_path, plan)
    assert model.trunk.training
    model.eval()
    rows = torch.from_numpy(draws(0, 0, len(split)))
    images = augment(normalise(split.images, plan.input), rows, plan.augmentation, 32)
    with torch.no_grad():
        exact = model.trunk(images)
    torch.testing.assert_close(features.batch(0, EVERY), exact, rtol=1e-3, atol=1e-5)


def other_pixel(model: ConvCut, split: Split) -> dict[str, Any]:
    images = split.images.clone()
    images[7, 0, 3, 3] ^= 1
    return {"split": Split(images, split.targets)}


def other_weight(model: ConvCut, split: Split) -> dict[str, Any]:
    with torch.no_grad():
        next(model.trunk.parameters()).view(-1)[0].add_(1e-6)
    return {}


def other_layers(model: ConvCut, split: Split) -> dict[str, Any]:
    norms = [m for m in model.trunk.modules() if isinstance(m, torch.nn.LayerNorm)]
    norms[0].eps = 1e-3
    return {}


CHANGES = {
    "pixels": other_pixel,
    "fewer pictures": lambda _, split: {"split": Split(split.images[:-1], split.targets[:-1])},
    "weights": other_weight,
    "layers": other_layers,
    "mean": lambda *_: {"plan": tiny.recipe(**{"input.mean": [0.6], "augmentation.erase": 0.3})},
    "augmentation": lambda *_: {"plan": tiny.recipe(**{"augmentation.erase": 0.2})},
    "resolution": lambda *_: {"resolution": 24},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_is_another_cache(
    model: ConvCut, split: Split, tmp_path: Path, change: str
) -> None:
    of(model, split, tmp_path)
    changed = {"model": model, "split": split, "folder": tmp_path, **CHANGES[change](model, split)}
    assert of(**changed).computed == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_targets_are_no_part_of_it(model: ConvCut, split: Split, tmp_path: Path) -> None:
    of(model, split, tmp_path)
    other = dataclasses.replace(split, targets=split.targets.flip(0))
    assert of(model, other, tmp_path).computed == 0


def test_an_interrupted_computation_goes_on_with_the_next_view(
    model: ConvCut, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 64)
    left = 5  # one for the size of a map, three for the first view, one of the second

    def interrupt(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    handle = model.trunk.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        of(model, split, tmp_path)
    handle.remove()
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"view-000.float16", "view-000.json"}
    again = of(model, split, tmp_path)
    assert again.computed == 1
    elsewhere = of(model, split, tmp_path / "elsewhere")
    torch.testing.assert_close(again.batch(0, EVERY), elsewhere.batch(0, EVERY), rtol=0, atol=0)
    torch.testing.assert_close(again.batch(1, EVERY), elsewhere.batch(1, EVERY), rtol=0, atol=0)


def test_what_a_killed_process_left_is_not_read_and_goes_in_time(
    model: ConvCut, split: Split, tmp_path: Path
) -> None:
    of(model, split, tmp_path)
    place = next(tmp_path.iterdir())
    old, young = place / ".view-002.float16.1", place / ".view-002.float16.2"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    (place / "view-001.json").unlink()  # killed between the two renames
    assert of(model, split, tmp_path, views=3).computed == 2
    assert not old.exists() and young.exists()


def truncate(place: Path) -> None:
    os.truncate(place / "view-001.float16", 1000)


def lose(place: Path) -> None:
    (place / "view-001.float16").unlink()


def garble(place: Path) -> None:
    (place / "view-001.json").write_bytes(b"\xff{")


def swap(place: Path) -> None:
    """The note of another cache: sizes fit, content does not."""
    path = place / "view-001.json"
    path.write_text(path.read_text().replace('"pixels": "', '"pixels": "0'))


@pytest.mark.parametrize("damage", [truncate, lose, garble, swap])
def test_a_damaged_view_is_computed_again(
    model: ConvCut, split: Split, tmp_path: Path, damage: Any
) -> None:
    before = of(model, split, tmp_path).batch(1, EVERY).clone()
    damage(next(tmp_path.iterdir()))
    again = of(model, split, tmp_path)
    assert again.computed == 1
    torch.testing.assert_close(again.batch(1, EVERY), before, rtol=0, atol=0)


def test_too_small_a_disk_is_refused_before_anything_is_computed(
    model: ConvCut,
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: list[Tensor],
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10**12, 10**12 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="163,840 bytes.* has 1,000: .*CONVCUT_HOME"):
        of(model, split, tmp_path)
    assert sum(map(len, calls)) == 1


class Full:
    """A file on a disk with no room for more than ``room`` bytes."""

    def __init__(self, file: IO[Any], room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(content)


def test_a_disk_that_fills_up_is_one_sentence(
    model: ConvCut, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 64)
    real = Path.open

    def full(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = real(path, mode, *more, **options)
        return Full(file, 40_000) if ".float16." in path.name else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match="No space left.*CONVCUT_HOME") as caught:
        of(model, split, tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert of(model, split, tmp_path).computed == 2


def test_a_folder_that_cannot_be_made_is_one_sentence(
    model: ConvCut, split: Split, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="CONVCUT_HOME"):
        of(model, split, tmp_path / "file")


@pytest.mark.parametrize("value", [torch.nan, 70_000.0])
def test_maps_that_float16_cannot_hold_are_refused(
    model: ConvCut, split: Split, tmp_path: Path, value: float
) -> None:
    model.trunk.register_forward_hook(lambda *given: given[2] * 0 + value)
    with pytest.raises(ConvcutError, match="float16"):
        of(model, split, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_cache_lies_where_convcut_home_says(
    model: ConvCut, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVCUT_HOME", str(tmp_path / "home"))
    cached(model.trunk, split, PLAN.input)
    assert len(list((tmp_path / "home" / "features").iterdir())) == 1
    # Engines may go there later, and only the user may put one there.
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_views_need_an_augmentation(model: ConvCut, split: Split, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all the same"):
        cached(model.trunk, split, PLAN.input, views=2, folder=tmp_path)
