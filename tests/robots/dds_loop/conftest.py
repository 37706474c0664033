"""A domain of DDS for each test."""

from __future__ import annotations

import pytest

from tests.robots.dds_loop.others import LOOPBACK, unused_domain


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    return unused_domain()
