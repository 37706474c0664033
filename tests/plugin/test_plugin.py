"""The plugin on the host: what TensorRT asks of it, against every version of the headers that is here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

from convcut_trt.kernels.tail import Attention, Tail, twin
from convcut_trt.plugin.onnx_node import with_plugin_tail
from tests.kernels.host import random_map, random_tail
from tests.models import network, pictures
from tests.models import run as run_onnx
from tests.plugin.host import (
    CHAR,
    FLOAT32,
    HWC8,
    INT32,
    LINEAR,
    RUNTIME,
    Built,
    Driver,
    Plugin,
    Value,
    fields_of,
)

pytestmark = pytest.mark.slow  # it compiles for seconds
CLOSE = 1e-5


@pytest.fixture(scope="module")
def driver(built: Built) -> Driver:
    return Driver(built)


def tail_of(
    attention: Attention = "channel", units: int = 0, shape: tuple[int, int, int] = (24, 3, 3)
) -> Tail:
    return random_tail(np.random.default_rng(0), attention, shape, units)


def test_the_creator(driver: Driver) -> None:
    assert driver.creator == "PLUGIN CREATOR_V3ONE|ConvcutTail|1|"
    assert driver.field_names() == [
        ("attention", CHAR),
        ("channels", INT32),
        ("units", INT32),
        ("classes", INT32),
        ("parameters", FLOAT32),
    ]


def test_types_shapes_and_formats(driver: Driver) -> None:
    tail = tail_of()
    with driver.create(fields_of(tail)) as plugin:
        assert plugin is not None
        for dtype in ("float32", "float16"):
            assert plugin.output_types(dtype) == (0, [0, 0])
        assert plugin.output_types("int8")[0] != 0
        assert plugin.output_shapes((-1, 24, 3, 3)) == (0, [-1, 8, -1, 8])
        assert plugin.output_shapes((5, 24, -1, -1)) == (0, [5, 8, 5, 8])
        assert plugin.output_shapes((-1, 25, 3, 3))[0] != 0
        assert plugin.output_shapes((-1, 24, 9))[0] != 0
        of_map = ("float32", "float32", "float32")
        assert plugin.supports(0, of_map, (LINEAR,) * 3)
        assert plugin.supports(0, ("float16", "float32", "float32"), (LINEAR,) * 3)
        assert not plugin.supports(0, ("int8", "float32", "float32"), (LINEAR,) * 3)
        assert not plugin.supports(0, of_map, (HWC8, LINEAR, LINEAR))
        for output in (1, 2):
            assert plugin.supports(output, of_map, (LINEAR,) * 3)
            assert not plugin.supports(output, ("float16",) * 3, (LINEAR,) * 3)
            assert not plugin.supports(output, of_map, (HWC8,) * 3)


@pytest.mark.parametrize(
    ("most", "taken"),
    [
        ((16, 24, 3, 3), True),
        ((1, 24, 8, 8), True),
        ((1, 24, 9, 1), False),
        ((1, 24, 0, 3), False),
        ((1, 23, 3, 3), False),
        ((1, 24, 9), False),
    ],
)
def test_sizes_of_the_map(driver: Driver, most: tuple[int, ...], taken: bool) -> None:
    with driver.create(fields_of(tail_of())) as plugin:
        assert plugin is not None
        assert (plugin.configure(most) == 0) == taken
        assert (plugin.shape_change(most) == 0) == taken
        if not taken:
            assert driver.message().startswith("ConvcutTail ")


@pytest.mark.parametrize("how", ["serialize", "clone", "attach"])
@pytest.mark.parametrize("units", [0, 12])
def test_copies_say_and_compute_the_same(driver: Driver, how: str, units: int) -> None:
    tail = tail_of("spatial", units)
    map = random_map(np.random.default_rng(1), tail, 2, "float32")
    with driver.create(fields_of(tail)) as plugin:
        assert plugin is not None
        with driver.copied(plugin, how) as copy:
            assert copy.address.value != plugin.address.value
            for name, value in fields_of(tail).items():
                np.testing.assert_array_equal(plugin.fields()[name], value)
                np.testing.assert_array_equal(copy.fields()[name], value)
            for of_plugin, of_copy in zip(
                plugin.enqueue(map, 8), copy.enqueue(map, 8), strict=True
            ):
                np.testing.assert_array_equal(of_plugin, of_copy)


def test_parameters_lie_on_the_device_once_for_a_context(driver: Driver) -> None:
    tail = tail_of()
    map = random_map(np.random.default_rng(1), tail, 2, "float32")
    with driver.create(fields_of(tail)) as plugin:
        assert plugin is not None
        with driver.copied(plugin, "attach") as context:
            assert driver.uploaded() == 0
            assert context.shape_change(map.shape) == 0
            assert driver.uploaded() == 1
            assert context.shape_change((1, *map.shape[1:])) == 0
            assert context.enqueue(map, 8)[0] == 0
            assert driver.uploaded() == 1
    assert driver.uploaded() == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("units", [0, 40])
@pytest.mark.parametrize("attention", ["none", "channel", "spatial"])
def test_the_answers_are_those_of_the_twin(
    driver: Driver, attention: Attention, units: int, dtype: str
) -> None:
    tail = tail_of(attention, units)
    map = random_map(np.random.default_rng(2), tail, 3, dtype)
    with driver.create(fields_of(tail), RUNTIME) as plugin:
        assert plugin is not None
        failed, *answers = plugin.enqueue(map, tail.classes)
    assert failed == 0
    for found, expected in zip(answers, twin(tail, map), strict=True):
        assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


def test_an_empty_batch_and_a_failed_launch(driver: Driver) -> None:
    tail = tail_of()
    with driver.create(fields_of(tail)) as plugin:
        assert plugin is not None
        map = random_map(np.random.default_rng(1), tail, 1, "float32")
        assert plugin.enqueue(map[:0], 8)[0] == 0
        assert plugin.enqueue(map, 8, stream=1)[0] != 0
    assert "could not be launched: a stream that cannot be" in driver.message()


@pytest.mark.parametrize("kind", ["zoo", "projection"])
def test_the_node_of_a_model_computes_its_tail(driver: Driver, kind: str) -> None:
    model = network(kind)
    native = run_onnx(model, pictures(model, 2))
    (node,) = (node for node in with_plugin_tail(model).graph.node if node.op_type == "ConvcutTail")
    fields: dict[str, Value] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        as_field = value.decode() if isinstance(value, bytes) else value
        # TensorRT's parser makes float32 of a list of floats.
        fields[attribute.name] = (
            np.array(value, np.float32) if isinstance(value, list) else as_field
        )
    with driver.create(fields) as plugin:
        assert plugin is not None
        failed, *answers = plugin.enqueue(native["map"], native["logits"].shape[1])
    assert failed == 0
    for found, name in zip(answers, ("logits", "probabilities"), strict=True):
        assert np.abs(found - native[name]).max() <= CLOSE * np.abs(native[name]).max()


def without(name: str) -> Callable[[dict[str, Value]], None]:
    def change(fields: dict[str, Value]) -> None:
        del fields[name]

    return change


def instead(name: str, value: Any) -> Callable[[dict[str, Value]], None]:
    def change(fields: dict[str, Value]) -> None:
        fields[name] = value(fields[name]) if callable(value) else value

    return change


def first(index: int, value: float) -> Callable[[dict[str, Value]], None]:
    def change(fields: dict[str, Value]) -> None:
        parameters = fields["parameters"]
        assert isinstance(parameters, np.ndarray)
        parameters[index] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *(
            (without(name), name)
            for name in ("attention", "channels", "units", "classes", "parameters")
        ),
        (instead("attention", "batch"), "'batch'"),
        (instead("attention", "channe"), "'channe'"),
        (instead("attention", "channels"), "'channels'"),
        (instead("attention", 1), "attention"),
        (instead("channels", 0), "channels is 0"),
        (instead("channels", 513), "channels is 513"),
        (instead("channels", 25), "parameters"),
        (instead("channels", "24"), "channels"),
        (instead("channels", np.array([24, 24], np.int32)), "channels"),
        (instead("units", -1), "units is -1"),
        (instead("units", 513), "units is 513"),
        (instead("units", 1), "parameters"),
        (instead("classes", 0), "classes is 0"),
        (instead("classes", 65), "classes is 65"),
        (instead("classes", 7), "parameters"),
        (instead("parameters", lambda values: values[:-1]), "parameters"),
        (instead("parameters", lambda values: np.append(values, values[:1])), "parameters"),
        (instead("parameters", lambda values: values.astype(np.int32)), "parameters"),
        (first(0, np.nan), "scale"),
        (first(1, 0), "temperature"),
        (first(1, np.inf), "temperature"),
    ],
)
def test_bad_fields_are_refused(
    driver: Driver, change: Callable[[dict[str, Value]], None], says: str
) -> None:
    fields = fields_of(tail_of())
    change(fields)
    for phase in (0, RUNTIME):
        with driver.create(fields, phase) as plugin:
            assert plugin is None
        assert driver.message().startswith("ConvcutTail ")
        assert says in driver.message()


def test_no_fields_are_refused(driver: Driver) -> None:
    nothing: tuple[dict[str, Value] | None, ...] = (None, {})
    for fields in nothing:
        with driver.create(fields) as plugin:
            assert plugin is None
        assert driver.message().startswith("ConvcutTail ")


def test_the_largest_tail_is_taken(driver: Driver) -> None:
    tail = random_tail(np.random.default_rng(0), "channel", (512, 1, 1), 512, 64)
    fields = {**fields_of(tail), "unknown": 1}
    with driver.create(fields) as plugin:
        assert isinstance(plugin, Plugin)
        assert plugin.output_shapes((-1, 512, 1, 1)) == (0, [-1, 64, -1, 64])


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )


REGISTER = """
import ctypes, sys
registry = ctypes.CDLL(sys.argv[1]) if sys.argv[1] != "none" else None
ctypes.CDLL(sys.argv[2])
print(registry.count_registered() if registry else 0)
"""


def test_it_registers_itself_when_asked(built: Built) -> None:
    asked = {"CONVCUT_PLUGIN_REGISTER": "1"}
    assert python(REGISTER, built.registry, built.plugin).stdout.split() == ["0"]
    assert python(REGISTER, built.registry, built.plugin, **asked).stdout.split() == ["1"]
    alone = python(REGISTER, "none", built.plugin, **asked)
    assert f"libnvinfer.so.{built.major} must be loaded before" in alone.stderr


def test_errors_go_to_stderr_without_a_logger(built: Built) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from pathlib import Path; from tests.plugin.host import Built, Driver;"
        "driver = Driver(Built(*map(Path, sys.argv[2:5]), 0), logger=False);"
        "context = driver.create({}); assert context.__enter__() is None"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    said = python(code, root, built.plugin, built.driver, built.registry).stderr
    assert said.startswith("ConvcutTail needs a field attention")
