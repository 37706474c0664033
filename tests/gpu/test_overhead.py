"""What a call costs the CPU: an order of magnitude, on a machine that others use too."""

from __future__ import annotations

import numpy as np
import pytest

from bench import overhead

MOST_US = 120.0  # the budget is bench.overhead.MOST_US, on a machine that has nothing else to do


@pytest.mark.parametrize("size", overhead.SIZES)
def test_a_call_costs_little_cpu_time(size: int) -> None:
    figures = overhead.overhead(size, calls=1_000)
    assert 1.0 < np.median(figures) < MOST_US


def test_the_fake_and_all_cost_little_wall_time() -> None:
    assert np.median(overhead.wall(48, calls=1_000)) < 2 * MOST_US


def test_the_profile_names_the_calls_of_the_session() -> None:
    stats = overhead.profile(48, calls=10)
    assert any(name == "run" for _, _, name in stats.stats)  # type: ignore[attr-defined]
