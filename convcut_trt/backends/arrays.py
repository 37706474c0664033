"""Checks on arrays that every session makes: the same answer to a mistake from each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convcut_trt.backends.base import Arrays
from convcut_trt.errors import InputError


def check_host_images(images: npt.NDArray[np.uint8], picture: tuple[int, int, int]) -> None:
    """Refuses anything but a numpy array uint8 [N, H, W, 3] that the engine takes.

    Args:
        images: The batch.
        picture: (H, W, 3) of the engine.

    Raises:
        InputError: What is wrong, and what to pass instead.
    """
    if not isinstance(images, np.ndarray):
        raise InputError(
            f"images must be a numpy array, {_wanted(picture)}, not {type(images).__name__}"
        )
    check_images(images.dtype, images.shape, picture)


def check_images(
    dtype: np.dtype[Any], shape: tuple[int, ...], picture: tuple[int, int, int]
) -> None:
    """Refuses any dtype and shape of a batch but uint8 [N, H, W, 3] that the engine takes; see above."""
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != picture:
        raise InputError(
            f"images are {dtype} {list(shape)}; this engine takes {_wanted(picture)}: "
            "predict() crops and resizes"
        )


def parts(count: int, most: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the runs that ``count`` faces take, ``most`` at a time."""
    for start in range(0, count, most):
        yield start, min(start + most, count)


def result_arrays(
    shapes: Mapping[str, tuple[int, ...]], out: Arrays | None
) -> dict[str, npt.NDArray[np.float32]]:
    """The caller's array for each output, or a new one where the caller gave none.

    Raises:
        InputError: An array that cannot be written to as it is, or one for no output.
    """
    out = out or {}
    check_names(out, shapes)
    results = {}
    for name, shape in shapes.items():
        array = out.get(name)
        if array is None:
            array = np.empty(shape, np.float32)
        elif not isinstance(array, np.ndarray):
            raise InputError(
                f"out[{name!r}] is a {type(array).__name__}: faces in host memory take numpy arrays"
            )
        elif array.dtype != np.float32 or array.shape != shape:
            raise InputError(
                f"out[{name!r}] is {array.dtype} {list(array.shape)}; "
                f"it has to be float32 {list(shape)}"
            )
        elif not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
            raise InputError(f"out[{name!r}] has to be writeable, aligned and C-contiguous")
        results[name] = array
    return results


def check_names(out: Iterable[str], shapes: Iterable[str]) -> None:
    """Refuses names of no output.

    Raises:
        InputError: The first such name, and which there are.
    """
    known = tuple(shapes)
    for name in out:
        if name not in known:
            raise InputError(f"no output is named {name!r}: there are {', '.join(known)}")


def _wanted(picture: tuple[int, int, int]) -> str:
    return f"uint8 [N, {', '.join(map(str, picture))}]"
