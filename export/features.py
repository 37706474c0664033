"""What a frozen trunk sees is computed once: its maps of augmented views lie on disk, memory-mapped.

    features = cached(model.trunk, split, plan.input, plan.augmentation, views=8, resolution=48)
    logits = model.from_features(features.batch(epoch, indices))     # epoch e sees view e % 8

A cache is found by content: pixels, weights and layers of the trunk, normalisation, augmentation, resolution.
Targets, the order of the pictures and the seed of the training are no part of it, so that many heads and seeds
share one. Values are float16, a relative error of at most 2^-11: what `tests/export/test_features.py` holds.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from convcut_trt import home
from convcut_trt.errors import ConvcutError, InputError
from convcut_trt.fields import canonical, read_json, replacing, write_json
from export.data import Split, augmented, draws, normalise
from export.recipe import Augmentation, Input

SCHEMA = 1  # raise it when augment or the trunk's forward pass compute something else
_BATCH = 64  # what the caches of a CPU hold; a third faster there than 256
_ABANDONED = 3600.0  # seconds after which nobody writes to a temporary file any more
_FIX = "free some space, or set CONVCUT_HOME to a folder on a larger disk"

Half = np.memmap[Any, np.dtype[np.float16]]


@dataclass(frozen=True)
class Features:
    """Maps of all pictures of a split, one memory-mapped file a view.

    Attributes:
        stored: float16 [N, H, W, C] each: channels last, as trunk and detail extraction like them.
        device: Where ``batch`` puts them: the trunk's.
        computed: How many of the views this call had to compute.
        seconds: What computing all of them took, whenever that was.
    """

    stored: tuple[Half, ...]
    device: torch.device
    computed: int
    seconds: float

    @property
    def maps(self) -> tuple[NDArray[np.float16], ...]:
        """float16 [N, C, H, W] each, still memory-mapped."""
        return tuple(view.transpose(0, 3, 1, 2) for view in self.stored)

    def batch(self, view: int, indices: Tensor) -> Tensor:
        """The maps of some pictures, float32 [M, C, H, W] in channels_last order.

        Args:
            view: Any epoch; the views take turns.
            indices: int64 [M], positions in the split.
        """
        chosen = self.stored[view % len(self.stored)][indices.cpu().numpy()]
        return torch.from_numpy(chosen).to(self.device).float().permute(0, 3, 1, 2)


def cache_folder() -> Path:
    """Where features go: ``features`` in ``$CONVCUT_HOME``, else in the user's cache folder."""
    return home.engine_folder() / "features"


def cached(
    trunk: nn.Module,
    split: Split,
    input: Input,
    augmentation: Augmentation | None = None,
    *,
    views: int = 1,
    resolution: int | None = None,
    folder: Path | None = None,
) -> Features:
    """The maps of all pictures of a split behind a trunk in evaluation mode, from the disk where they lie there.

    View v shows a picture as epoch v of an ordinary training with seed 0 would. Each view becomes a file of its
    own, renamed into place: an interrupted computation goes on with the first view that is not whole, and
    more views later cost only those. Several processes that start at once each compute all; let one go first.

    Args:
        trunk: Normalised pictures [N, C, S, S] to maps, ``ConvCut.trunk``; computes where it lies.
        split: The pictures.
        input: Their normalisation.
        augmentation: What is done to a view; None for the pictures as they are, which are one view.
        views: How many views of each picture.
        resolution: Side of an augmented view in pixels (default: the pictures' own).
        folder: Where to keep the maps (default: ``cache_folder()``).

    Raises:
        InputError: The disk is too small, or the folder cannot be written to.
        ConvcutError: The trunk gives values that are not finite, or beyond 65,504, the end of float16.
    """
    if augmentation is None and views != 1:
        raise ValueError("views without augmentation are all the same")
    side = resolution or split.images.shape[-1]
    content = _content(trunk, split, input, augmentation, side)
    place = (folder or cache_folder()) / hashlib.sha256(canonical(content)).hexdigest()[:32]
    files = [_View(place, number, content) for number in range(views)]
    _sweep(place)
    missing = [file for file in files if not file.sound()]
    if missing:
        with _one_sentence(place), _evaluating(trunk):
            for path in reversed((place, *place.parents)):
                path.mkdir(mode=0o700, exist_ok=True)  # not parents=True: engines may lie there too
            shape = _shape(trunk, split, side)
            _check_space(place, len(missing) * prod(shape) * 2)
            total = len(missing) * len(split)
            with tqdm(
                total=total, unit="face", file=sys.stderr, desc="features", mininterval=2
            ) as bar:
                for file in missing:
                    file.write(trunk, split, input, augmentation, side, shape, bar)
    device = next(trunk.parameters()).device
    notes = [file.note() for file in files]
    return Features(
        tuple(file.open() for file in files),
        device,
        len(missing),
        sum(float(note["seconds"]) for note in notes),
    )


