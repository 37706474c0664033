"""Compiles the plugin for the host and calls it through ``driver.cpp``, as TensorRT would."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcut_trt
from convcut_trt.kernels.tail import Tail

HERE = Path(__file__).parent
PACKAGE = Path(convcut_trt.__file__).parent
SHIM = HERE.parent / "kernels"
WARNINGS = "-Wall,-Wextra,-Werror,-Wno-unknown-pragmas"

# Values of TensorRT's enumerations.
FLOAT32, INT32, CHAR = 1, 5, 6
TYPES = {"float32": 0, "float16": 1, "int8": 2}
LINEAR, HWC8 = 0, 2
BUILD, RUNTIME = 0, 1

Value = str | int | NDArray[Any]


@dataclass(frozen=True)
class Built:
    """Libraries for the host: the plugin on the shim, the driver, a libnvinfer with nothing but a registry."""

    plugin: Path
    driver: Path
    registry: Path
    major: int


def build(nvcc: str, headers: Path, folder: Path) -> Built:
    """Compiles all with every warning an error, TensorRT's deprecations included."""
    asked = [nvcc, "-isystem", str(headers), "-E", "-x", "c++", "-"]
    text = "#include <NvInferVersion.h>\nNV_TENSORRT_MAJOR"
    seen = subprocess.run(asked, input=text, capture_output=True, text=True, check=True).stdout
    major = int(seen.split()[-1])

    includes = (f"-I{PACKAGE / 'plugin'}", f"-I{PACKAGE / 'kernels'}", f"-I{SHIM}")
    options = (f"-Xcompiler=-fPIC,{WARNINGS}", "-isystem", str(headers))

    def compiled(source: Path) -> str:
        to = folder / f"{source.stem}.o"
        flags = ("-std=c++17", "-O1", *includes, *options)
        subprocess.run([nvcc, *flags, "-c", str(source), "-o", str(to)], check=True)
        return str(to)

    def linked(name: str, *objects: str, soname: str = "") -> Path:
        extra = [f"-Xlinker=-soname={soname}"] if soname else []
        command = [
            nvcc,
            "-shared",
            "-cudart=none",
            *extra,
            *objects,
            "-o",
            str(folder / name),
            "-ldl",
        ]
        subprocess.run(command, check=True)
        return folder / name

    sources = [PACKAGE / "plugin" / name for name in ("convcut_plugin.cpp", "tail_fields.cpp")]
    sources += [HERE / name for name in ("host_launch.cpp", "driver.cpp", "registry.cpp")]
    with ThreadPoolExecutor(2) as workers:
        *plugin, driver, registry = workers.map(compiled, sources)
    return Built(
        linked("libconvcut_plugin.so", *plugin),
        linked("driver.so", driver),
        linked("libnvinfer_stub.so", registry, soname=f"libnvinfer.so.{major}"),
        major,
    )


