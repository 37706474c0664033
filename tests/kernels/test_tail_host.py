"""The tail kernel on the host against float64: shapes, types, layouts, attentions, values that hurt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convcut_trt.kernels.tail import (
    ATTENTIONS,
    DTYPES,
    LAYOUTS,
    Attention,
    Layout,
    Tail,
    features,
    twin,
)
from tests.kernels.host import HostTail, random_map, random_tail

MEASURED = 1e-5  # of the largest feature or logit
ADVERSARIAL = 1e-4

# (C, H, W), projection, classes: the zoo, the recipes, the edges of every limit, nothing a multiple of anything.
Shapes = tuple[tuple[tuple[int, int, int], int, int], ...]
SHAPES: Shapes = (
    ((256, 3, 3), 0, 8),
    ((256, 2, 2), 32, 7),
    ((1, 1, 1), 0, 1),
    ((3, 1, 2), 1, 2),
    ((31, 2, 3), 50, 33),
    ((257, 4, 4), 5, 9),
)
MORE: Shapes = (
    ((128, 2, 2), 0, 8),
    ((33, 5, 7), 0, 64),
    ((512, 1, 1), 512, 8),
    ((512, 3, 4), 0, 31),
    ((100, 8, 8), 300, 3),
    ((512, 8, 8), 0, 64),
)


def check(
    host_tail: HostTail, tail: Tail, map: NDArray[Any], layout: Layout, budget: float
) -> None:
    """Compares logits, and features by a head that shows them, with float64 on the same map."""
    seen = features(tail, map)
    logits, probabilities = host_tail(tail, map, layout)
    expected, _ = twin(tail, map)
    scale = (np.abs(seen) @ np.abs(tail.head_weight.T) + np.abs(tail.head_bias)).max()
    assert np.abs(logits - expected).max() <= budget * scale
    sharpened = logits.astype(np.float64) / tail.temperature
    powers = np.exp(sharpened - sharpened.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=0, atol=budget
    )
    shown = min(tail.width, 16)
    window = replace(
        tail,
        head_weight=np.eye(shown, tail.width, tail.width - shown, dtype=np.float32),
        head_bias=np.zeros(shown, np.float32),
    )
    values, _ = host_tail(window, map, layout)
    largest = np.abs(seen).max()
    assert np.abs(values - seen[:, tail.width - shown :]).max() <= budget * largest


@pytest.mark.parametrize("shapes", [SHAPES, pytest.param(MORE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_shape(
    host_tail: HostTail, attention: Attention, dtype: str, layout: Layout, shapes: Shapes
) -> None:
    random = np.random.default_rng(0)
    for map_shape, units, classes in shapes:
        tail = random_tail(random, attention, map_shape, units, classes)
        map = random_map(random, tail, 1 + (attention == "batch"), dtype)
        check(host_tail, tail, map, layout, MEASURED)


@pytest.mark.parametrize("seed", range(4))
def test_sums_over_the_most_channels_stay_exact(host_tail: HostTail, seed: int) -> None:
    random = np.random.default_rng(seed)
    for size in (1, 2):
        tail = random_tail(random, "channel", (512, size, size))
        check(host_tail, tail, random_map(random, tail, 4, "float16"), "nhwc", MEASURED)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_python_and_kernel_agree_on_shared_memory_below_48_kb(
    host_tail: HostTail, attention: Attention
) -> None:
    for map_shape, units, classes in (*SHAPES, *MORE, ((512, 8, 8), 512, 64)):
        tail = random_tail(np.random.default_rng(0), attention, map_shape, units, classes)
        launch = tail.launch(1, "float16", "nhwc")
        assert launch.shared_bytes == host_tail.shared_bytes(tail) <= 48 * 1024


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("attention", ["channel", "spatial", "batch"])
def test_a_score_scale_of_any_sign(host_tail: HostTail, attention: Attention, sign: int) -> None:
    random = np.random.default_rng(sign + 1)
    tail = random_tail(random, attention, (40, 3, 3))
    tail = replace(tail, score_scale=2.5 * sign * tail.score_scale)
    check(host_tail, tail, random_map(random, tail, 3, "float32"), "nchw", MEASURED)


Fill = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def dominant(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """One channel of 1e4 over others of about 1."""
    values = random.normal(size=shape)
    values[:, shape[1] // 2] += 1e4
    return values


HURTFUL: dict[str, Fill] = {
    "zeros": lambda random, shape: np.zeros(shape),
    "constant": lambda random, shape: np.full(shape, 3.0),
    "1e4": lambda random, shape: np.full(shape, 1e4),
    "-1e4": lambda random, shape: np.full(shape, -1e4),
    "random signs of 1e4": lambda random, shape: np.where(random.random(shape) < 0.5, -1e4, 1e4),
    "of the size of 1e4": lambda random, shape: 1e4 * random.normal(size=shape),
    "negative": lambda random, shape: -np.abs(random.normal(size=shape)),
    "near constant": lambda random, shape: 100 + 1e-2 * random.normal(size=shape),
    "one dominant channel": dominant,
    "float16 denormals": lambda random, shape: 5e-5 * random.random(shape),
    "float32 denormals": lambda random, shape: 1e-39 * (1 + random.random(shape)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", HURTFUL)
def test_values_that_hurt(host_tail: HostTail, name: str, attention: Attention, dtype: str) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, attention, (96, 2, 3), classes=7)
    map = HURTFUL[name](random, (1 + (attention == "batch"), *tail.map_shape)).astype(dtype)
    check(host_tail, tail, map, "nchw", ADVERSARIAL)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [0, 12])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_face_that_is_no_number_has_no_answer_and_the_others_keep_theirs(
    host_tail: HostTail, attention: Attention, units: int, dtype: str, value: float
) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, attention, (40, 3, 3), units)
    map = random_map(random, tail, 3, dtype)
    before = host_tail(tail, map)
    map[1, 7, 2, 1] = value
    logits, probabilities = host_tail(tail, map)
    if np.isnan(value) or attention in ("channel", "spatial", "batch") and units == 0:
        assert np.isnan(logits[1]).all() and np.isnan(probabilities[1]).all()
    else:  # a ReLU may take an infinity away again, as in the trained model
        assert not np.isfinite(probabilities[1]).any() or np.isfinite(twin(tail, map)[0][1]).any()
    if attention != "batch":
        for now, then in zip((logits, probabilities), before, strict=True):
            np.testing.assert_array_equal(now[[0, 2]], then[[0, 2]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attention", ["none", "channel", "spatial"])
def test_a_face_has_the_same_bits_in_any_batch(
    host_tail: HostTail, attention: Attention, dtype: str
) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, attention, (72, 3, 3), 24)
    map = random_map(random, tail, 6, dtype)
    together = host_tail(tail, map)
    orders = ([3], [5, 4, 3, 2, 1, 0], [3, 3, 3], [0, 3])
    for order in orders:
        for values, expected in zip(host_tail(tail, map[order]), together, strict=True):
            np.testing.assert_array_equal(values, expected[order])


def test_attention_across_the_batch_is_the_identity_for_one_face_and_mixes_two(
    host_tail: HostTail,
) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, "batch", (72, 3, 3), 24)
    map = random_map(random, tail, 2, "float32")
    alone = host_tail(tail, map[:1])[0]
    np.testing.assert_array_equal(alone, host_tail(replace(tail, attention="none"), map[:1])[0])
    assert np.abs(host_tail(tail, map)[0][0] - alone[0]).max() > 1e-2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_order_of_the_threads_changes_nothing(
    host_tail: HostTail, attention: Attention, layout: Layout
) -> None:
    random = np.random.default_rng(0)
    tail = random_tail(random, attention, (120, 6, 6), 50, 40)
    map = random_map(random, tail, 1 + (attention == "batch"), "float16")
    forward = host_tail(tail, map, layout)
    for values, expected in zip(host_tail(tail, map, layout, backward=True), forward, strict=True):
        np.testing.assert_array_equal(values, expected)
