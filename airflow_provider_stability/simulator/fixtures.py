"""The pytest fixture for tests of DAGs. Only this module of the simulator imports pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_stability.simulator.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stability_simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Yield a running simulator with 10 credits, and point the connection ``stability_default`` at it.

    Import the fixture in a ``conftest.py``. The connection is set in the environment, for this test only.
    """
    with Simulator() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABILITY_DEFAULT", simulator.connection())
        yield simulator
