"""What the tests of watchers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.triggers import crossing

if TYPE_CHECKING:
    from airflow_provider_stability.simulator import Simulator


@pytest.fixture
def watched(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Return an account with 100 credits, whose watchers load and save their state at once."""
    account.set_credits(100)
    monkeypatch.setattr(crossing, "_SAVE_DELAY", 0.0)
    monkeypatch.setattr(crossing, "_LOAD_DELAYS", (0, 0))
    return account