class _Field(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


class _Fields(ctypes.Structure):
    _fields_ = (("count", ctypes.c_int32), ("fields", ctypes.POINTER(_Field)))


def fields_of(tail: Tail) -> dict[str, Value]:
    """The fields of a tail, by name."""
    return {
        "attention": tail.attention,
        "channels": tail.map_shape[0],
        "units": tail.units,
        "classes": tail.classes,
        "parameters": tail.pack(),
    }


def _field(name: str, value: Value) -> tuple[_Field, object]:
    """A plugin field, and what must live as long as it."""
    if isinstance(value, str):
        text = ctypes.create_string_buffer(value.encode())
        return _Field(name.encode(), ctypes.addressof(text), CHAR, len(value)), text
    if isinstance(value, int):
        number = ctypes.c_int32(value)
        return _Field(name.encode(), ctypes.addressof(number), INT32, 1), number
    kind = FLOAT32 if value.dtype == np.float32 else INT32
    return _Field(name.encode(), value.ctypes.data, kind, value.size), value


class Driver:
    """The plugin's creator, as TensorRT sees it."""

    def __init__(self, built: Built, *, logger: bool = True) -> None:
        self.library: Any = ctypes.CDLL(str(built.driver))
        for name in ("open", "message", "name"):
            getattr(self.library, f"driver_{name}").restype = ctypes.c_char_p
        for name in ("create", "clone", "attach"):
            getattr(self.library, f"driver_{name}").restype = ctypes.c_void_p
        for name in ("field_names", "serialize"):
            getattr(self.library, f"driver_{name}").restype = ctypes.POINTER(_Fields)
        self.library.driver_supports.restype = ctypes.c_bool
        self.creator = self.library.driver_open(
            str(built.plugin).encode(), ctypes.c_bool(logger)
        ).decode()
        self._plugin: Any = ctypes.CDLL(str(built.plugin))

    def message(self) -> str:
        """The last error in TensorRT's log."""
        return str(self.library.driver_message().decode())

    def field_names(self) -> list[tuple[str, int]]:
        """Names and types of the fields that the parser is to read."""
        found = self.library.driver_field_names().contents
        return [(field.name.decode(), field.type) for field in found.fields[: found.count]]

    def uploaded(self) -> int:
        """How many copies of parameters there are on the device."""
        return int(self._plugin.convcut_uploaded())

    @contextmanager
    def create(
        self, fields: Mapping[str, Value] | None, phase: int = BUILD
    ) -> Iterator[Plugin | None]:
        """A plugin of these fields, None where they are refused."""
        made = [_field(name, value) for name, value in (fields or {}).items()]
        array = (_Field * len(made))(*(field for field, _ in made))
        collection = ctypes.byref(_Fields(len(made), array)) if fields is not None else None
        with self._owned(self.library.driver_create(collection, phase)) as plugin:
            yield plugin

    @contextmanager
    def copied(self, plugin: Plugin, how: str) -> Iterator[Plugin]:
        """A clone, one attached to a context, or one created from what this one serialises."""
        if how == "serialize":
            fields = self.library.driver_serialize(plugin.address)
            address = self.library.driver_create(fields, RUNTIME)
        else:
            address = getattr(self.library, f"driver_{how}")(plugin.address)
        with self._owned(address) as copy:
            assert copy is not None
            yield copy

    @contextmanager
    def _owned(self, address: int | None) -> Iterator[Plugin | None]:
        plugin = Plugin(self.library, ctypes.c_void_p(address)) if address else None
        try:
            yield plugin
        finally:
            if plugin is not None:
                self.library.driver_destroy(plugin.address)


class Plugin:
    """One plugin. What returns a number returns 0 where TensorRT would go on."""

    def __init__(self, library: Any, address: ctypes.c_void_p) -> None:
        self.library, self.address = library, address

    def fields(self) -> dict[str, Value]:
        """What it writes into a plan."""
        found = self.library.driver_serialize(self.address).contents
        values: dict[str, Value] = {}
        for field in found.fields[: found.count]:
            data = ctypes.string_at(field.data, field.length * (1 if field.type == CHAR else 4))
            if field.type == CHAR:
                values[field.name.decode()] = data.decode()
            elif field.type == INT32:
                values[field.name.decode()] = int(np.frombuffer(data, np.int32)[0])
            else:
                values[field.name.decode()] = np.frombuffer(data, np.float32)
        return values

    def output_types(self, dtype: str) -> tuple[int, list[int]]:
        """Failure, and the types of the outputs for a map of this type."""
        found = (ctypes.c_int * 2)()
        return self.library.driver_output_types(self.address, TYPES[dtype], found), list(found)

    def output_shapes(self, sizes: Sequence[int]) -> tuple[int, list[int]]:
        """Failure, and N, K of both outputs; -1 is a size not known yet."""
        found = (ctypes.c_int64 * 4)()
        failed = self.library.driver_output_shapes(self.address, *_sizes(sizes), found)
        return failed, list(found)

    def supports(self, position: int, types: Sequence[str], formats: Sequence[int]) -> bool:
        """Whether a tensor may have this type and format; those before it are given."""
        numbers = (ctypes.c_int * 3)(*(TYPES[name] for name in types))
        return bool(
            self.library.driver_supports(
                self.address, position, numbers, (ctypes.c_int * 3)(*formats)
            )
        )

    def configure(self, most: Sequence[int], dtype: str = "float32") -> int:
        """The builder says how large the map can be."""
        return int(self.library.driver_configure(self.address, *_sizes(most), TYPES[dtype]))

    def shape_change(self, sizes: Sequence[int], dtype: str = "float32") -> int:
        """A context says how large the map is."""
        return int(self.library.driver_shape_change(self.address, *_sizes(sizes), TYPES[dtype]))

    def enqueue(
        self, map: NDArray[Any], classes: int, stream: int = 0
    ) -> tuple[int, NDArray[np.float32], NDArray[np.float32]]:
        """Failure, logits and probabilities [N, K]."""
        logits = np.full((len(map), classes), np.nan, np.float32)
        probabilities = logits.copy()
        map = np.ascontiguousarray(map)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (map, logits, probabilities))
        failed = self.library.driver_enqueue(
            self.address,
            *_sizes(map.shape),
            TYPES[str(map.dtype)],
            *pointers,
            ctypes.c_void_p(stream),
        )
        return failed, logits, probabilities


def _sizes(sizes: Sequence[int]) -> tuple[Any, int]:
    return (ctypes.c_int64 * len(sizes))(*sizes), len(sizes)
