"""Batches: augmentation is keyed by (seed, epoch, image), and does what its recipe says and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convcut_trt.datasets import SPLITS, Dataset
from convcut_trt.errors import InputError
from export.data import Split, augment, augmented, draws, load_split, normalise, open_faces, order
from export.recipe import Augmentation, Input
from export.synthetic import CLASSES

STILL = Augmentation(flip=False)
GREY = Input(size=32, mean=(0.5,), std=(0.25,))
COLOUR = Input(size=32, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))


def pictures(number: int = 6) -> torch.Tensor:
    return torch.randn(number, 3, 17, 17, generator=torch.Generator().manual_seed(0))


def rows(number: int = 6) -> torch.Tensor:
    return torch.from_numpy(draws(0, 0, number))


def test_draws_are_keyed_by_seed_epoch_and_image() -> None:
    np.testing.assert_array_equal(draws(1, 2, 50), draws(1, 2, 50))
    np.testing.assert_array_equal(draws(1, 2, 50)[:20], draws(1, 2, 20))
    for other in (draws(1, 3, 50), draws(2, 2, 50)):
        assert np.abs(draws(1, 2, 50) - other).max() > 0.5
    assert draws(1, 2, 5000).min() < -0.99 and draws(1, 2, 5000).max() > 0.99


def test_an_epoch_visits_every_image_once_in_its_own_order() -> None:
    np.testing.assert_array_equal(np.sort(order(1, 2, 99)), np.arange(99))
    np.testing.assert_array_equal(order(1, 2, 99), order(1, 2, 99))
    assert not np.array_equal(order(1, 2, 99), order(1, 3, 99))


def test_what_an_image_becomes_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (24, 1, 32, 32), generator=generator).to(torch.uint8)
    options = Augmentation(
        rotation=0.3, scale=0.1, shift=0.1, brightness=0.1, contrast=0.1, erase=0.5
    )
    epoch = augmented(Split(images, torch.eye(24)), GREY, options, seed=3, epoch=1, resolution=32)
    chosen = torch.randperm(24, generator=generator)
    torch.testing.assert_close(
        epoch(chosen),
        torch.cat([epoch(part) for part in chosen.split(5)]),  # type: ignore[no-untyped-call]
    )


def test_without_widths_nothing_changes() -> None:
    torch.testing.assert_close(
        augment(pictures(), rows(), STILL, 17), pictures(), rtol=1e-4, atol=1e-4
    )


def test_flipping_mirrors_left_and_right_of_about_half() -> None:
    images = pictures(200)
    flipped = augment(images, rows(200), Augmentation(flip=True), 17)
    mirrored = (flipped - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-3
    same = (flipped - images).abs().amax(dim=(1, 2, 3)) < 1e-3
    assert bool((mirrored ^ same).all())
    assert 70 < int(mirrored.sum()) < 130


@pytest.mark.parametrize(
    ("shift", "expected"), [((1.0, 0.0), (0, -4)), ((0.0, 1.0), (-4, 0)), ((-1.0, 0.0), (0, 4))]
)
def test_a_shift_moves_by_its_share_of_the_side(
    shift: tuple[float, float], expected: tuple[int, int]
) -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 8] = 1.0
    draw = torch.zeros(1, 7)
    draw[0, 3:5] = torch.tensor(shift)
    moved = augment(image, draw, Augmentation(flip=False, shift=0.25), image.shape[-1])
    y, x = divmod(int(moved.argmax()), 16)
    assert (y - 8, x - 8) == expected


def test_rotation_and_flip_keep_the_size_of_a_face() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[0, 0, 24:40, 28:36] = 1.0
    for flip in (-1.0, 1.0):
        draw = torch.zeros(1, 7)
        draw[0, 0], draw[0, 1] = flip, 1.0
        turned = augment(image, draw, Augmentation(rotation=0.5), image.shape[-1])
        assert float(turned.sum()) == pytest.approx(float(image.sum()), rel=0.03)


def test_brightness_and_contrast_are_half_widths() -> None:
    draw = torch.zeros(1, 7)
    draw[0, 5], draw[0, 6] = 1.0, -1.0
    options = Augmentation(flip=False, brightness=0.2, contrast=0.5)
    torch.testing.assert_close(
        augment(pictures(1), draw, options, 17), pictures(1) * 0.5 + 0.2, rtol=1e-4, atol=1e-4
    )


def test_erasing_greys_a_rectangle_in_about_half() -> None:
    images, draw = torch.full((400, 1, 20, 20), 3.0), rows(400)
    erased = augment(images, draw, Augmentation(flip=False, erase=0.5), 20)[:, 0] == 0
    touched = erased.any(dim=(1, 2))
    assert 150 < int(touched.sum()) < 250
    for gone in erased[touched][:50]:
        rectangle = gone.any(1, keepdim=True) & gone.any(0, keepdim=True)
        assert bool((gone == rectangle).all())
        assert int(gone.any(1).sum()) <= 10 and int(gone.any(0).sum()) <= 10


def test_an_epoch_may_be_smaller_than_the_pictures() -> None:
    smooth = torch.linspace(-1, 1, 32).expand(2, 1, 32, 32)
    small = augment(smooth, rows(2), STILL, 16)
    assert small.shape == (2, 1, 16, 16)
    torch.testing.assert_close(small[0, 0, 0], torch.linspace(-1, 1, 32).view(16, 2).mean(1))


def test_a_split_is_loaded_grey_or_in_colour(faces: Dataset) -> None:
    positions = faces.subset("test")
    targets = faces.targets()[positions]
    colour = load_split(faces, positions, targets, COLOUR)
    grey = load_split(faces, positions, targets, GREY)
    assert colour.images.shape == (20, 3, 32, 32) and grey.images.shape == (20, 1, 32, 32)
    luma = (colour.images.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
    assert float((luma - grey.images[:, 0]).abs().max()) < 1.5
    normal = normalise(colour.images, COLOUR)
    expected = (colour.images[:, 2] / 255 - 0.3) / 0.1
    torch.testing.assert_close(normal[:, 2], expected)


def test_rendered_faces_come_in_three_disjoint_splits(faces: Dataset) -> None:
    assert faces.classes == CLASSES
    assert [len(faces.subset(split)) for split in SPLITS] == [160, 20, 20]
    assert len(set(faces.hashes())) == 200
    for split in SPLITS:
        assert len(faces.subset(split, clean=True)) == len(faces.subset(split))
        counts = np.bincount(faces.labels[faces.subset(split)])
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("source", ["synthetic:", "synthetic:many", "no-such-file.npz"])
def test_what_is_no_data_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_faces(source)


def test_no_faces_are_refused() -> None:
    with pytest.raises(InputError, match="1 or more"):
        open_faces("synthetic:0")
