"""Checks on arrays that every session makes: the same answer to a mistake from each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from convcut_trt.backends.base import Arrays
from convcut_trt.errors import InputError


def check_images(
    images: npt.NDArray[np.uint8], picture: tuple[int, int, int], batch: tuple[int, int | None]
) -> None:
    """Refuses anything but uint8 [N, H, W, 3] that the engine takes.

    Args:
        images: The batch.
        picture: (H, W, 3) of the engine.
        batch: Smallest and largest N; None is no limit.

    Raises:
        InputError: What is wrong, and what to pass instead.
    """
    wanted = f"uint8 [N, {', '.join(map(str, picture))}]"
    if not isinstance(images, np.ndarray):
        raise InputError(f"images must be a numpy array, {wanted}, not {type(images).__name__}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != picture:
        shape = list(images.shape)
        raise InputError(f"images are {images.dtype} {shape}; this engine takes {wanted}")
    low, high = batch
    count = len(images)
    if count < low or (high is not None and count > high):
        allowed = f"{low}" if low == high else f"{low} to {high or 'any number'}"
        raise InputError(f"a batch of {count} images; this engine takes {allowed}")


def result_arrays(
    shapes: Mapping[str, tuple[int, ...]], out: Arrays | None
) -> dict[str, npt.NDArray[np.float32]]:
    """The caller's array for each output, or a new one where the caller gave none.

    Raises:
        InputError: An array that cannot be written to as it is, or one for no output.
    """
    out = out or {}
    for name in out:
        if name not in shapes:
            raise InputError(f"no output is named {name!r}: there are {', '.join(shapes)}")
    results = {}
    for name, shape in shapes.items():
        array = out.get(name)
        if array is None:
            array = np.empty(shape, np.float32)
        elif array.dtype != np.float32 or array.shape != shape:
            raise InputError(
                f"out[{name!r}] is {array.dtype} {list(array.shape)}; "
                f"it has to be float32 {list(shape)}"
            )
        elif not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise InputError(f"out[{name!r}] has to be writeable, aligned and C-contiguous")
        results[name] = array
    return results