class _View:
    """One view on disk: raw float16, and a note beside it, written last, which makes the view exist."""

    def __init__(self, place: Path, number: int, content: dict[str, Any]) -> None:
        self.values = place / f"view-{number:03}.float16"
        self.beside = self.values.with_suffix(".json")
        self.number, self.content = number, content

    def note(self) -> dict[str, Any]:
        fields = read_json(self.beside, SCHEMA, InputError, "delete it")
        fields.get("content", dict), fields.get("shape", list), fields.get("seconds", float)
        return fields.values

    def sound(self) -> bool:
        """Whether note and values are there, belong together, and belong to this content."""
        try:
            note = self.note()
            size = self.values.stat().st_size
        except (InputError, OSError):
            return False
        whole = note["content"] == self.content and size == 2 * prod(note["shape"])
        if not whole:
            print(f"{self.values} is not whole: it is computed again", file=sys.stderr)
        return bool(whole)

    def open(self) -> Half:
        shape = tuple(self.note()["shape"])
        return np.memmap(self.values, dtype=np.float16, mode="r", shape=shape)

    def write(
        self,
        trunk: nn.Module,
        split: Split,
        input: Input,
        augmentation: Augmentation | None,
        side: int,
        shape: tuple[int, ...],
        bar: tqdm[Any],
    ) -> None:
        started = time.monotonic()
        self.beside.unlink(missing_ok=True)
        # Not through a mapping: a full disk would end the process there, with a bus error.
        with replacing(self.values) as temporary, temporary.open("xb") as file:
            for maps in _maps(trunk, split, input, augmentation, side, self.number):
                file.write(maps.tobytes())
                bar.update(len(maps))
        seconds = round(time.monotonic() - started, 3)
        note = {"schema": SCHEMA, "content": self.content, "shape": shape, "seconds": seconds}
        write_json(self.beside, note)


@torch.inference_mode()
def _maps(
    trunk: nn.Module,
    split: Split,
    input: Input,
    augmentation: Augmentation | None,
    side: int,
    view: int,
) -> Iterator[NDArray[np.float16]]:
    device = next(trunk.parameters()).device
    pictures = (
        augmented(split, input, augmentation, seed=0, epoch=view, resolution=side, device=device)
        if augmentation is not None
        else lambda chosen: normalise(split.images[chosen].to(device), input)
    )
    batch = _BATCH if device.type == "cpu" else 8 * _BATCH
    for chosen in torch.arange(len(split)).split(batch):  # type: ignore[no-untyped-call]
        half = cast(Tensor, trunk(pictures(chosen))).permute(0, 2, 3, 1).half()
        if not half.isfinite().all():
            raise ConvcutError(
                "the trunk gives maps that are not finite, or beyond the 65,504 that float16 holds: train without "
                "frozen_trunk, or take other weights"
            )
        yield half.cpu().numpy()


def _content(
    trunk: nn.Module,
    split: Split,
    input: Input,
    augmentation: Augmentation | None,
    side: int,
) -> dict[str, Any]:
    """All that the maps depend on; its hash is the name of their folder."""
    weights = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    images = split.images.contiguous().numpy()
    return {
        "schema": SCHEMA,
        "pixels": hashlib.sha256(images.data).hexdigest(),
        "pictures": list(images.shape),
        "weights": weights.hexdigest(),
        # strides, paddings, epsilons, which the weights do not tell
        "layers": hashlib.sha256(repr(trunk).encode()).hexdigest(),
        "input": {"mean": list(input.mean), "std": list(input.std)},
        "augmentation": None if augmentation is None else augmentation.model_dump(mode="json"),
        "draws": hashlib.sha256(draws(0, 0, len(split)).tobytes()).hexdigest(),
        "resolution": side,
        "values": "float16, N H W C, little endian",
    }


@torch.inference_mode()
def _shape(trunk: nn.Module, split: Split, side: int) -> tuple[int, ...]:
    device = next(trunk.parameters()).device
    C, H, W = trunk(torch.zeros(1, split.images.shape[1], side, side, device=device)).shape[1:]
    return len(split), H, W, C


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"the trunk's features need {needed:,} bytes and {place} has {free:,}: {_FIX}, or use fewer views"
        )


def _sweep(place: Path) -> None:
    """Removes what killed processes left."""
    for path in place.glob(".view-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


@contextmanager
def _evaluating(trunk: nn.Module) -> Iterator[None]:
    was = trunk.training
    trunk.eval()
    try:
        yield
    finally:
        trunk.train(was)


@contextmanager
def _one_sentence(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the trunk's features cannot be kept in {place} ({error.strerror}): {_FIX}"
        ) from None
