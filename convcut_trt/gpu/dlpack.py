"""DLPack, the exchange of arrays between libraries, in ctypes: device memory in and out of capsules.

The layout is that of ``dlpack.h``, version 0.8, which every library with ``__dlpack__`` can give and take:
https://dmlc.github.io/dlpack/latest/
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcut_trt.errors import InputError

CUDA, CUDA_MANAGED = 2, 13  # DLDeviceType
_KINDS = {0: "i", 1: "u", 2: "f"}  # DLDataTypeCode -> numpy's kind
_NAME, _USED = b"dltensor", b"used_dltensor"

_python = ctypes.pythonapi
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_python.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)
_python.PyCapsule_IsValid.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
_python.PyCapsule_New.restype = ctypes.py_object
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_python.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _python)
)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("dimensions", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER))


@dataclass(frozen=True)
class Content:
    """What a capsule holds.

    Attributes:
        address: Of the first element.
        device: Ordinal of the GPU.
        shape: Of the array.
        strides: In bytes.
        dtype: Of its elements.
        release: To be called once, when the memory is not used any more.
    """

    address: int
    device: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    release: Callable[[], None]


def take(capsule: object) -> Content:
    """Takes over what is in a capsule of ``__dlpack__``.

    Raises:
        InputError: It is not one, was taken before, or holds elements that numpy has no type for.
    """
    try:
        managed = _Managed.from_address(_python.PyCapsule_GetPointer(capsule, _NAME))
    except ValueError:
        raise InputError(
            "not a DLPack capsule, or one that was taken before: export it anew"
        ) from None
    tensor = managed.tensor
    try:
        if tensor.lanes != 1 or tensor.bits % 8:
            raise TypeError
        dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")
    except (KeyError, TypeError):
        raise InputError(
            f"elements of DLPack type {tensor.code} with {tensor.bits} bits: give uint8 or float32"
        ) from None
    _python.PyCapsule_SetName(capsule, _USED)
    shape = tuple(tensor.shape[: tensor.dimensions])
    if tensor.strides:
        strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.dimensions])
    else:
        strides = contiguous_strides(shape, dtype.itemsize)

    def release() -> None:
        if managed.deleter:
            managed.deleter(ctypes.byref(managed))

    return Content(
        (tensor.data or 0) + tensor.offset, tensor.device, shape, strides, dtype, release
    )


def give(
    address: int, device: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: object
) -> object:
    """A capsule of contiguous device memory; ``owner`` lives until its taker has released it."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    codes = {kind: code for code, kind in _KINDS.items()}
    tensor = _Tensor(
        address, CUDA, device, len(shape), codes[dtype.kind], dtype.itemsize * 8, 1, sizes, None, 0
    )
    managed = _Managed(tensor, None, _release)
    where = ctypes.addressof(managed)
    _given[where] = (managed, sizes, owner)
    return _python.PyCapsule_New(where, _NAME, _drop)


def contiguous_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """In bytes, the last axis running fastest."""
    strides, step = [], itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


# What was given away and not yet released, by address.
_given: dict[int, tuple[_Managed, Any, object]] = {}


def _forget(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


def _dropped(capsule: int) -> None:
    """Of a capsule that goes: if nobody took it, nobody else will release what is in it."""
    if _python.PyCapsule_IsValid(capsule, _NAME):
        _given.pop(_pointer_of(capsule, _NAME), None)


_release = _DELETER(_forget)
_drop = _DESTRUCTOR(_dropped)
