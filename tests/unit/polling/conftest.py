"""What the tests of the poller have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.polling_gates import OTHERS

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve an account that the gates' connection leads to, with 10 credits in each organization."""
    organizations = {"org-b": 10.0, "org-c": 10.0, **OTHERS}
    with Simulator(credits=10, organizations=organizations, rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection())
        yield simulator


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve another account: its polls tell how much time has passed for those that must not come."""
    with Simulator(api_key="sk-the-key-of-the-clock", rate_limit=100_000) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_CLOCK", simulator.connection())
        yield simulator
