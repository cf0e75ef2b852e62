"""The account that the polls ask, and what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.connection import reader
from airflow_provider_stability.connection.loading import load_settings_async
from support.polling_gates import VARIABLE, Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_stability.connection.settings import Settings


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Serve the account that the connection ``stability_default`` leads to."""
    with Account() as simulator:
        monkeypatch.setenv(VARIABLE, simulator.connection())
        yield simulator


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the connections that were read, one after the other."""
    found: list[str] = []

    async def read(connection_id: str) -> Settings:
        found.append(connection_id)
        return await load_settings_async(connection_id)

    monkeypatch.setattr(reader, "load_settings_async", read)
    return found
