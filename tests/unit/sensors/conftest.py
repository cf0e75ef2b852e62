"""What the tests of the sensor have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.log_lines import lines_of

from airflow_provider_stability.sensors.balance import BalanceSensor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the log lines of the gate, filled while it runs."""
    with lines_of(BalanceSensor, monkeypatch, lambda record: record.getMessage()) as found:
        yield found
