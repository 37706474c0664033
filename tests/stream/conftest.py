"""What holds for every test of the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stream.loop import source_threads


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert source_threads() == 0
